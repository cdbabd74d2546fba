"""How many utterances last how long: a histogram that is exact, small, and adds up over corpora."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from nuptse.errors import UserError, make_again, write_atomically
from nuptse.jsonl import read_rows

# Durations that are counted together: 8 MB.
BATCH = 1 << 20


class _Cut(msgspec.Struct):
    duration: float


@dataclass(frozen=True)
class Durations:
    """The durations of N utterances.

    Attributes:
        values: the V distinct durations, s, as they stand in the manifest; float64, (V,), ascending.
        counts: how many utterances have each; int64, (V,).
    """

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, durations: Sequence[float] | np.ndarray) -> Durations:
        """Count durations (s) in any order."""
        return cls(*np.unique(np.asarray(durations, dtype=np.float64), return_counts=True))

    @property
    def utterances(self) -> int:
        return int(self.counts.sum())

    @property
    def seconds(self) -> float:
        # Not `values @ counts`: the last bits of that depend on the number of threads.
        return float((self.values * self.counts).sum())

    def merged(self, other: Durations) -> Durations:
        """Return the durations of both."""
        values, place = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(len(values), dtype=np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Durations(values, counts)

    def at_speeds(self, speeds: Sequence[float]) -> Durations:
        """Return the durations of a copy at each speed, in no order."""
        return Durations(np.concatenate([self.values / speed for speed in speeds]), np.tile(self.counts, len(speeds)))

    def where(self, chosen: np.ndarray) -> Durations:
        """Return those of the chosen values; bool, (V,)."""
        return Durations(self.values[chosen], self.counts[chosen])


def count_durations(cuts: Path) -> Durations:
    """Count the durations of the cuts in a manifest, a batch at a time."""
    rows = (cut.duration for cut in read_rows(cuts, _Cut))
    counted = Durations.of([])
    while len(batch := np.fromiter(islice(rows, BATCH), dtype=np.float64)):
        counted = counted.merged(Durations.of(batch))
    return counted


def save_durations(durations: Durations, path: Path) -> None:
    """Write the histogram as NPZ; equal durations give equal bytes."""
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, values=durations.values, counts=durations.counts)


def load_durations(path: Path) -> Durations:
    """Read what ``save_durations`` wrote.

    Raises:
        UserError: the file cannot be read or is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Durations(arrays["values"], arrays["counts"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds no durations ({error}); {make_again(path)}") from error
