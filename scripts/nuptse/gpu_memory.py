"""What to lower when the memory of a GPU is too small for a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from nuptse.errors import UserError, say


class BatchInMemory(Callback):
    """Knows the batch that a training is at, for the message.

    Args:
        experiment: its name.
        config: its options, see ``training.resolve_options``.
    """

    def __init__(self, experiment: str, config: DictConfig) -> None:
        self._experiment, self._config = experiment, config
        self._section, self._size = "train_ds", "the model and its first batch"

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self._see("train_ds", model, batch)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        model: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._see("validation_ds", model, batch)

    def _see(self, section: str, model: pl.LightningModule, batch: Any) -> None:
        utterances, samples = batch[0].shape  # of the audio, padded
        seconds = utterances * samples / model.cfg.sample_rate
        self._section, self._size = section, f"a batch of {utterances} utterances, {seconds:.0f} s with padding"

    @contextmanager
    def fits(self) -> Iterator[None]:
        """Name the batch if the GPU has no room for it in the ``with`` block.

        Raises:
            UserError: what is too large, and the settings to lower; all that torch said is in the log.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            say(f"{self._experiment}: {error}")
            key, limit = f"{self._section}.batch_duration", self._config.model[self._section].batch_duration
            more = " with as much more of `trainer.accumulate_grad_batches`" if self._section == "train_ds" else ""
            raise UserError(
                f"{self._experiment}: no room in the memory of the GPU for {self._size}: lower `{key}`, now {limit}"
                f" s{more}, or set `trainer.precision` to bf16-mixed; for a single long"
                " utterance lower `train_ds.max_duration`"
            ) from error
