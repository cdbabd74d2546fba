"""One process in a folder at a time, on all machines that see it, and a name for who is there."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nuptse.errors import NO_LOCKS, UserError, refused_by_the_disk, say

# Descriptors of the locks that this process holds. One that it forks, such as one that loads data, would hold them
# as well, and might outlive it.
_held_here: set[int] = set()


def _let_go() -> None:
    for descriptor in _held_here:
        os.close(descriptor)


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def folder_lock(
    folder: Path, lock: Path | None = None, *, patience_s: float = 60.0, beat_s: float = 10.0, poll_s: float = 1.0
) -> Iterator[None]:
    """Hold ``folder`` for the time of the ``with`` block; ``folder/.lock`` tells who does: host, pid, job, since, beat.

    The lock is the operating system's (flock), so it is free again when its holder dies, however it dies. Over NFS it
    holds for all hosts, except where the mount keeps locks local, and some file systems have none. For those the holder
    changes ``beat`` every few seconds: a holder that still does is alive, although its lock is not to be seen. Of
    several that come at once where no lock tells them apart, the one that wrote last goes in. (Not seen: two hosts at
    the same moment, locks that stay on their host, and no record, since the last holder ended well.)

    Args:
        folder: is made if absent.
        lock: the file, if not ``folder/.lock``: a folder that is moved away would take it along.
        patience_s: how long to wait for a holder that may be about to end, such as a job that is queued again.
        beat_s: seconds between two signs of life; another's is waited for three times as long.
        poll_s: pause between two looks at the lock.

    Raises:
        UserError: somebody else holds it after ``patience_s``; the message says who.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = lock or folder / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held_here.add(descriptor)
    try:
        locked = _take(descriptor, folder, path, patience_s, poll_s)
        before, here = _read(path), socket.gethostname()
        # A lock tells all processes of a host apart, and a holder that ended well left no record.
        alone = locked and before.get("host", here) == here
        if not alone:
            _see_whether_it_lives(folder, path, before, beat_s)
        holder = {"host": here, "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        holder |= {"since": time.strftime("%Y-%m-%d %H:%M:%S %z"), "id": uuid.uuid4().hex[:8]}
        with refused_by_the_disk(path):
            _write(descriptor, holder | {"beat": 0})
        if not alone:
            _see_whether_another_came(folder, path, holder, beat_s)
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(descriptor, holder, beat_s, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            os.ftruncate(descriptor, 0)
    finally:
        _held_here.discard(descriptor)
        os.close(descriptor)


def _take(descriptor: int, folder: Path, path: Path, patience_s: float, poll_s: float) -> bool:
    """Tell whether there is a lock to be had at all; if so, return with it."""
    deadline, told = time.monotonic() + patience_s, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            holder = _read(path)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return False
            raise
        if time.monotonic() >= deadline:
            raise UserError(_held(folder, holder))
        if not told:
            say(f"{folder}: waiting for {_name(holder)} to end")
            told = True
        time.sleep(poll_s)


def _see_whether_it_lives(folder: Path, path: Path, before: dict[str, Any], beat_s: float) -> None:
    """Wait for a sign of life of whom the file names; a lock that was free may only be one that does not reach it."""
    if not before:
        return
    say(f"{folder}: was held by {_name(before)}; looking whether it is still alive")
    time.sleep(3 * beat_s)
    now = _read(path)
    if now and now != before:
        raise UserError(_held(folder, now))


def _see_whether_another_came(folder: Path, path: Path, holder: dict[str, Any], beat_s: float) -> None:
    """Give way if somebody else has looked at the file in the same moment, and written after this process."""
    time.sleep(1.5 * beat_s)  # a holder whose record could not be read has written it again
    now = _read(path)
    if now.get("id") != holder["id"]:
        raise UserError(_held(folder, now))


def _held(folder: Path, holder: dict[str, Any]) -> str:
    job = holder.get("job")
    stop = f"scancel {job}" if job else f"kill {holder.get('pid', '')} on {holder.get('host', 'its host')}"
    return (
        f"{folder} is in the hands of {_name(holder)}: two jobs in one folder would spoil each other; wait"
        f" until it ends, or stop it ({stop}), then run again"
    )


def _name(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    job = f", SLURM job {holder['job']}" if holder.get("job") else ""
    return f"process {holder['pid']} on {holder['host']}{job}, since {holder['since']}"


def _beat(descriptor: int, holder: dict[str, Any], beat_s: float, ended: threading.Event) -> None:
    beats = 0
    while not ended.wait(beat_s):
        beats += 1
        try:
            _write(descriptor, holder | {"beat": beats})
        except OSError as error:  # a full disk must not end a training
            say(f"no sign of life: {error}")


def _write(descriptor: int, content: dict[str, Any]) -> None:
    line = json.dumps(content) + "\n"
    os.pwrite(descriptor, line.encode(), 0)
    os.ftruncate(descriptor, len(line))
    os.fsync(descriptor)


def _read(path: Path) -> dict[str, Any]:
    # Opened anew each time: that is when NFS asks its server.
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
