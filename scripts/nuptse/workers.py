"""Processes beside this one that never outlive it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from nuptse.errors import UserError


@contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of ``count`` processes.

    Raises:
        UserError: one of them was killed.
    """
    # "spawn", because forking a process that has threads (as a test runner may) can deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise UserError("a worker was killed, perhaps for its memory; use fewer workers") from error


def _end_with_parent() -> None:
    """End this worker when its parent is killed, or it would go on writing beside the next attempt."""
    threading.Thread(target=_end_after, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
