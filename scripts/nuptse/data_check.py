"""The check that all audio is there, made beside a training that it may stop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from nuptse.errors import say
from nuptse.preflight import check_data

# A corpus that is checked by then is checked before the first step; a larger one during the first steps.
PATIENCE_S = 0.5


class DataCheck(Callback):
    """Checks each set of utterances in a thread, and ends the training at its next batch if audio is missing.

    A look at each of ten million files takes minutes, on a network file system hours, and the GPU need not wait for it.

    Args:
        data: for each set what ``preflight.check_data`` wants: ``corpus/split``, its file, and how many it holds.
    """

    def __init__(self, data: Sequence[tuple[str, Path, int | None]]) -> None:
        self._data = data
        self._root = Path.cwd()  # NeMo goes to another folder while it restores a model
        self._lines: Future[list[str]] = Future()
        self._told = False
        # A daemon: a run that ends for another reason does not wait for it.
        threading.Thread(target=self._check, daemon=True, name="data check").start()

    def _check(self) -> None:
        try:
            self._lines.set_result([check_data(name, path, counted, self._root) for name, path, counted in self._data])
        except Exception as error:  # noqa: BLE001  # raised again in the thread of the training
            self._lines.set_exception(error)

    def wait(self, seconds: float | None = PATIENCE_S) -> None:
        """Wait for the end of the check, so long or without limit, and tell its findings once.

        Raises:
            UserError: audio is missing, or a shard is not as its ledger says.
        """
        if self._told or not wait([self._lines], seconds).done:
            return
        for line in self._lines.result():
            say(line)
        self._told = True

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self.wait(0)
