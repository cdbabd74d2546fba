"""Share a few places (connections to a host, GPUs) among all processes that see the same lock files."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nuptse.errors import UserError


@contextmanager
def lease(
    slots: Sequence[Path],
    *,
    poll_s: float = 1.0,
    announce: Callable[[], object] | None = None,
) -> Iterator[int]:
    """Hold the first free one of several lock files for the time of the ``with`` block.

    Args:
        slots: one lock file per place; made if absent, and left behind, empty, for the next process.
        poll_s: pause between two looks at all the slots, in seconds.
        announce: called once, if every slot is taken at the first look.

    Yields:
        The index of the slot, from 0. It is free again after the block, and also as soon as the process dies, however
        it dies: the operating system holds the lock (flock), not the file's existence.

    Raises:
        ValueError: there are no slots to wait for.
        UserError: their file system has no such locks.
    """
    if not slots:
        raise ValueError("a lease needs at least one slot")
    for slot in slots:
        slot.parent.mkdir(parents=True, exist_ok=True)
    index, lock = _take_first_free(slots)
    if lock is None and announce is not None:
        announce()
    while lock is None:
        time.sleep(poll_s)
        index, lock = _take_first_free(slots)
    try:
        yield index
    finally:
        lock.release()


def _take_first_free(slots: Sequence[Path]) -> tuple[int, FileLock | None]:
    for index, slot in enumerate(slots):
        lock = FileLock(slot, fallback_to_soft=False)  # a soft lock is a file, and outlives a killed process
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            raise UserError(f"{slot}: this file system has no locks (flock); work on one that has them") from error
        return index, lock
    return -1, None
