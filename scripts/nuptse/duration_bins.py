"""Bucket edges for the blend that an experiment trains on: exact, from manifests, never from audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nuptse.durations import Durations
from nuptse.errors import UserError

# Lhotse's 3-way speed perturbation as NeMo applies it: each copy is drawn as often as the others.
SPEEDS = (1.0, 0.9, 1.1)
Seconds = TypeVar("Seconds", float, np.ndarray)


def seconds_in_batch(duration: Seconds, quadratic_s: float | None) -> Seconds:
    """Return what a cut counts towards ``batch_duration``, s, as in Lhotse's ``TimeConstraint``.

    Args:
        duration: of the cut, s, or of each of several.
        quadratic_s: ``quadratic_duration``, s; None: a cut counts as it lasts.

    >>> seconds_in_batch(30.0, 15), seconds_in_batch(30.0, None)
    (90.0, 30.0)
    """
    return duration + duration**2 / quadratic_s if quadratic_s else duration


@dataclass(frozen=True)
class Source:
    """One corpus of a blend.

    Attributes:
        name: ``corpus/split``.
        durations: of its N cuts.
        weight: chance that the next utterance comes from it, relative to the others; None: N.
    """

    name: str
    durations: Durations
    weight: float | None = None

    @property
    def share(self) -> float:
        return float(self.durations.utterances) if self.weight is None else self.weight


def plan_bins(
    sources: Sequence[Source],
    num_buckets: int,
    *,
    min_duration: float | None = None,
    max_duration: float | None = None,
    perturb_speed: bool = False,
) -> dict[str, Any]:
    """Return bucket edges for a weighted blend, and the account of what the duration filter leaves out.

    An utterance of a source of weight w and N cuts is drawn with a chance in proportion to w / N, whatever is filtered
    afterwards, as NeMo's multiplexer does; speed perturbation comes before the filter, as in NeMo.

    Args:
        sources: the corpora of the blend.
        num_buckets: B; fewer buckets come out where the data has fewer distinct durations.
        min_duration: shorter cuts are left out, s.
        max_duration: longer cuts are left out, s (one that is just as long stays).
        perturb_speed: whether copies at 0.9 and 1.1 times the speed are drawn too.

    Returns:
        ``bucket_duration_bins`` (s, strictly ascending, at most B - 1), ``buckets`` with their share of the audio time,
        and for each source the utterances and seconds in, kept and left out.

    Raises:
        UserError: the filter leaves nothing of a source.
    """
    if not sources:
        raise ValueError("a blend has at least one source")
    total = sum(source.share for source in sources)
    durations, chances, accounts = [], [], []
    for source in sources:
        kept, account = _filtered(source, min_duration, max_duration, perturb_speed)
        durations.append(kept.values)
        drawn = source.durations.utterances * (len(SPEEDS) if perturb_speed else 1)
        chances.append(source.share / total / drawn * kept.counts)
        accounts.append(account | {"weight": source.share / total})
    values, mass = _histogram(np.concatenate(durations), np.concatenate(chances))
    starts = bucket_starts(values, mass, num_buckets)
    seconds = np.add.reduceat(mass, starts)
    edges = [round(float(value), 6) for value in values[starts]]
    ends = [*edges[1:], float(values[-1])]
    return {
        "bucket_duration_bins": edges[1:],
        "num_buckets": len(edges),
        "requested_buckets": num_buckets,
        "buckets": [
            {"from_s": low, "to_s": high, "share_of_audio": round(float(part / seconds.sum()), 6)}
            for low, high, part in zip(edges, ends, seconds, strict=True)
        ],
        "sources": accounts,
    }


def _filtered(
    source: Source, shortest: float | None, longest: float | None, perturb_speed: bool
) -> tuple[Durations, dict[str, Any]]:
    given = source.durations
    copies = given.at_speeds(SPEEDS) if perturb_speed else given
    short = copies.values < (shortest if shortest is not None else 0.0)
    long = copies.values > (longest if longest is not None else np.inf)
    kept = copies.where(~short & ~long)
    if not kept.utterances:
        raise UserError(
            f"{source.name}: min_duration and max_duration leave none of its {given.utterances} utterances, which last"
            f" {given.values[0]:.2f} to {given.values[-1]:.2f} s: change train_ds.min_duration or train_ds.max_duration"
        )
    copies_of_each = len(SPEEDS) if perturb_speed else 1
    account = {
        "name": source.name,
        "utterances": given.utterances,
        "seconds": round(given.seconds, 6),
        "kept": {"utterances": kept.utterances / copies_of_each, "seconds": round(kept.seconds / copies_of_each, 6)},
        "too_short": copies.where(short).utterances / copies_of_each,
        "too_long": copies.where(long).utterances / copies_of_each,
    }
    return kept, account


def _histogram(durations: np.ndarray, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct durations (s, ascending) and the expected audio (s per draw) at each."""
    # 1 us: far below a sample, so that equal lengths that were computed differently are one.
    values, index = np.unique(np.round(durations, 6), return_inverse=True)
    return values, np.bincount(index, weights=chances * durations, minlength=len(values))


def bucket_starts(values: np.ndarray, mass: np.ndarray, num_buckets: int) -> np.ndarray:
    """Cut V ascending ``values`` into min(B, V) runs of nearly equal ``mass``; return where each run starts.

    Greedy: each bucket takes values until it has its part of what is left, so that one duration that outweighs a
    whole bucket shifts the later edges instead of repeating one. An edge belongs to the bucket above it, as in
    ``estimate_duration_buckets`` of Lhotse, which NeMo's ``bucket_duration_bins`` expects.

    >>> bucket_starts(np.array([1.0, 2.0, 3.0]), np.array([98.0, 1.0, 1.0]), 3).tolist()
    [0, 1, 2]
    """
    cumulative = np.concatenate([[0.0], np.cumsum(mass)])
    count = min(num_buckets, len(values))
    starts = [0]
    for left in range(count - 1, 0, -1):  # buckets still to come after the current one
        start = starts[-1]
        target = cumulative[start] + (cumulative[-1] - cumulative[start]) / (left + 1)
        end = int(np.searchsorted(cumulative, target))
        if end > start + 1 and target - cumulative[end - 1] < cumulative[end] - target:
            end -= 1  # the edge before comes closer to the target
        starts.append(min(max(end, start + 1), len(values) - left))
    return np.array(starts)


def describe(plan: dict[str, Any]) -> str:
    """Return one line for the log: buckets, and utterances in and out of every source."""
    parts = [
        f"{source['name']} (weight {source['weight']:.3f}): {source['utterances']} utterances,"
        f" {source['seconds'] / 3600:.3f} h in;"
        f" {source['kept']['utterances']:g}, {source['kept']['seconds'] / 3600:.3f} h out;"
        f" too short {source['too_short']:g}, too long {source['too_long']:g}"
        for source in plan["sources"]
    ]
    return f"{plan['num_buckets']} of {plan['requested_buckets']} buckets; " + "; ".join(parts)
