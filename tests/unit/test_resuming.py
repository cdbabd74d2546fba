"""What the processes of a training owe each other, so that it can go on where it stopped."""

import signal
import subprocess
import sys
import threading
from itertools import count, islice

import pytest
from torch.utils.data import DataLoader, IterableDataset

from nuptse.resuming import RunFolder, obey_parent_only


def test_the_others_wait_for_what_the_first_decides(tmp_path):
    def first(launch, data):
        return RunFolder(tmp_path / "training", {"data": data}, 9, launch)

    first("yesterday", "old")
    seen = []
    other = threading.Thread(
        target=lambda: seen.append(RunFolder(tmp_path / "training", {"data": "new"}, 9, "today", owner=False))
    )
    other.start()
    other.join(0.5)
    assert not seen, "what is there is of another start"
    owner = first("today", "new")
    other.join(10)
    assert seen[0].ledger == owner.ledger and seen[0].ledger["identity"] == {"data": "new"}
    first("tomorrow", "new")
    again = RunFolder(tmp_path / "training", {"data": "new"}, 9, "tomorrow", owner=False)
    assert again.ledger["launch"] == "tomorrow", "that of a run that goes on is new as well"


class Endless(IterableDataset):
    def __iter__(self):
        return count()


def test_a_process_that_loads_data_ends_with_the_training_and_not_by_what_slurm_sends():
    def read(**settings):
        batches = iter(DataLoader(Endless(), batch_size=None, num_workers=1, **settings))
        seen = [next(batches)]
        kill = f"import os; os.kill({batches._workers[0].pid}, {signal.SIGTERM:d})"
        subprocess.run([sys.executable, "-c", kill], check=True)
        return seen + list(islice(batches, 99))

    assert read(worker_init_fn=obey_parent_only) == list(range(100))
    with pytest.raises(RuntimeError, match="killed by signal|exited unexpectedly"):
        read()
    loader = DataLoader(Endless(), batch_size=None, num_workers=1, worker_init_fn=obey_parent_only)
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
