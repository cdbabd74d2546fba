"""Padding and fill of the batches that Lhotse's sampler makes, by its settings; a table of bench.py, no audio is read.

Of 28,000 made-up utterances about as long as those of LibriSpeech's train-clean-100, of 120,000 of a second and, where
OPENSLR_MIRROR names a mirror, of the real ones of its train-clean-5: once, as in an epoch, whose last batches are not full,
and as in a stream of shards. Each setting runs for an epoch.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_training import OVERLAY, prepared
from corpora import mirror
from harness import report_lines
from lhotse import CutSet
from lhotse.dataset.sampling import DynamicBucketingSampler
from lhotse.dataset.sampling.base import SamplingConstraint, TimeConstraint
from lhotse.testing.dummies import dummy_cut, dummy_supervision
from nemo.collections.common.data.lhotse.sampling import FixedBucketBatchSizeConstraint2D

from nuptse.duration_bins import Source, plan_bins, seconds_in_batch
from nuptse.durations import Durations
from nuptse.jsonl import read_rows

TOKENS_S = 8.0  # tokens a second, of a tokenizer of 1,000 pieces on read English


@dataclass(frozen=True)
class Setting:
    """How batches are made; ``batch_s`` and ``quadratic_s`` in seconds, ``two_d`` by duration and tokens."""

    name: str
    batch_s: float = 300
    quadratic_s: float | None = 15
    num_buckets: int = 30
    buffer_size: int = 2000
    concurrent: bool = False
    two_d: bool = False


SETTINGS = [
    Setting("as in config/tutorial.yaml"),
    Setting("5 buckets", num_buckets=5),
    Setting("10 buckets", num_buckets=10),
    Setting("60 buckets", num_buckets=60),
    Setting("window of 500", buffer_size=500),
    Setting("window of 1,000", buffer_size=1000),
    Setting("window of 10,000", buffer_size=10_000),
    Setting("filled in a thread", concurrent=True),
    Setting("no quadratic_duration", quadratic_s=None),
    Setting("batch_duration 60", batch_s=60),
    Setting("batch_duration 120", batch_s=120),
    Setting("batch_duration 600", batch_s=600),
    Setting("no buckets", num_buckets=1),
    Setting("2-D bins, 15 x 2", num_buckets=15, two_d=True),
]
# Of short utterances a batch takes many, and the window must hold as many of each bucket.
FOR_COMMANDS = [
    Setting("window of 1,000", buffer_size=1000),
    Setting("window of 2,000"),
    Setting("window of 4,000", buffer_size=4000),
    Setting("window of 8,500, a batch of each bucket", buffer_size=8500),
    Setting("window of 17,000", buffer_size=17_000),
]


def like_spoken_commands(count: int, seed: int = 0) -> Iterator[float]:
    """Yield durations (s) around one second."""
    random_ = random.Random(seed)
    return (round(min(max(random_.gauss(1, 0.2), 0.3), 2) * 16000) / 16000 for _ in range(count))


def like_train_clean_100(count: int, seed: int = 0) -> Iterator[float]:
    """Yield durations (s): most of them 12 to 17 s, the others from 1.4 s on; 12.6 s on average, as there."""
    random_ = random.Random(seed)
    while count:
        duration = random_.gauss(14.7, 1.3) if random_.random() < 0.72 else random_.triangular(1.4, 14, 8)
        if 1.4 <= duration <= 24.5:
            count -= 1
            yield round(duration * 16000) / 16000


def main() -> None:
    commands = "120,000 of a second, as spoken commands"
    corpora = {"28,000 as in train-clean-100": list(like_train_clean_100(28_000))}
    corpora[commands] = list(like_spoken_commands(120_000))
    if mirror():
        with tempfile.TemporaryDirectory() as scratch:
            folder = prepared(Path(scratch), OVERLAY)
            rows = read_rows(folder / "data/manifests/mini_librispeech_cuts_train.jsonl.gz", dict) if folder else ()
            durations = [float(row["duration"]) for row in rows]
            corpora[f"{len(durations)} of LibriSpeech, once"] = durations
            corpora["the same, 20 times in a stream"] = durations * 20
    lines = ["| corpus | setting | batches | utterances in one | padding | fill |", "|---|---|---:|---:|---:|---:|"]
    for corpus, durations in corpora.items():
        for setting in FOR_COMMANDS if corpus == commands else SETTINGS:
            batches = list(sample(durations, setting))
            audio, padded = sum(map(sum, batches)), sum(max(batch) * len(batch) for batch in batches)
            utterances = sum(map(len, batches)) / len(batches)
            numbers = f"{len(batches):,} | {utterances:.1f} | {1 - audio / padded:.1%} | {fill(batches, setting):.0%}"
            lines.append(f"| {corpus} | {setting.name} | {numbers} |")
    report_lines("sampling", lines)


def fill(batches: Iterable[Sequence[float]], setting: Setting) -> float:
    """Return how much of the memory that a batch may take is taken: that of its longest utterance times their number.

    An utterance that has no room beside others of its length leaves a part of the budget unused, whatever the sampler.
    """
    shares = [seconds_in_batch(max(batch), setting.quadratic_s) * len(batch) / setting.batch_s for batch in batches]
    return sum(shares) / len(shares)


def sample(durations: Sequence[float], setting: Setting) -> Iterator[list[float]]:
    """Yield the durations (s) of each batch of an epoch."""
    plan = plan_bins([Source("corpus/train", Durations.of(durations), None)], setting.num_buckets)
    edges = plan["bucket_duration_bins"]
    bins: list[float] | list[tuple[float, int]] = edges
    constraint: SamplingConstraint = TimeConstraint(
        max_duration=setting.batch_s, quadratic_duration=setting.quadratic_s
    )
    random_ = random.Random(1)
    if setting.two_d:
        longest = max(durations)
        bins = [(edge, int(edge * TOKENS_S * share)) for edge in [*edges, longest] for share in (1.0, 2.0)]
        sizes = [max(1, int(setting.batch_s / seconds_in_batch(edge, setting.quadratic_s))) for edge, _ in bins]
        constraint = FixedBucketBatchSizeConstraint2D(max_seq_len_buckets=bins, batch_sizes=sizes)

    def cuts() -> Iterator[object]:
        for number, duration in enumerate(durations):
            spoken = dummy_supervision(number, duration=duration)
            spoken.tokens = range(max(1, int(duration * random_.gauss(TOKENS_S, 1))))
            yield dummy_cut(number, duration=duration, supervisions=[spoken])

    if setting.num_buckets == 1:
        from lhotse.dataset.sampling import DynamicCutSampler

        sampler = DynamicCutSampler(CutSet(Once(cuts)), constraint=constraint, shuffle=True, shuffle_buffer_size=2000)
    else:
        sampler = DynamicBucketingSampler(
            CutSet(Once(cuts)),
            constraint=constraint,
            duration_bins=bins,
            shuffle=True,
            shuffle_buffer_size=setting.buffer_size,
            buffer_size=setting.buffer_size,
            concurrent=setting.concurrent,
            seed=0,
        )
    for batch in sampler:
        yield [cut.duration for cut in batch]


class Once:
    """What a function yields, as something to iterate over."""

    def __init__(self, make: object) -> None:
        self.make = make

    def __iter__(self) -> Iterator[object]:
        return self.make()  # type: ignore[operator, no-any-return]


if __name__ == "__main__":
    main()
