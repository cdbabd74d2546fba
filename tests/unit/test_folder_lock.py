"""A folder has one holder at a time, whose name is known, and who leaves no lock behind when it dies."""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import nuptse.folder_lock as folder_lock_module
from nuptse.errors import UserError
from nuptse.folder_lock import folder_lock

SCRIPTS = Path(__file__).parents[2] / "scripts"
HOLDER = "import sys, time; from pathlib import Path; from nuptse.folder_lock import folder_lock\n"
HOLDER += "with folder_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    environment = os.environ | {"SLURM_JOB_ID": "88"}
    with subprocess.Popen(command, cwd=SCRIPTS, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_refused_and_told_who_is_there(tmp_path, other):
    wanted = rf"{tmp_path} is in the hands of process {other.pid} on \S+, SLURM job 88, since .* \(scancel 88\)"
    with pytest.raises(UserError, match=wanted), folder_lock(tmp_path, patience_s=0.1, poll_s=0.02):
        pass


def test_a_dead_holder_holds_nothing(tmp_path, other, capsys):
    threading.Timer(0.2, other.send_signal, [signal.SIGKILL]).start()
    with folder_lock(tmp_path, patience_s=10, poll_s=0.02):
        holder = json.loads((tmp_path / ".lock").read_text())
    assert (holder["host"], holder["pid"], holder["beat"]) == (socket.gethostname(), os.getpid(), 0)
    assert f"waiting for process {other.pid} on" in capsys.readouterr().out


def test_a_forked_process_does_not_hold_on(tmp_path):
    """As one that loads data, and has not noticed yet that the training is dead."""
    script = "import os, sys, time; from pathlib import Path; from nuptse.folder_lock import folder_lock\n"
    script += "with folder_lock(Path(sys.argv[1])):\n"
    script += "    if os.fork() == 0: print('forked', flush=True); time.sleep(30)\n"
    script += "    else: time.sleep(30)"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=SCRIPTS, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stdout.readline() == "forked\n"
        process.kill()
        process.wait()
        with folder_lock(tmp_path, patience_s=0.5, poll_s=0.02):
            pass
        os.killpg(process.pid, signal.SIGKILL)


def test_after_an_end_in_peace_nobody_is_named(tmp_path):
    with pytest.raises(KeyError), folder_lock(tmp_path):
        raise KeyError
    assert (tmp_path / ".lock").read_text() == ""
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("error", [None, errno.ENOLCK])
def test_another_host_that_gives_signs_of_life_is_believed(tmp_path, monkeypatch, error):
    """A mount that keeps locks local, or has none: only the content tells."""

    def flock(descriptor, operation):
        if error:
            raise OSError(error, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    beats = iter(range(1000))
    holder = {"host": "node7", "pid": 12, "job": None, "since": "yesterday"}
    ended = threading.Event()

    def beat():
        while not ended.wait(0.01):
            (tmp_path / ".new").write_text(json.dumps(holder | {"beat": next(beats)}))
            (tmp_path / ".new").replace(tmp_path / ".lock")

    (tmp_path / ".lock").write_text(json.dumps(holder | {"beat": -1}))
    thread = threading.Thread(target=beat)
    thread.start()
    held = pytest.raises(UserError, match="process 12 on node7, since yesterday.*kill 12 on node7")
    with held, folder_lock(tmp_path, beat_s=0.05):
        pass
    ended.set()
    thread.join()
    started = time.monotonic()
    with folder_lock(tmp_path, beat_s=0.05):
        assert time.monotonic() - started >= 0.15, "it was given the time of three beats"
        assert json.loads((tmp_path / ".lock").read_text())["host"] == socket.gethostname()


def test_the_holder_gives_signs_of_life(tmp_path):
    with folder_lock(tmp_path, beat_s=0.02):
        deadline = time.monotonic() + 10
        while json.loads((tmp_path / ".lock").read_text() or '{"beat": 0}')["beat"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_any_other_error_of_the_disk_is_no_lock(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="broken"), folder_lock(tmp_path):
        pass


def no_locks(descriptor, operation):
    raise OSError(errno.ENOSYS, "Function not implemented")


def enter_at_once(folder, count, stay_s):
    """Have as many threads, of this host, ask for the folder; return the most that were in it together, and messages."""
    inside, most, messages = [], [], []

    def enter(number):
        try:
            with folder_lock(folder, beat_s=0.1):
                inside.append(number)
                most.append(len(inside))
                time.sleep(stay_s)
                inside.remove(number)
        except UserError as error:
            messages.append(str(error))

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(most), messages


DEAD = json.dumps({"host": "node7", "pid": 1, "since": "then", "beat": 4})


@pytest.mark.parametrize(
    ("flock", "left_behind"),
    [(no_locks, ""), (no_locks, DEAD), (lambda descriptor, operation: None, DEAD)],
    ids=["no locks", "no locks, a dead holder", "each host has a lock of its own, a dead holder on a third"],
)
def test_of_two_at_once_one_goes_in(tmp_path, monkeypatch, flock, left_behind):
    """Both have read the record before one of them writes."""
    together, write = threading.Barrier(2), folder_lock_module._write

    def write_together(descriptor, content):
        if content["beat"] == 0:
            together.wait(timeout=10)
        write(descriptor, content)

    monkeypatch.setattr(folder_lock_module, "_write", write_together)
    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / ".lock").write_text(left_behind)
    most, messages = enter_at_once(tmp_path, 2, stay_s=1.0)
    assert most == 1
    assert len(messages) == 1
    assert f"in the hands of process {os.getpid()}" in messages[0]


def test_without_locks_a_holder_on_the_same_host_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with folder_lock(tmp_path, beat_s=0.05):
        held = pytest.raises(UserError, match=f"in the hands of process {os.getpid()} on {socket.gethostname()}")
        with held, folder_lock(tmp_path, beat_s=0.05):
            pass


@pytest.fixture
def two_mounts(tmp_path):
    """One folder by two file systems of which neither sees the other's locks, as two hosts see one over the network."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("bindfs") is None:
        pytest.skip("takes root and bindfs to mount")
    folder, *mounts = [tmp_path / name for name in ("folder", "one", "two")]
    for path in (folder, *mounts):
        path.mkdir()
    with ExitStack() as mounted:
        for mount in mounts:
            subprocess.run(["bindfs", folder, mount], check=True)
            mounted.callback(subprocess.run, ["umount", "-l", mount], check=True)
        yield mounts


def test_over_a_file_system_without_common_locks_the_holder_is_seen_as_long_as_it_lives(two_mounts, monkeypatch):
    here, there = (mount / "run" for mount in two_mounts)
    command = [sys.executable, "-c", HOLDER.replace("(sys.argv[1])", "(sys.argv[1]), beat_s=0.5"), str(there)]
    monkeypatch.setattr(socket, "gethostname", lambda: "node2")
    with subprocess.Popen(command, cwd=SCRIPTS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with (here / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # so much for the lock of the operating system
        refused = pytest.raises(UserError, match=f"in the hands of process {process.pid} on ")
        with refused, folder_lock(here, patience_s=0.1, beat_s=0.5):
            pass
        process.kill()
    with folder_lock(here, patience_s=0.1, beat_s=0.5):
        assert json.loads((there / ".lock").read_text())["host"] == "node2"


def test_a_lock_beside_the_folder_outlives_its_move(tmp_path):
    """As of transcripts: whoever waits meanwhile must not hold a lock that nobody sees any more."""
    aside, lock, done = tmp_path / "x.partial", tmp_path / ".x.lock", tmp_path / "x"
    inside, most, finished = [], [], []

    def work(number):
        with folder_lock(aside, lock, poll_s=0.01):
            aside.mkdir(parents=True, exist_ok=True)
            inside.append(number)
            most.append(len(inside))
            (aside / "result").write_text(str(number))
            time.sleep(0.2)
            inside.remove(number)
            if done.exists():
                (done / "result").unlink()
                done.rmdir()
            aside.replace(done)
            finished.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert sorted(finished) == [0, 1, 2]
    assert (done / "result").read_text() == str(finished[-1])
