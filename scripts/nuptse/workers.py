"""Processes beside this one that never outlive it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from typing import TypeVar

from nuptse.errors import UserError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def in_parallel(function: Callable[[_Task], _Result], tasks: Iterable[_Task], workers: int) -> Iterator[_Result]:
    """Yield what ``function`` makes of each task, in any order.

    Args:
        function: is called in another process.
        tasks: two for each process are taken at a time.
        workers: processes.

    Raises:
        UserError: one of the processes was killed.
    """
    # "spawn", because forking a process that has threads (as a test runner may) can deadlock.
    spawn = multiprocessing.get_context("spawn")
    tasks = iter(tasks)
    with ExitStack() as opened:
        # Each process is a pool of its own: one of several that starts a process while another is killed never ends.
        pools = [
            opened.enter_context(ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent))
            for _ in range(workers)
        ]
        try:
            running = {pool.submit(function, task): pool for pool, task in zip(2 * pools, tasks, strict=False)}
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                free = [running.pop(future) for future in done]
                running |= {pool.submit(function, task): pool for pool, task in zip(free, tasks, strict=False)}
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise UserError("a worker was killed, perhaps for its memory; use fewer workers") from error


def _end_with_parent() -> None:
    """End this worker when its parent is killed, or it would go on writing beside the next attempt."""
    threading.Thread(target=_end_after, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
