"""What became of every utterance, in utterances and seconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nuptse.errors import write_atomically
from nuptse.jsonl import read_json


@dataclass
class Amount:
    """Utterances and their audio in seconds."""

    utterances: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.utterances += 1
        self.seconds += seconds

    def include(self, other: Amount) -> None:
        self.utterances += other.utterances
        self.seconds += other.seconds

    def __str__(self) -> str:
        return f"{self.utterances} utterances, {self.seconds / 3600:.3f} h"


@dataclass
class Histogram:
    """How many utterances have a duration in ``[bin * width_s, (bin + 1) * width_s)``, by bin."""

    width_s: float = 0.1
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, seconds: float) -> None:
        # Rounded to 1 ns first: 0.3 / 0.1 is 2.9999999999999996.
        number = int(round(seconds / self.width_s, 9))
        self.counts[number] = self.counts.get(number, 0) + 1

    def sort(self) -> None:
        self.counts = dict(sorted(self.counts.items()))


@dataclass
class Ledger:
    """What became of every supervision of a split.

    ``taken`` = ``kept`` + all of ``dropped`` + all of ``quarantined``, in utterances. In seconds ``trimmed`` comes in
    addition: what stood beyond the end of a recording. ``quarantined`` is bad audio that the configuration wants left
    out, and what the import left out (0 s where nobody knows). ``histogram`` is of ``kept``.
    ``other_splits`` is what the same parts of the source gave to the other splits; it is not in ``taken``.
    ``removed_characters`` counts what the steps ``keep`` of the text profile took out.
    """

    corpus: str
    split: str
    taken: Amount = field(default_factory=Amount)
    kept: Amount = field(default_factory=Amount)
    dropped: dict[str, Amount] = field(default_factory=dict)
    quarantined: dict[str, Amount] = field(default_factory=dict)
    trimmed: Amount = field(default_factory=Amount)
    other_splits: Amount = field(default_factory=Amount)
    unused_recordings: int = 0
    removed_characters: dict[str, int] = field(default_factory=dict)
    histogram: Histogram = field(default_factory=Histogram)

    def keep(self, seconds: float) -> None:
        self.kept.add(seconds)
        self.histogram.add(seconds)

    def drop(self, reason: str, seconds: float) -> None:
        self.dropped.setdefault(reason, Amount()).add(seconds)

    def quarantine(self, reason: str, seconds: float) -> None:
        self.quarantined.setdefault(reason, Amount()).add(seconds)

    def remarks(self, left_out: Mapping[str, Amount]) -> list[str]:
        """Return a warning for each reason in ``left_out`` that took over half of the split, in utterances or hours."""
        return [
            f"{self.corpus}/{self.split}: {amount} of {self.taken} are left out: {reason}"
            for reason, amount in left_out.items()
            if amount.utterances > self.taken.utterances / 2 or amount.seconds > self.taken.seconds / 2
        ]

    def __str__(self) -> str:
        left_out = [f"dropped, {reason}: {amount}" for reason, amount in self.dropped.items()] or ["dropped: 0"]
        left_out += [f"quarantined, {reason}: {amount}" for reason, amount in self.quarantined.items()]
        return f"{self.corpus}/{self.split}: in: {self.taken}; out: {self.kept}; {'; '.join(left_out)}"

    def write(self, path: Path) -> None:
        """Write the ledger to ``path``, JSON."""
        with write_atomically(path) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Return the ledger that :meth:`write` wrote."""
        return read_json(path, cls)
