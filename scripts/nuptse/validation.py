"""Validation batches of utterances that are alike in length: the time goes into audio, not into padding."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import lightning.pytorch as pl
from lhotse.cut import Cut
from lightning.pytorch.callbacks import Callback
from nemo.collections.asr.models import ASRModel


class LongestFirst:
    """Cuts of a validation set, the longest first; read when they are first asked for, and kept.

    A word error rate is one of all utterances, in whatever order. The longest come first, so that a set that does not
    fit into memory fails at its first batch.
    """

    def __init__(self, cuts: Iterable[Cut]) -> None:
        self.cuts = cuts

    @cached_property
    def _ordered(self) -> list[Cut]:
        return sorted(self.cuts, key=lambda cut: (-cut.duration, cut.id))

    def __iter__(self) -> Iterator[Cut]:
        return iter(self._ordered)


def validate_longest_first(model: ASRModel) -> None:
    """Have each validation data loader of ``model`` take its utterances by length, into batches as configured.

    Lhotse's sampler goes on making the batches and sharing them out among devices: of a batch it counts the longest
    utterance times their number, so that with neighbours in length a batch is as full as ``batch_duration`` allows.
    """
    loaders: Any = model._validation_dl
    for loader in loaders if isinstance(loaders, list) else [loaders]:
        loader.sampler.cuts = tuple(LongestFirst(cuts) for cuts in loader.sampler.cuts)


class WholeBatches(Callback):
    """Has a transducer with a fused joint decode each validation batch at once, and compute no loss of it.

    NeMo takes such a batch in parts of ``joint.fused_batch_size`` utterances, and after each part all ranks add up
    their errors. Ranks whose batches are of other numbers of parts would wait for each other without end. A loss of the
    whole batch at once might not fit into memory, and nothing here looks at it. Training goes on in parts.
    """

    _part: int | None = None

    def on_validation_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        joint = getattr(model, "joint", None)
        if joint is not None and joint.fuse_loss_wer:
            self._part = joint.fused_batch_size
            joint.set_fused_batch_size(sys.maxsize)
            model.compute_eval_loss = False

    def on_validation_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if self._part is not None:
            model.joint.set_fused_batch_size(self._part)
            self._part = None
