"""What the batches of a training held: curves, padding, fill, buckets, and how well the mix was kept."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nuptse.formats import is_number
from nuptse.results import Batch, Bins, Training

SMOOTHED_SHARE = 0.05  # of a training: long enough to calm a curve, short enough to keep its shape


def smooth(values: Sequence[float | None]) -> list[float | None]:
    """Return the centred moving average of a curve over a twentieth of it; None where no value is finite.

    >>> smooth([1.0, None, 3.0])
    [1.0, None, 3.0]
    """
    reach = round(len(values) * SMOOTHED_SHARE / 2)
    numbers = np.array([value if is_number(value) else np.nan for value in values], dtype=float)
    valid = np.isfinite(numbers)
    sums = np.concatenate([[0.0], np.cumsum(np.where(valid, numbers, 0.0))])
    counts = np.concatenate([[0], np.cumsum(valid)])
    places = np.arange(len(numbers))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(numbers))
    number = counts[high] - counts[low]
    means = (sums[high] - sums[low]) / np.maximum(number, 1)
    return [float(mean) if count else None for mean, count in zip(means, number, strict=True)]


def thin(length: int, limit: int) -> list[int]:
    """Return at most ``limit`` places of a sequence, evenly apart, the first and the last among them.

    >>> thin(9, 5), thin(3, 5)
    ([0, 2, 4, 6, 8], [0, 1, 2])
    """
    if length <= limit:
        return list(range(length))
    return sorted({round(place * (length - 1) / (limit - 1)) for place in range(limit)})


def number_of_devices(trainer: Mapping[str, Any]) -> int:
    """Return how many devices had batches of their own, on all nodes; a row of a training adds theirs up."""
    return int(trainer["devices"] * trainer.get("num_nodes", 1))


@dataclass(frozen=True)
class Feeding:
    """How each device of an experiment was fed.

    Attributes:
        batches: how many.
        utterances: in a batch, mean.
        audio_s: speech in a batch, s, mean, padding not counted.
        limit_s: ``batch_duration``, s.
        fill: how much of what a batch may take is taken, mean: its longest utterance, with what
            ``quadratic_duration`` adds to it, times their number, by ``limit_s``. An utterance that has no room beside
            others of its length leaves a rest.
        padding: share of all audio in batches that is padding.
        longest_s: the longest utterance, s, if recorded.
    """

    batches: int
    utterances: float
    audio_s: float
    limit_s: float
    fill: float
    padding: float
    longest_s: float | None


def feeding(training: Training, limit_s: float, quadratic_s: float | None = None, devices: int = 1) -> Feeding | None:
    """Return how a training was fed, None if it had no batch.

    Args:
        limit_s: ``batch_duration``, s.
        quadratic_s: ``quadratic_duration``, s: an utterance of d s counts d + d²/quadratic_s.
        devices: GPUs that each had a batch of its own.
    """
    rows = training.train
    if not rows:
        return None
    audio = sum(row.audio_seconds for row in rows)
    padded = sum(padded_seconds(row) for row in rows)
    longest = [row.longest_s for row in rows if row.longest_s is not None]
    taken = sum(padded_seconds(row) * (1 + (row.longest_s or 0) / quadratic_s if quadratic_s else 1) for row in rows)
    return Feeding(
        batches=len(rows),
        utterances=sum(row.utterances for row in rows) / len(rows) / devices,
        audio_s=audio / len(rows) / devices,
        limit_s=limit_s,
        fill=taken / len(rows) / limit_s / devices,
        padding=1 - audio / padded if padded else 0.0,
        longest_s=max(longest, default=None),
    )


def padded_seconds(row: Batch) -> float:
    """Return the audio of a batch with its padding, s."""
    # Not by the longest utterance: with several devices that is the longest of all their batches.
    return row.audio_seconds / (1 - row.padding) if row.padding < 1 else row.audio_seconds


@dataclass(frozen=True)
class DrawnBucket:
    """A bucket of durations, and what training drew from it; ``batches`` is None if that was not recorded."""

    from_s: float
    to_s: float
    share_of_audio: float
    batches: int | None
    utterances: int | None
    padding: float | None


def drawn_buckets(training: Training, bins: Bins) -> list[DrawnBucket]:
    """Return the buckets of an experiment. The longest utterance of a batch tells the bucket that it came from."""
    edges = bins.bucket_duration_bins
    recorded = all(row.longest_s is not None for row in training.train)
    groups: dict[int, list[Batch]] = {}
    for row in training.train if recorded else []:
        groups.setdefault(bisect_right(edges, row.longest_s or 0.0), []).append(row)
    found = []
    for number, bucket in enumerate(bins.buckets):
        rows = groups.get(number, [])
        padded, audio = sum(map(padded_seconds, rows)), sum(row.audio_seconds for row in rows)
        found.append(
            DrawnBucket(
                from_s=bucket.from_s,
                to_s=bucket.to_s,
                share_of_audio=bucket.share_of_audio,
                batches=len(rows) if recorded else None,
                utterances=sum(row.utterances for row in rows) if recorded else None,
                padding=1 - audio / padded if padded else None,
            )
        )
    return found


@dataclass(frozen=True)
class Share:
    """A source of a mix: shares of utterances, wanted and delivered; the latter is None if it was not recorded."""

    source: str
    wanted: float
    delivered: float | None


def mix(training: Training) -> list[Share]:
    """Return the shares of an experiment that mixes, nothing for one that has a single source."""
    if len(training.sources) < 2:
        return []
    drawn: Counter[str] = Counter()
    for row in training.train:
        drawn.update(row.by_source or {})
    total = sum(drawn.values())
    return [
        Share(source.name, source.weight, drawn[source.name] / total if total else None) for source in training.sources
    ]
