"""What the processes of a training owe each other, so that it can go on where it stopped."""

import signal
import subprocess
import sys
from itertools import count, islice

import pytest
from torch.utils.data import DataLoader, IterableDataset

from nuptse.resuming import obey_parent_only


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
