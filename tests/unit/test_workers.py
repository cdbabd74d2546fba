"""Work that processes share ends when one of them is killed, whenever that is."""

import multiprocessing
import os
import signal
import time
from itertools import count, islice

import pytest

from nuptse.errors import UserError
from nuptse.workers import in_parallel

KILLED = "a worker was killed, perhaps for its memory"


def test_all_tasks_are_done_by_all_processes_and_few_are_taken_ahead():
    taken = []
    tasks = (taken.append(number) or number for number in range(40))
    results = []
    for result in in_parallel(and_process, tasks, 2):
        results.append(result)
        assert len(taken) <= len(results) + 2 * 2 + 1
    assert sorted(number for number, _ in results) == list(range(40))
    assert len({process for _, process in results}) == 2
    assert not multiprocessing.active_children()


def and_process(number):
    time.sleep(0.01)
    return number, os.getpid()


def test_fewer_tasks_than_processes():
    assert sorted(in_parallel(abs, [-1, 2], 4)) == [1, 2]
    assert list(in_parallel(abs, [], 2)) == []


def test_an_error_of_a_task_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(divide, iter(count(2).__next__, None), 2))
    assert not multiprocessing.active_children()


def divide(number):
    return 1 / (5 - number)


@pytest.mark.parametrize("nth", [0, 1, 5])
def test_a_worker_that_is_killed(nth):
    with pytest.raises(UserError, match=KILLED):
        list(islice(in_parallel(die, [number == nth for number in range(6)], 2), 6))
    assert not multiprocessing.active_children()


def die(now):
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_while_another_starts(monkeypatch):
    """A pool of several processes does not know the other yet when it ends all, and waits for it afterwards."""
    spawned = multiprocessing.get_context("spawn").Process
    start = spawned.start

    def start_late(process):
        start(process)
        for other in multiprocessing.active_children():
            if other is not process:
                other.kill()
                time.sleep(0.3)

    monkeypatch.setattr(spawned, "start", start_late)
    with pytest.raises(UserError, match=KILLED):
        list(in_parallel(abs, range(100), 2))
    assert not multiprocessing.active_children()
