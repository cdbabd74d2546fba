import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nuptse.errors import UserError
from nuptse.leases import lease, leases

SCRIPTS = Path(__file__).parents[2] / "scripts"
HOLDER = "import sys, time; from pathlib import Path; from nuptse.leases import lease\n"
HOLDER += "with lease([Path(sys.argv[1])]): print('held', flush=True); time.sleep(60)"


def slots(directory: Path, count: int) -> list[Path]:
    return [directory / "locks" / f"gpu.{i}.lock" for i in range(count)]


def test_each_holder_gets_the_first_free_slot(tmp_path):
    with lease(slots(tmp_path, 3)) as first, lease(slots(tmp_path, 3)) as second:
        assert (first, second) == (0, 1)
    with lease(slots(tmp_path, 3)) as again:
        assert again == 0


def test_an_error_inside_frees_the_slot(tmp_path):
    with pytest.raises(RuntimeError), lease(slots(tmp_path, 1)):
        raise RuntimeError
    with lease(slots(tmp_path, 1)) as index:
        assert index == 0


def test_waiting_is_announced_once_and_ends_when_a_slot_is_free(tmp_path):
    announced, got = [], []

    def wait():
        with lease(slots(tmp_path, 1), poll_s=0.01, announce=lambda: announced.append(1)) as index:
            got.append(index)

    waiter = threading.Thread(target=wait)
    with lease(slots(tmp_path, 1)):
        waiter.start()
        waiter.join(0.2)
        assert announced == [1]
        assert not got
    waiter.join(5)
    assert announced == [1]
    assert got == [0]


def test_a_killed_holder_frees_its_slot(tmp_path):
    slot = tmp_path / "gpu.0.lock"
    command = [sys.executable, "-c", HOLDER, str(slot)]
    with subprocess.Popen(command, cwd=SCRIPTS, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        announced = []
        threading.Timer(0.1, holder.send_signal, [signal.SIGKILL]).start()
        with lease([slot], poll_s=0.02, announce=lambda: announced.append(1)) as index:
            assert (index, announced) == (0, [1])


def test_no_slots_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one slot"), lease([]):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"gpu\.0\.lock: this file system has no locks"), lease(slots(tmp_path, 1)):
        pass


def test_several_are_taken_together_or_not_at_all(tmp_path):
    """Two that want two of three: the second holds none while it waits, so that a third can have the one left over."""
    got = []

    def take_two():
        with leases(slots(tmp_path, 3), 2, poll_s=0.01) as taken:
            got.append(taken)

    with leases(slots(tmp_path, 3), 2) as first:
        assert first == [0, 1]
        waiter = threading.Thread(target=take_two)
        waiter.start()
        with lease(slots(tmp_path, 3), poll_s=0.001) as third:
            assert third == 2
            waiter.join(0.2)
            assert not got
    waiter.join(5)
    assert got == [[0, 1]]


def test_more_than_there_are_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 2, wanted are 3"), leases(slots(tmp_path, 2), 3):
        pass
