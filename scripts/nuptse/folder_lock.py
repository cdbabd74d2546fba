"""One process in a folder at a time, on all machines that see it, and a name for who is there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nuptse.errors import UserError, refused_by_the_disk, say

# The file systems that cannot lock (some NFS and Lustre mounts) say one of these; there the sign of life decides alone.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
# Descriptors of the locks that this process holds. One that it forks, such as one that loads data, would hold them
# as well, and might outlive it.
_held_here: set[int] = set()


def _let_go() -> None:
    for descriptor in _held_here:
        os.close(descriptor)


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def folder_lock(folder: Path, *, patience_s: float = 60.0, beat_s: float = 10.0, poll_s: float = 1.0) -> Iterator[None]:
    """Hold ``folder`` for the time of the ``with`` block; ``folder/.lock`` tells who does: host, pid, job, since, beat.

    The lock is the operating system's (flock), so it is free again when its holder dies, however it dies. Over NFS it
    holds for all hosts, except where the mount keeps locks local. For those the holder changes ``beat`` every few
    seconds: a holder on another host that still does is alive, although its lock is not to be seen.

    Args:
        folder: is made if absent.
        patience_s: how long to wait for a holder that may be about to end, such as a job that is queued again.
        beat_s: seconds between two signs of life; another host's is waited for three times as long.
        poll_s: pause between two looks at the lock.

    Raises:
        UserError: somebody else holds it after ``patience_s``; the message says who.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held_here.add(descriptor)
    try:
        _take(descriptor, path, patience_s, poll_s)
        _see_whether_another_host_lives(path, beat_s)
        ended = threading.Event()
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        holder["since"] = time.strftime("%Y-%m-%d %H:%M:%S %z")
        with refused_by_the_disk(path):
            _write(descriptor, holder | {"beat": 0})
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


def _take(descriptor: int, path: Path, patience_s: float, poll_s: float) -> None:
    deadline, told = time.monotonic() + patience_s, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _read(path)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return
            raise
        if time.monotonic() >= deadline:
            raise UserError(_held(path, holder))
        if not told:
            say(f"{path.parent}: waiting for {_name(holder)} to end")
            told = True
        time.sleep(poll_s)


def _see_whether_another_host_lives(path: Path, beat_s: float) -> None:
    """A lock that was free may only be one that does not reach other hosts."""
    before = _read(path)
    if not before or before.get("host") == socket.gethostname():
        return
    say(f"{path.parent}: was held by {_name(before)}; looking whether it is still alive")
    time.sleep(3 * beat_s)
    now = _read(path)
    if now and now.get("beat") != before.get("beat"):
        raise UserError(_held(path, now))


def _held(path: Path, holder: dict[str, Any]) -> str:
    job = holder.get("job")
    stop = f"scancel {job}" if job else f"kill {holder.get('pid', '')} on {holder.get('host', 'its host')}"
    return (
        f"{path.parent} is in the hands of {_name(holder)}: two jobs in one folder would spoil each other; wait"
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
