"""Trainings that go on where they stopped: checkpoints that are whole, batches neither repeated nor skipped."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lhotse.dataset.iterable_dataset import IterableDatasetWrapper
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nuptse.errors import UserError, flush_to_disk, say, sha256_of, write_atomically

LEDGER = "ledger.json"
HISTORY = "history.json"
# What of the identity may change together with the number of steps.
SCHEDULE = "schedule"
# Checkpoints of a kind: the newest, and the one before in case the disk lost part of it.
KEPT = 2


@dataclass
class Position:
    """Batches that were trained on: in all, and in the running epoch of data that ends, whose number is ``epoch``.

    While it is ``accumulating``, gradients of the last of them wait for the next step; no checkpoint holds these.
    """

    in_all: int = 0
    in_epoch: int = 0
    epoch: int = 0
    accumulating: bool = False


class RunFolder:
    """What a training has so far, and the only checkpoints that are ever unpickled: its own.

    It outlives the training, so that more steps can follow. ``ledger.json`` holds ``identity`` (what makes the run this
    run), ``launch``, ``steps`` (that it shall make), ``lengthened`` (what ``steps`` was before), ``resumed`` (the steps
    that it went on from), ``finished``, and the checkpoints, ``last`` (to go on from) and ``best`` (to publish), oldest
    first: each with ``name``, ``step``, ``bytes``, ``sha256`` and ``position``.

    Args:
        folder: is made anew unless it belongs to a run of the same identity and no fewer steps. One that has made all
            of its steps stays as well: it can be published once more.
        identity: texts by name; a change of one of them starts anew, and its name is said. Only ``schedule`` may be
            another one where there are more steps to make.
        steps: optimizer steps of the whole run.
        launch: a name that all ranks of the run know, another one each time that they are started.
        owner: whether this process writes; the other ranks read what the owner decides, and write nothing.

    Raises:
        UserError: the ledger is there, but cannot be read or is damaged.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, str], steps: int, launch: str = "", *, owner: bool = True
    ) -> None:
        self.folder, self.owner = folder, owner
        self._newest: dict[str, Any] | None = None  # the entry that this process has added last
        self.ledger: dict[str, Any] = {"identity": dict(identity), "steps": steps, "lengthened": [], "resumed": []}
        self.ledger |= {"finished": False, "last": [], "best": []}
        if not owner:
            # On another node it may be the first to come here, or see for a while what a file system has cached.
            while (decided := self._decided()).get("launch") != launch:
                time.sleep(0.2)
            self.ledger = decided
            return
        if (found := self._read()) is not None:
            if reason := self._why_anew(found):
                say(f"{folder}: {reason}; starting anew")
            else:
                if steps > found["steps"]:
                    say(f"{folder}: to make {steps} steps instead of {found['steps']}")
                    found |= {"lengthened": [*found["lengthened"], found["steps"]], "steps": steps}
                    found["identity"] = dict(identity)
                self.ledger = found | {"launch": launch}
                self._sweep()
                self._forget_damaged()
                self._write()  # what the other ranks wait for
                return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.ledger["launch"] = launch
        self._write()

    def _sweep(self) -> None:
        """Remove the checkpoints that a killed process left before or after it wrote the ledger."""
        kept = {entry["name"] for kind in ("last", "best") for entry in self.ledger[kind]}
        for path in self.folder.glob("*.ckpt"):  # hidden ones as well
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _decided(self) -> dict[str, Any]:
        with suppress(UserError):  # the owner tells of a ledger that stays unreadable, and all ranks end with it
            return self._read() or {}
        return {}

    def _why_anew(self, found: Mapping[str, Any]) -> str | None:
        identity, steps = self.ledger["identity"], self.ledger["steps"]
        differ = [name for name in identity if found["identity"].get(name) != identity[name]]
        if steps != found["steps"] and SCHEDULE in differ:
            differ.remove(SCHEDULE)
        if differ:
            return f"the run there is of other {', '.join(differ)}"
        if steps < found["steps"]:
            return f"the run there is of {found['steps']} steps, more than the {steps} that are wanted now"
        return None

    @property
    def made(self) -> bool:
        """Whether the run is finished and has got no further steps to make."""
        return bool(self.ledger["finished"]) and any(e["step"] == self.ledger["steps"] for e in self.ledger["last"])

    def history(self, step: int) -> dict[str, Any] | None:
        """Return the whole account of a run that is finished at this step: its last checkpoint is a bit older."""
        if not self.ledger["finished"]:
            return None
        try:
            account = dict(json.loads((self.folder / HISTORY).read_bytes()))
        except (FileNotFoundError, ValueError):
            return None  # the last step is validated once more
        return account if account["train"][-1]["step"] == step else None

    def finish(self, history: Mapping[str, Any]) -> None:
        """Mark the run as finished; of its checkpoints the last and the best that were published stay."""
        with write_atomically(self.folder / HISTORY) as partial:
            partial.write_text(json.dumps(history) + "\n")
        for kind, step in (("last", history["train"][-1]["step"]), ("best", history["best_step"])):
            gone = [entry for entry in self.ledger[kind] if entry["step"] != step]
            self.ledger[kind] = [entry for entry in self.ledger[kind] if entry["step"] == step]
            for entry in gone:
                (self.folder / entry["name"]).unlink(missing_ok=True)
        self.ledger["finished"] = True
        self._write()

    def resume(self) -> tuple[Path, Position] | None:
        """Return the newest checkpoint and where its data stood; None to start at the first step.

        The owner has found it whole before any rank asks: not all of them shall read gigabytes for it.
        """
        if not (entries := self._to_go_on_from()):
            return None
        _, entry = entries[0]
        if self.owner and not self.made:
            self.ledger["resumed"].append(entry["step"])
            self._write()
        return self.folder / entry["name"], Position(**entry["position"])

    def _forget_damaged(self) -> None:
        """Take the newest checkpoints out of the ledger until one of them is whole."""
        entries = self._to_go_on_from()
        for kind, entry in entries:
            if self._is_whole(entry):
                return
            self.ledger[kind].remove(entry)
            say(f"{self.folder / entry['name']} is damaged or gone; taking an older checkpoint")
        if entries:
            say(f"{self.folder}: no checkpoint is whole; starting at the first step")

    def _to_go_on_from(self) -> list[tuple[str, dict[str, Any]]]:
        """Return kind and entry of the checkpoints of a whole state, the newest first.

        The best hold it as well, unless their validation fell between two steps.
        """
        entries = [(kind, entry) for kind in ("best", "last") for entry in self.ledger[kind]]
        entries = [(kind, entry) for kind, entry in entries if not entry["position"].get("accumulating")]
        return sorted(entries, key=lambda pair: int(pair[1]["step"]), reverse=True)

    def save(self, trainer: pl.Trainer, kind: Literal["last", "best"], position: Position) -> None:
        """Save the whole state of the training, called by all ranks; older checkpoints go once this one can be read.

        One that this process has just saved as the other kind gets a second name, which takes neither time nor room.
        """
        path = self.folder / f"{kind}-{trainer.global_step:08}.ckpt"
        named = not self.owner or self._name_once_more(kind, path, position)
        if not trainer.strategy.reduce_boolean_decision(named, all=True):
            if self.owner:
                self._save(trainer, kind, path, position)
            else:
                trainer.save_checkpoint(path)
        # A rank that ended by now, as it does after SIGTERM, would take the owner along before the ledger is written.
        trainer.strategy.barrier()

    def _name_once_more(self, kind: Literal["last", "best"], path: Path, position: Position) -> bool:
        if self._newest is None or self._newest["position"] != asdict(position) or self._newest["name"] == path.name:
            return False
        try:
            path.unlink(missing_ok=True)
            os.link(self.folder / self._newest["name"], path)
        except OSError:  # there are file systems without second names
            return False
        self._enter(kind, self._newest | {"name": path.name})
        return True

    def _save(self, trainer: pl.Trainer, kind: Literal["last", "best"], path: Path, position: Position) -> None:
        partial = path.with_name(f".{path.name}")
        with _room_for(path):
            trainer.save_checkpoint(partial)
            flush_to_disk(partial)
        torch.load(partial, map_location="cpu", weights_only=False, mmap=True)
        size, digest = partial.stat().st_size, sha256_of(partial)
        os.replace(partial, path)
        entry = {
            "name": path.name,
            "step": trainer.global_step,
            "bytes": size,
            "sha256": digest,
            "position": asdict(position),
        }
        self._enter(kind, entry)

    def _enter(self, kind: Literal["last", "best"], entry: dict[str, Any]) -> None:
        self._newest = entry
        entries = [old for old in self.ledger[kind] if old["name"] != entry["name"]] + [entry]
        gone, self.ledger[kind] = entries[:-KEPT], entries[-KEPT:]
        self.ledger["finished"] = False
        self._write()
        for old in gone:
            (self.folder / old["name"]).unlink(missing_ok=True)

    def checkpoint(self, kind: Literal["last", "best"], step: int | None) -> Path | None:
        """Return the checkpoint of a step if it is there and whole."""
        for entry in self.ledger[kind]:
            if entry["step"] == step and self._is_whole(entry):
                return self.folder / str(entry["name"])
        return None

    def _is_whole(self, entry: Mapping[str, Any]) -> bool:
        path = self.folder / entry["name"]
        return path.is_file() and path.stat().st_size == entry["bytes"] and sha256_of(path) == str(entry["sha256"])

    def _read(self) -> dict[str, Any] | None:
        """Return the ledger, None if there is none; what cannot be read is no reason to throw checkpoints away.

        Raises:
            UserError: it is there, and cannot be read or understood.
        """
        path = self.folder / LEDGER
        try:
            found = dict(json.loads(path.read_bytes()))
            if lacking := self.ledger.keys() - found.keys():
                raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror}; the checkpoints beside it stay: run again when it can be read"
            ) from None
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}, which names the checkpoints of this training, is damaged ({error}): to train from the start,"
                f" delete {self.folder} and run again"
            ) from None
        return found

    def _write(self) -> None:
        with write_atomically(self.folder / LEDGER) as partial:
            partial.write_text(json.dumps(self.ledger, indent=1) + "\n")


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Tell of a full disk in one sentence, and leave no part of a file there."""
    partial = path.with_name(f".{path.name}")
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a write that failed
        found = error if isinstance(error, OSError) else error.__context__
        size = partial.stat().st_size if partial.exists() else 0
        partial.unlink(missing_ok=True)
        if not isinstance(found, OSError) or found.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{path}: the disk or your quota is full ({os.strerror(found.errno)}) after {size / 1e6:.0f} MB of the"
            " checkpoint; the one before is intact: make room, and run again to go on from there"
        ) from error


class PlainCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint straight to its file: Lightning has it in memory and among temporary files first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with open(path, "wb") as file:
            torch.save(checkpoint, file)


class Checkpoints(Callback):
    """Saves every so many steps or minutes, when the process is asked to end (SIGTERM), and at the last step.

    It also seeds each batch by its number, so that a resumed run draws the same dropout as one without a break, and
    what models draw from Python's ``random``.

    Args:
        run: where to.
        history: what knows the best step, by ``best_step``; it stands before this one among the callbacks.
        every_n_steps: None for never.
        every_minutes: None for never.
        seed: of the run.
        position: batches that earlier processes of this run have trained on.
    """

    def __init__(
        self,
        run: RunFolder,
        history: Any,
        every_n_steps: int | None,
        every_minutes: float | None,
        seed: int,
        position: Position,
    ) -> None:
        self.run, self.history, self.seed, self.position = run, history, seed, position
        self.every_n_steps = every_n_steps
        self.every_s = math.inf if every_minutes is None else 60 * every_minutes
        self._saved, self._step, self._new_schedule = time.monotonic(), 0, False
        self._between = random.getstate()
        self._best: int | None = None  # the step whose weights this process saved as the best, last
        # Whether there is a state that no checkpoint holds and one can: gradients that are accumulated are in none.
        self._unsaved = False

    def on_load_checkpoint(self, trainer: pl.Trainer, model: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        # A checkpoint brings the schedule of its time along; that of a longer run takes only the step from it.
        for state in checkpoint["lr_schedulers"]:
            if state["max_steps"] != trainer.max_steps:
                for key in state.keys() - {"last_epoch", "_step_count"}:
                    del state[key]
                self._new_schedule = True

    def on_fit_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        # Not when the training starts, which it does not where all steps are made.
        if self.history.train and (account := self.run.history(self.history.train[-1]["step"])):
            self.history.load_state_dict(account)

    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if self._new_schedule:
            for configured in trainer.lr_scheduler_configs:
                schedule = configured.scheduler
                schedule._last_lr = schedule.get_lr()
                for group, lr in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
                    group["lr"] = lr
        lost = self.run.owner and self.run.checkpoint("best", self.history.best_step) is None
        if trainer.strategy.reduce_boolean_decision(lost, all=False):
            self.history.forget_best()

    def on_train_epoch_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.position.epoch = trainer.current_epoch
        if not trainer.fit_loop.restarting:
            self.position.in_epoch = 0

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        number = self.position.in_all * trainer.world_size + trainer.global_rank  # of all batches of all ranks
        torch.manual_seed((self.seed * 1_000_003 + number) % 2**63)
        # NeMo's streaming encoders draw a context from it, the same on all ranks; TDT losses draw too. Between two
        # batches it is the loaders', which go on as if no model had drawn.
        self._between = random.getstate()
        random.seed(self.seed * 1_000_003 + self.position.in_all)
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        random.setstate(self._between)
        self.position.in_all += 1
        self.position.in_epoch += 1
        step = trainer.global_step
        self.position.accumulating = step == self._step
        self._unsaved = not self.position.accumulating
        by_steps = self.every_n_steps is not None and step % self.every_n_steps == 0
        by_time = time.monotonic() - self._saved >= self.every_s
        self._save_if(by_steps or by_time or step >= trainer.max_steps or trainer.received_sigterm, trainer)

    def _save_if(self, due: bool, trainer: pl.Trainer) -> None:
        # Clocks and signals differ between ranks.
        if self._unsaved and trainer.strategy.reduce_boolean_decision(due, all=False):
            self.run.save(trainer, "last", self.position)
            self._saved, self._unsaved = time.monotonic(), False

    def on_validation_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, *indices: int
    ) -> None:
        # Lightning ends a validation after this batch. A run that goes on from its step makes all of it once more.
        self._save_if(trainer.received_sigterm, trainer)

    def on_validation_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        # A second validation at the same step is of the same weights, and perhaps no state to go on from.
        if self.history.best_step == trainer.global_step != self._best:
            self.run.save(trainer, "best", self.position)
            self._best = trainer.global_step
        self._save_if(trainer.received_sigterm, trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, model: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning calls the batch that was just processed incomplete, and would count it again.
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for part in ("current", "total"):
            progress[part]["completed"] = progress[part]["processed"]


def begin_after(loader: DataLoader, position: Position) -> Iterable[Any]:
    """Return a loader that begins with the batch after ``position``; none of the earlier ones is decoded.

    The order of batches is the same in every run of a seed, so counting them is enough. Batches of data that ends are
    planned in this process. Those of a stream come from its workers in turns, and the first worker of the new loader
    takes the place of the one whose turn it is; a new epoch goes on with the stream.
    """
    options = {"batch_size": None, "num_workers": loader.num_workers, "pin_memory": loader.pin_memory}
    dataset = loader.dataset
    if not isinstance(dataset, IterableDatasetWrapper):
        sampler = _SkippingSampler(loader.sampler, position)
        rest: Iterable[Any] = DataLoader(dataset, sampler=sampler, worker_init_fn=obey_parent_only, **options)
        return rest
    workers = max(1, loader.num_workers)

    def initialise(worker: int) -> None:
        turn = (worker + position.in_all) % workers
        object.__setattr__(get_worker_info(), "id", turn)  # Lhotse's choice of buckets goes by it
        loader.worker_init_fn(turn)
        obey_parent_only(worker)

    skipping = _SkippingStream(dataset, position.in_all, workers)
    return _Endless(DataLoader(skipping, worker_init_fn=initialise, **options))


def obey_parent_only(worker: int) -> None:
    """Have this process, one that loads data, end by a SIGTERM of the one that started it, and by no other.

    SLURM sends it to all processes of a job, and torch fails at once when one of these is gone: the training could not
    save its state.
    """
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class _Endless:
    """A loader whose iterator outlives an epoch: a new one would throw away what the workers have read ahead."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self._batches: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._batches is None:
            self._batches = iter(self.loader)
        return self._batches


class _SkippingSampler:
    """A sampler without its first batches; those of later epochs are all there."""

    def __init__(self, sampler: Any, position: Position) -> None:
        self.sampler, self.skip = sampler, position.in_epoch
        # Lightning fetches a first batch before it tells the sampler which epoch it goes on with.
        sampler.set_epoch(position.epoch)

    def __iter__(self) -> Iterator[Any]:
        # A generator, so that nothing is taken off for an iterator that a data loader makes and never asks.
        skip, self.skip = self.skip, 0
        yield from islice(self.sampler, skip, None)

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":  # not yet there while a worker unpickles
            raise AttributeError(name)
        return getattr(self.sampler, name)


class _SkippingStream(IterableDataset):  # type: ignore[misc]
    """A stream without the batches that this worker gave before the position; what they hold is read, not decoded."""

    def __init__(self, stream: IterableDatasetWrapper, batches: int, workers: int) -> None:
        self.stream, self.batches, self.workers = stream, batches, workers

    def __iter__(self) -> Iterator[Any]:
        turn = worker.id if (worker := get_worker_info()) else 0
        batches: Iterator[Any] = iter(self.stream)
        for _ in range(-(-(self.batches - turn) // self.workers)):  # how many of turn, turn + workers ... came before
            next(self.stream._sampler_iter)
        return batches
