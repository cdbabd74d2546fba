"""What the error rates say: what each split may be used for, which model is best in it, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nuptse.formats import NONE, SPACE, is_number, percent, points, span
from nuptse.results import Run, Split

SELECTION, WATCHED, TEST = "selection", "watched", "test"
ROLES = {
    TEST: "test: nothing was chosen on it",
    SELECTION: "validation: checkpoints were chosen on it",
    WATCHED: "validation: watched in training, nothing was chosen on it",
}


def split_name(split: Split) -> str:
    return "/".join(split)


def role(run: Run, split: Split) -> str:
    """Return what a split was used for; whatever chose a checkpoint of one experiment is no test for the others."""
    experiments = run.settings["experiments"].values()
    validation = [[(entry["corpus"], entry["split"]) for entry in e["validation"]] for e in experiments]
    if any(splits[0] == split for splits in validation):
        return SELECTION
    return WATCHED if any(split in splits for splits in validation) else TEST


def ordered_splits(run: Run) -> list[Split]:
    """Return the splits that were transcribed, tests first: they are what counts."""
    roles = list(ROLES)
    return sorted(run.splits, key=lambda split: roles.index(role(run, split)))


def lowest(run: Run, split: Split) -> list[str]:
    """Return the recognisers with the lowest WER of a split, base models too: several if theirs is the same."""
    table = run.table
    rows = table[(table["corpus"] == split[0]) & (table["split"] == split[1])]
    return list(rows.loc[rows["wer"] == rows["wer"].min(), "recogniser"])


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a and 2 others')
    """
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others"


@dataclass(frozen=True)
class Comparison:
    """A paired difference in WER: ``difference`` = that of ``recogniser`` minus that of ``other``, shares."""

    recogniser: str
    other: str
    with_base: bool
    split: Split
    wer: float
    other_wer: float
    difference: float
    low: float
    high: float
    p_value: float
    units: str
    num_units: int

    @property
    def has_interval(self) -> bool:
        """Whether there are utterances enough to say how sure the difference is."""
        return is_number(self.low)

    @property
    def by_chance(self) -> bool:
        """Whether the interval has zero in it, or there is none."""
        return not (self.low > 0 or self.high < 0)

    def swapped(self) -> Comparison:
        """The same, seen from the other recogniser."""
        numbers = (self.other_wer, self.wer, -self.difference, -self.high, -self.low, self.p_value)
        return Comparison(self.other, self.recogniser, self.with_base, self.split, *numbers, self.units, self.num_units)

    @property
    def words(self) -> str:
        """Difference and interval in points."""
        interval = f" ({points(self.low)} to {points(self.high)})" if self.has_interval else ""
        return f"{points(self.difference)} points{interval}"


def comparisons(run: Run) -> Iterator[Comparison]:
    for row in run.comparisons.itertuples():
        found: Any = row
        split = (found.corpus, found.split)
        numbers = (found.wer, found.other_wer, found.difference, found.difference_low, found.difference_high)
        units = (found.p_value, found.units, int(found.num_units))
        yield Comparison(found.recogniser, found.compared_with, found.kind == "base", split, *numbers, *units)


@dataclass(frozen=True)
class Verdict:
    """The best fine-tune of a split; its base may be better still.

    Attributes:
        best: the experiments with the lowest WER; several if theirs is the same.
        wer: of these; ``low`` and ``high`` of the first.
        one_base: whether all of ``best`` come from the same base.
        against_base: how they differ from it; None if it was not scored here, or there are several.
        rivals: the other experiments, from whom the first does not differ beyond chance.
    """

    split: Split
    role: str
    best: list[str]
    wer: float
    low: float
    high: float
    one_base: bool
    against_base: Comparison | None
    rivals: list[Comparison]

    @property
    def names(self) -> str:
        """Who is best, several if their rate is the same."""
        return listed(self.best)

    @property
    def sentence(self) -> str:
        """Who is best, and how sure that is."""
        names, verb = self.names, "is" if len(self.best) == 1 else "are"
        if not self.one_base:
            return f"{names} {verb} best, and come from different bases."
        if not (compared := self.against_base):
            return f"{names} {verb} best; the base was not scored here."
        if compared.difference >= 0:
            return f"{names} {verb} best, yet no better than {compared.other}."
        interval = span(-compared.high, -compared.low)
        sure = f" (95{SPACE}% interval {interval})" if interval else ""
        fewer = points(-compared.difference).lstrip("+")
        return f"{names} {verb} best, {fewer} points below {compared.other}{sure}."

    @property
    def caution(self) -> str:
        """What keeps the lead from being certain."""
        parts = []
        if self.against_base and self.against_base.difference < 0 and self.against_base.by_chance:
            within = "The gain over the base is within chance."
            parts.append(within if self.against_base.has_interval else "Too few utterances to say how sure that is.")
        if self.rivals:
            names = ", ".join(rival.other for rival in self.rivals)
            parts.append(f"Within chance of it: {names}.")
        return " ".join(parts)


def verdict(run: Run, split: Split) -> Verdict | None:
    """Return the verdict of a split, None where no experiment has an error rate."""
    table = run.table
    rows = table[(table["corpus"] == split[0]) & (table["split"] == split[1]) & (table["kind"] == "experiment")]
    rows = rows[rows["wer"].notna()]
    if rows.empty:
        return None
    leading = rows[rows["wer"] == rows["wer"].min()]
    best = list(leading["recogniser"])
    here = [found for found in comparisons(run) if found.split == split]
    views = [found if found.recogniser == best[0] else found.swapped() for found in here]
    mine = [found for found in views if found.recogniser == best[0]]
    rivals = [found for found in mine if not found.with_base and found.by_chance and found.other not in best]
    first: Any = leading.iloc[0]
    one_base = len({run.bases[name] for name in best}) == 1
    return Verdict(
        split=split,
        role=role(run, split),
        best=best,
        wer=float(first.wer),
        low=float(first.wer_low),
        high=float(first.wer_high),
        one_base=one_base,
        against_base=next((found for found in mine if found.with_base), None) if one_base else None,
        rivals=sorted(rivals, key=lambda rival: (rival.other_wer, rival.other)),
    )


def headline(run: Run) -> str:
    """Return one sentence on the first test split, or on the first split if nothing is left for a test."""
    for split in ordered_splits(run):
        if found := verdict(run, split):
            return f"On {split_name(split)}, {_outcome(run, found)}"
    return f"No word error rate could be measured ({NONE})."


def _outcome(run: Run, found: Verdict) -> str:
    compared = found.against_base
    if compared is None:
        return f"the best fine-tune has a word error rate of {percent(found.wer)}."
    if compared.difference < 0:
        rates = f"from {percent(compared.other_wer)} down to {percent(found.wer)}"
        return f"the best fine-tune brings the word error rate {rates}."
    # The best is not all: another may have started from a base that is worse.
    pairs = [pair for pair in comparisons(run) if pair.split == found.split and pair.with_base]
    if helped := [pair.recogniser for pair in pairs if pair.difference < 0]:
        others = (
            f"{helped[0]} is better than its own"
            if len(helped) == 1
            else f"{len(helped)} others are better than theirs"
        )
        return f"the best fine-tune is no better than its base model, but {others}."
    table = run.table
    here = (table["corpus"] == found.split[0]) & (table["split"] == found.split[1]) & (table["kind"] == "experiment")
    every = "" if here.sum() == len(pairs) else " that was compared"
    return f"no fine-tune{every} is better than its base model."
