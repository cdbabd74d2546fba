"""What a training saw and reached, batch by batch: collected, printed now and then, kept over a break."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
from lhotse import CutSet
from lhotse.dataset.iterable_dataset import IterableDatasetWrapper
from lightning.pytorch.callbacks import Callback
from nemo.collections.asr.models import ASRModel

from nuptse.errors import UserError, announce, say
from nuptse.overrides import SOURCE_TAG
from nuptse.ranks import gather

# Batches in a row without a finite loss before a run is given up; a single one may be a bad utterance.
LOST_AFTER = 10
# Seconds between two lines on the terminal, where others write too; the log gets them all.
TERMINAL_S = 5
# What a history takes from one process of a run to the next.
REMEMBERED = (
    *("train", "validation", "audio_seconds", "utterances", "best_step", "best_wer"),
    *("setup_seconds", "training_seconds", "wall_seconds"),
)


@dataclass
class History(Callback):
    """Collects what a run did, and prints a line now and then.

    Attributes:
        interval: steps between two lines.
        names: the validation sets, ``<corpus>_<split>``, the first of which chooses the best step.
        sources: the corpora that are trained on, ``<corpus>/<split>``, in the order of ``train_ds.input_cfg``.
        experiment: its name, for the lines.
        started: ``time.monotonic()`` when this process began with the run.
        train: loss, learning rate and amounts of audio of each batch.
        validation: val_wer of every set at each validation.
        audio_seconds: audio seen in training, padding not counted.
        setup_seconds: until the first batch.
        training_seconds: from the first batch to the last, validations not counted.
        wall_seconds: of the starts before this one, as far as this one goes on from them.
    """

    interval: int
    names: list[str]
    sources: list[str]
    experiment: str
    started: float
    train: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    audio_seconds: float = 0.0
    utterances: int = 0
    best_step: int | None = None
    best_wer: float = math.inf
    setup_seconds: float = 0.0
    training_seconds: float = 0.0
    wall_seconds: float = 0.0
    _ticking: float | None = None
    _lr: float = 0.0
    _by_source: dict[str, int] = field(default_factory=dict)
    _printed: int = 0
    _announced: float = -math.inf

    def see_cuts(self, model: ASRModel) -> None:
        """Have the training data loader say which cuts are in a batch: only they tell the corpus."""
        loaded = model._train_dl.dataset
        dataset = loaded.dataset if isinstance(loaded, IterableDatasetWrapper) else loaded
        dataset.return_cuts = True

        def take_cuts(batch: tuple[Any, ...], dataloader_idx: int) -> tuple[Any, ...]:
            if not isinstance(batch[-1], CutSet):  # validation
                return batch
            *tensors, cuts = batch
            counts = Counter(cut.custom[SOURCE_TAG] if len(self.sources) > 1 else self.sources[0] for cut in cuts)
            self._by_source = {name: counts[name] for name in self.sources}
            return tuple(tensors)

        model.on_before_batch_transfer = take_cuts

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if self._ticking is None:
            self._ticking = time.monotonic()
        if not self.train:
            self.setup_seconds = self._ticking - self.started
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]  # afterwards it is already that of the next step

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        audio, lengths = batch[0], batch[1]
        loss = float(outputs["loss"].detach()) * trainer.accumulate_grad_batches
        own = [loss, float(lengths.sum()), len(lengths), audio.shape[1], audio.numel(), *self._by_source.values()]
        ranks = gather(trainer, own)
        _, samples, utterances, _, padded, *by_source = map(sum, zip(*ranks, strict=True))
        seconds = samples / model.cfg.sample_rate
        self.audio_seconds += seconds
        self.utterances += int(utterances)
        step, steps = trainer.global_step, trainer.max_steps
        row = {
            "step": step,
            "loss": round(sum(rank[0] for rank in ranks) / len(ranks), 6),
            "lr": self._lr,
            "audio_seconds": round(seconds, 3),
            "utterances": int(utterances),
            "longest_s": round(max(rank[3] for rank in ranks) / model.cfg.sample_rate, 3),
            "padding": round(1 - samples / padded, 6),
            "by_source": dict(zip(self._by_source, map(int, by_source), strict=True)),
        }
        self.train.append(row)
        self._stop_if_lost()
        if step > self._printed and (step % self.interval == 0 or step == steps):
            self._printed = step
            took = self._so_far()
            to_go = took / step * (steps - step)
            now = time.monotonic()
            shown = now - self._announced >= TERMINAL_S or step == steps
            self._announced = now if shown else self._announced
            (announce if shown else say)(
                f"{self.experiment}: step {step}/{steps}  loss {row['loss']:.2f}  lr {row['lr']:.2e}"
                f"  {self.audio_seconds / 3600:.3f} h of audio  {took:.0f} s, {to_go:.0f} s to go"
            )

    def _pause(self) -> None:
        self.training_seconds, self._ticking = self._so_far(), None

    def _so_far(self) -> float:
        return self.training_seconds + (time.monotonic() - self._ticking if self._ticking is not None else 0)

    def wall_so_far(self) -> float:
        """Return the wall time of the run (s), that of all starts."""
        return self.wall_seconds + time.monotonic() - self.started

    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._pause()

    def _stop_if_lost(self) -> None:
        """A loss that stays NaN or infinite does not come back, however many GPU hours follow."""
        last = [row["loss"] for row in self.train[-LOST_AFTER:]]
        if len(last) == LOST_AFTER and not any(map(math.isfinite, last)):
            raise UserError(
                f"the loss has been {last[-1]} for {LOST_AFTER} batches up to step {self.train[-1]['step']}: lower"
                " `optim.lr`, set `trainer.gradient_clip_val` (1.0, say), or train with precision 32-true"
            )

    def on_validation_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._pause()

    def on_validation_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._ticking = time.monotonic()
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        keys = ["val_wer"] if len(self.names) == 1 else [f"{prefix}val_wer" for prefix in model._validation_names]
        scores = {name: round(metrics[key], 6) for name, key in zip(self.names, keys, strict=True)}
        # A run that goes on from a step at which it had validated does so again.
        self.validation = [row for row in self.validation if row["step"] < trainer.global_step]
        self.validation.append({"step": trainer.global_step, "val_wer": scores})
        first = scores[self.names[0]]
        if first < self.best_wer:
            self.best_wer, self.best_step = first, trainer.global_step
        text = ", ".join(f"{name} {wer:.2%}" for name, wer in scores.items())
        announce(f"{self.experiment}: step {trainer.global_step}/{trainer.max_steps}  val_wer {text}")

    def effective_batch(self, devices: int, accumulated: int) -> dict[str, Any]:
        """Return what an optimizer step saw on average, over all devices and accumulated batches."""
        steps = self.train[-1]["step"]
        return {
            "devices": devices,
            "accumulate_grad_batches": accumulated,
            "audio_seconds": round(self.audio_seconds / steps, 3),
            "utterances": round(self.utterances / steps, 3),
        }

    def forget_best(self) -> None:
        self.best_step, self.best_wer = None, math.inf

    def state_dict(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in REMEMBERED}
        return copy.deepcopy(state | {"training_seconds": self._so_far(), "wall_seconds": self.wall_so_far()})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Checkpoints of earlier versions have no wall time; at least so much it was.
        known = {"wall_seconds": state_dict["setup_seconds"] + state_dict["training_seconds"]} | state_dict
        for name in REMEMBERED:
            setattr(self, name, known[name])
        self._printed = self.train[-1]["step"] if self.train else 0
