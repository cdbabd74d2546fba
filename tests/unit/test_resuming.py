"""What the processes of a training owe each other, so that it can go on where it stopped."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from nuptse.errors import UserError, sha256_of
from nuptse.resuming import Checkpoints, Position, RunFolder, obey_parent_only


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


def saved(run, step, kind="last", content=b"weights"):
    """Put a checkpoint into the folder of a run, as `save` does; return its path."""
    path = run.folder / f"{kind}-{step:08}.ckpt"
    path.write_bytes(content)
    position = {"in_all": step, "in_epoch": step, "epoch": 0}
    entry = {"name": path.name, "step": step, "bytes": len(content), "sha256": sha256_of(path), "position": position}
    run.ledger[kind].append(entry)
    run._write()
    return path


def begin(tmp_path, steps=9, identity=None, **options):
    return RunFolder(tmp_path / "training", identity or {"data": "x"}, steps, **options)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_ledger_that_cannot_be_read_now_costs_no_checkpoint(tmp_path, monkeypatch, number):
    checkpoint = saved(begin(tmp_path), 3)

    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        patch.setattr(Path, "read_text", refuse)
        refused = pytest.raises(UserError, match=f"cannot read .*ledger.json: {os.strerror(number)}; the checkpoints")
        with refused:
            begin(tmp_path)
    assert begin(tmp_path).resume()[0] == checkpoint


@pytest.mark.parametrize("content", ["", '{"identity": {', "[1]", "7", "{}"])
def test_a_damaged_ledger_says_what_to_delete_and_deletes_nothing(tmp_path, content):
    run = begin(tmp_path)
    checkpoint = saved(run, 3)
    (run.folder / "ledger.json").write_text(content)
    with pytest.raises(UserError, match=f"ledger.json.* is damaged .*: to train from the start, delete {run.folder} "):
        begin(tmp_path)
    assert checkpoint.exists()
    shutil.rmtree(run.folder)
    assert begin(tmp_path).resume() is None


def test_another_schedule_is_another_run_unless_it_is_longer(tmp_path, capsys):
    def go_on(steps, schedule):
        found = begin(tmp_path, steps, {"data": "x", "schedule": schedule}).resume()
        return found and found[1].in_all

    saved(begin(tmp_path, 9, {"data": "x", "schedule": "warm-up of 1"}), 3)
    assert go_on(9, "warm-up of 1") == 3
    assert go_on(20, "warm-up of 2") == 3
    assert go_on(20, "warm-up of 2") == 3, "from now on it is of this schedule"
    assert go_on(20, "warm-up of 1") is None
    assert "the run there is of other schedule; starting anew" in capsys.readouterr().out
    assert go_on(10, "warm-up of 1") is None
    assert "the run there is of 20 steps, more than the 10 that are wanted now" in capsys.readouterr().out


def test_the_newest_whole_checkpoint_of_either_kind_is_taken(tmp_path, capsys):
    run = begin(tmp_path)
    best, *last = saved(run, 3, "best"), saved(run, 4), saved(run, 5)
    assert begin(tmp_path).resume()[0] == last[1]
    for path in last:
        path.write_bytes(b"damaged")
    path, position = begin(tmp_path).resume()
    assert (path, position.in_all) == (best, 3)
    assert begin(tmp_path).ledger["last"] == [], "what is damaged is not one of the two that are kept"
    assert capsys.readouterr().out.count("damaged or gone; taking an older checkpoint") == 2
    best.unlink()
    assert begin(tmp_path).resume() is None
    assert f"{run.folder}: no checkpoint is whole; starting at the first step" in capsys.readouterr().out


def test_what_a_killed_run_left_is_removed(tmp_path):
    run = begin(tmp_path)
    named = [saved(run, 3), saved(run, 4), saved(run, 3, "best")]
    (run.folder / "tensorboard").mkdir()
    left = ["last-00000002.ckpt", ".last-00000005.ckpt", "best-00000001.ckpt", ".best-00000004.ckpt"]
    for name in left:
        (run.folder / name).write_bytes(b"left")
    begin(tmp_path)
    assert {path.name for path in run.folder.iterdir()} == {"ledger.json", "tensorboard", *(p.name for p in named)}


class Trainer(SimpleNamespace):
    """As much of Lightning's trainer as saves: one process, or one of several that agree."""

    def __init__(self):
        strategy = SimpleNamespace(barrier=lambda: None, reduce_boolean_decision=lambda decision, all: decision)
        super().__init__(global_step=0, max_steps=9, world_size=1, global_rank=0, strategy=strategy)
        self.received_sigterm, self.saves = False, 0

    def save_checkpoint(self, path):
        self.saves += 1
        torch.save({"save": self.saves}, path)


def test_the_best_of_a_step_that_is_saved_is_a_second_name_of_it(tmp_path, monkeypatch):
    run, trainer, position = begin(tmp_path), Trainer(), Position()

    def save(kind, step, **changes):
        trainer.global_step = step
        run.save(trainer, kind, replace(position, in_all=step, **changes))
        return run.folder / f"{kind}-{step:08}.ckpt"

    last, best = save("last", 1), save("best", 1)
    assert best.samefile(last) and trainer.saves == 1
    best, last = save("best", 2), save("last", 2)
    assert best.samefile(last) and trainer.saves == 2
    between = save("best", 3), save("last", 3, accumulating=True)
    assert not between[0].samefile(between[1]), "the state of another batch"
    assert {path.name for path in run.folder.glob("*.ckpt")} == {
        f"{kind}-0000000{step}.ckpt" for kind in ("best", "last") for step in (2, 3)
    }
    assert begin(tmp_path).resume()[0] == between[0]

    def refuse(*names):
        raise PermissionError(errno.EPERM, "no second names here")

    monkeypatch.setattr(os, "link", refuse)
    last, best = save("last", 4), save("best", 4)
    assert torch.load(last)["save"] == 5 and torch.load(best)["save"] == 6


def test_what_an_earlier_process_saved_gets_no_second_name(tmp_path):
    """On a GPU a run that goes on may come to other weights at the same batch."""
    begin(tmp_path).save(Trainer(), "last", Position())
    run, trainer = begin(tmp_path), Trainer()
    run.save(trainer, "best", Position())
    assert trainer.saves == 1


def test_only_the_first_process_reads_checkpoints_to_check_them(tmp_path, monkeypatch):
    run = begin(tmp_path)
    whole, damaged = saved(run, 3), saved(run, 4)
    damaged.write_bytes(b"damaged")
    begin(tmp_path, launch="now")
    monkeypatch.setattr("nuptse.resuming.sha256_of", pytest.fail)
    path, position = begin(tmp_path, launch="now", owner=False).resume()
    assert (path, position.in_all) == (whole, 3)


def checkpoints(tmp_path, position=None, **options):
    options = {"every_n_steps": None, "every_minutes": None, "seed": 1} | options
    history = SimpleNamespace(best_step=None)
    return Checkpoints(begin(tmp_path), history, position=position or Position(), **options)


@pytest.mark.parametrize("accumulated", [1, 3, 8])
def test_however_often_the_best_changes_a_run_goes_back_by_the_minutes_at_most(tmp_path, monkeypatch, accumulated):
    """A second for a batch, a validation after 50 of them, each better; with accumulation many fall between two steps."""
    saver, trainer = checkpoints(tmp_path, every_minutes=5), Trainer()
    trainer.max_steps = 10**6
    start = time.monotonic()
    for batch in range(1, 2001):
        monkeypatch.setattr("nuptse.resuming.time.monotonic", lambda now=start + batch: now)
        saver.on_train_batch_start(trainer, None, None, batch)
        trainer.global_step = batch // accumulated
        saver.on_train_batch_end(trainer, None, None, None, batch)
        if batch % 50 == 0:
            saver.history.best_step = trainer.global_step
            saver.on_validation_end(trainer, None)
        if batch % 100 == 99:
            gone_on_from = saver.run._to_go_on_from()
            newest = gone_on_from[0][1]["position"]["in_all"] if gone_on_from else 0
            assert batch - newest <= 5 * 60 + accumulated


def test_a_second_validation_of_the_same_step_leaves_its_checkpoint_alone(tmp_path):
    saver, trainer = checkpoints(tmp_path), Trainer()
    trainer.global_step = saver.history.best_step = 1
    saver.on_validation_end(trainer, None)
    saver.position.accumulating = True
    saver.on_validation_end(trainer, None)
    assert trainer.saves == 1 and saver.run.resume() is not None


def test_what_a_model_draws_depends_on_the_batch_and_loaders_see_nothing_of_it(tmp_path):
    def train(saver, batches, draws):
        """Return what the model draws in each batch, and the loader after it."""
        drawn = []
        for _ in range(batches):
            saver.on_train_batch_start(trainer, None, None, 0)
            drawn.append([random.random() for _ in range(draws)])
            saver.on_train_batch_end(trainer, None, None, None, 0)
            drawn.append(random.random())
        return drawn

    trainer = Trainer()
    random.seed(7)
    undisturbed = train(checkpoints(tmp_path), 4, 1)
    resumed = train(checkpoints(tmp_path, Position(in_all=2)), 2, 1)
    assert resumed[::2] == undisturbed[::2][2:] and len(set(map(tuple, undisturbed[::2]))) == 4
    random.seed(7)
    assert train(checkpoints(tmp_path), 4, 9)[1::2] == undisturbed[1::2]
