"""Validation by several ranks: every utterance is heard once, by one of them, so that the WER is that of the set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lhotse import CutSet
from torch.utils.data import DataLoader

from nuptse.errors import UserError
from nuptse.resuming import obey_parent_only

if TYPE_CHECKING:  # the rest is of use without the seconds that NeMo takes
    from nemo.collections.asr.models import ASRModel


def share_out(model: ASRModel, names: Sequence[str]) -> None:
    """Have the validation loaders of a model give no utterance to two ranks.

    Args:
        model: has got its loaders, of data that ends.
        names: of the sets, for messages.
    """
    if isinstance(model._validation_dl, list):
        model._validation_dl = [_shared(*pair) for pair in zip(model._validation_dl, names, strict=True)]
    else:
        model._validation_dl = _shared(model._validation_dl, names[0])


def _shared(loader: DataLoader, name: str) -> DataLoader:
    options = {"batch_size": None, "num_workers": loader.num_workers, "pin_memory": loader.pin_memory}
    sampler = _Share(loader.sampler, name) if loader.sampler.world_size > 1 else loader.sampler
    return DataLoader(loader.dataset, sampler=sampler, worker_init_fn=obey_parent_only, **options)


class _Share:
    """What one rank gets; Lhotse itself gives utterances twice where the last round has fewer of them than ranks."""

    def __init__(self, sampler: Any, name: str) -> None:
        self.sampler, self.name, self.rank, self.ranks = sampler, name, sampler.rank, sampler.world_size
        sampler.rank, sampler.world_size = 0, 1

    def __iter__(self) -> Iterator[CutSet]:
        for batches in rounds(self.sampler, self.ranks, self.name):
            yield batches[self.rank]

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":  # not yet there while a worker unpickles
            raise AttributeError(name)
        return getattr(self.sampler, name)


def rounds(batches: Iterable[CutSet], ranks: int, name: str) -> Iterator[list[CutSet]]:
    """Deal out batches: each item has one for every rank, and every utterance is in one of them.

    The last round shares out what is left. Where that is less than an utterance for each rank, the round before is
    shared out with it, and its batches get at most one utterance more.

    Raises:
        UserError: fewer utterances than ranks.
    """
    held: list[CutSet] = []
    for batch in batches:
        held.append(batch)
        if len(held) == 2 * ranks:
            yield held[:ranks]
            held = held[ranks:]
    if len(held) > ranks and sum(map(len, held[ranks:])) >= ranks:
        yield held[:ranks]
        held = held[ranks:]
    if not held:
        return
    left = CutSet.from_cuts(cut for batch in held for cut in batch)
    if len(left) < ranks:
        raise UserError(
            f"validation set {name} has {len(left)} utterances for the {ranks} processes of a training, and each needs"
            " one: lower `trainer.devices` or `trainer.num_nodes`, or validate on more"
        )
    yield held if len(held) == ranks else left.split(ranks)
