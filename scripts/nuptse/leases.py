"""Share a few places (connections to a host, GPUs) among all processes that see the same lock files."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nuptse.errors import NO_LOCKS, UserError


@contextmanager
def lease(
    slots: Sequence[Path],
    *,
    poll_s: float = 1.0,
    announce: Callable[[], object] | None = None,
) -> Iterator[int]:
    """Hold the first free one of several lock files for the time of the ``with`` block, see :func:`leases`."""
    with leases(slots, 1, poll_s=poll_s, announce=announce) as (index,):
        yield index


@contextmanager
def leases(
    slots: Sequence[Path],
    count: int,
    *,
    poll_s: float = 1.0,
    announce: Callable[[], object] | None = None,
) -> Iterator[list[int]]:
    """Hold ``count`` free ones of several lock files for the time of the ``with`` block, all of them or none.

    Args:
        slots: one lock file per place; made if absent, and left behind, empty, for the next process.
        count: how many; a process that waits for more holds none meanwhile, so that two never wait for each other.
        poll_s: pause between two looks at all the slots, in seconds.
        announce: called once, if too few slots are free at the first look.

    Yields:
        The indices of the slots, from 0, ascending. They are free again after the block, and also as soon as the
        process dies, however it dies: the operating system holds the lock (flock), not the file's existence.

    Raises:
        ValueError: there are not as many slots.
        UserError: their file system has no such locks.
    """
    if not 1 <= count <= len(slots):
        raise ValueError(f"a lease needs at least one slot and has {len(slots)}, wanted are {count}")
    for slot in slots:
        slot.parent.mkdir(parents=True, exist_ok=True)
    held = _take(slots, count)
    if not held and announce is not None:
        announce()
    while not held:
        time.sleep(poll_s * random.uniform(0.5, 1.5))  # two that wait for several must not look in step
        held = _take(slots, count)
    try:
        yield sorted(held)
    finally:
        for lock in held.values():
            lock.release()


def _take(slots: Sequence[Path], count: int) -> dict[int, FileLock]:
    held: dict[int, FileLock] = {}
    for index, slot in enumerate(slots):
        if lock := _take_one(slot):
            held[index] = lock
        if len(held) == count:
            return held
    for lock in held.values():
        lock.release()
    return {}


def _take_one(slot: Path) -> FileLock | None:
    lock = FileLock(slot, fallback_to_soft=False)  # a soft lock is a file, and outlives a killed process
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise UserError(f"{slot}: this file system has no locks (flock); work on one that has them") from error
    return lock
