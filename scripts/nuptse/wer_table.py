"""Error rates of all recognisers on all sets: scores on disk, the table, the comparisons, the warnings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import pandas as pd

from nuptse.bootstrap import LEVEL, RESAMPLES, paired_difference, resampling_units
from nuptse.errors import UserError, make_again, write_atomically


class Rates(msgspec.Struct):
    """Errors on the words, or characters, of a set; rates are shares, None without a reference."""

    length: int
    substitutions: int
    deletions: int
    insertions: int
    rate: float | None
    low: float | None
    high: float | None


class Utterances(msgspec.Struct):
    """Columns of equal length N, one entry for each utterance."""

    id: list[str]
    speaker: list[str | None]
    words: list[int]
    errors: list[int]
    characters: list[int]


class Scores(msgspec.Struct):
    """What score_wer.py says of one recogniser on one set, as far as the tables need it.

    Attributes:
        references: of :func:`nuptse.scoring.references_checksum`; None in files from before there was one.
        file: where it stands; is filled in by :func:`read_scores`.
    """

    recogniser: str
    corpus: str
    split: str
    normalizer: str
    utterances: int
    hours: float
    words: Rates
    characters: Rates
    timing: dict[str, Any] | None
    per_utterance: Utterances
    references: str | None = None
    file: str = ""

    @property
    def set(self) -> str:
        return f"{self.corpus}/{self.split}"


class Named(Protocol):
    """Scores of one recogniser on one set, whatever else is known of them."""

    recogniser: str
    corpus: str
    split: str


AnyScores = TypeVar("AnyScores", bound=Named)


# --- files ---


def write_tsv(table: pd.DataFrame, path: Path) -> None:
    """Write ``table`` with a header, six significant digits, and nothing where a value is missing."""
    with write_atomically(path) as partial:
        table.to_csv(partial, sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def parse_bases(pairs: Iterable[str]) -> dict[str, str]:
    """Return experiment -> base model from ``EXPERIMENT=BASE`` texts.

    Raises:
        UserError: a text is of another form, or an experiment occurs twice.
    """
    bases: dict[str, str] = {}
    for pair in pairs:
        experiment, equals, base = pair.partition("=")
        if not (experiment and equals and base):
            raise UserError(f"--base {pair!r} should be EXPERIMENT=BASE, as in `--base cutset=base_model`")
        if experiment in bases:
            raise UserError(f"--base names the experiment {experiment!r} twice: an experiment has one base model")
        bases[experiment] = base
    return bases


def read_scores(
    paths: Iterable[Path], bases: Mapping[str, str], same_data: Iterable[Sequence[str]] = ()
) -> list[Scores]:
    """Return the scores in ``paths``, in order.

    Raises:
        UserError: a file is no output of score_wer.py; two are of one recogniser and set; a recogniser that ``bases``
            or ``same_data`` names has none, or ``same_data`` names one that is no experiment.
    """
    found: dict[tuple[str, str, str], Scores] = {}
    for path in paths:
        try:
            scores = msgspec.json.decode(path.read_bytes(), type=Scores)
        except msgspec.DecodeError as error:
            raise UserError(f"{path} is no output of score_wer.py: {error}; {make_again(path)}") from None
        key = (scores.recogniser, scores.corpus, scores.split)
        if key in found:
            raise UserError(
                f"{path} and {found[key].file} both score {scores.recogniser} on {scores.set}: give one of them"
            )
        scores.file = str(path)
        found[key] = scores
    recognisers = {scores.recogniser for scores in found.values()}
    for experiment, base in bases.items():
        for name in (experiment, base):
            if name not in recognisers:
                raise UserError(
                    f"--base {experiment}={base}: no score file is of {name!r}, only of {_list(sorted(recognisers))}"
                )
    for group in same_data:
        if unknown := [name for name in group if name not in bases]:
            raise UserError(
                f"--same-data {','.join(group)}: {_list(unknown)} not among the experiments that --base names"
            )
    return list(found.values())


# --- tables ---


def tabulate(scores: Iterable[Scores], bases: Mapping[str, str]) -> pd.DataFrame:
    """Return one row for each recogniser and set: sets in the order of ``scores``, base models before experiments."""
    rows = [
        {
            "recogniser": s.recogniser,
            "kind": "experiment" if s.recogniser in bases else "base",
            "corpus": s.corpus,
            "split": s.split,
            "normalizer": s.normalizer,
            "wer": s.words.rate,
            "wer_low": s.words.low,
            "wer_high": s.words.high,
            "cer": s.characters.rate,
            "cer_low": s.characters.low,
            "cer_high": s.characters.high,
            "substitutions": s.words.substitutions,
            "deletions": s.words.deletions,
            "insertions": s.words.insertions,
            "utterances": s.utterances,
            "words": s.words.length,
            "hours": s.hours,
            "rtf": (s.timing or {}).get("rtf"),
            "seconds": (s.timing or {}).get("seconds"),
        }
        for group in _by_set(scores).values()
        for s in sorted(group, key=lambda s: s.recogniser in bases)
    ]
    table = pd.DataFrame(rows)
    floats = ["wer", "wer_low", "wer_high", "cer", "cer_low", "cer_high", "hours", "rtf", "seconds"]
    return table.astype(dict.fromkeys(floats, "float64"))


COMPARISON_COLUMNS = [
    *("recogniser", "compared_with", "kind", "corpus", "split", "wer", "other_wer"),
    *("difference", "difference_low", "difference_high", "p_value", "units", "num_units"),
]


def compare(
    scores: Iterable[Scores],
    bases: Mapping[str, str],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the paired difference in WER of each experiment and its base, and of each two experiments, on each set.

    ``difference`` = ``wer`` of ``recogniser`` minus ``other_wer`` of ``compared_with``, as shares; ``kind`` is ``base``
    or ``experiment`` for the latter. Only sets that both were scored on are compared.

    Raises:
        UserError: two score files of one set are of different utterances, normalisers or references. Where one of
            them has no checksum of its references, those of the same lengths pass.
    """
    rows = []
    for s, other, kind in pairs_of(scores, bases):
        errors, other_errors, words, speakers = _paired(s, other)
        found = paired_difference(errors, other_errors, words, speakers, level=level, resamples=resamples, seed=seed)
        names = (s.recogniser, other.recogniser, kind, s.corpus, s.split)
        numbers = (s.words.rate, other.words.rate, found.difference, found.low, found.high, found.p_value)
        rows.append((*names, *numbers, *resampling_units(speakers, len(words))))
    table = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    return table.astype(dict.fromkeys(COMPARISON_COLUMNS[5:11], "float64"))


def pairs_of(scores: Iterable[AnyScores], bases: Mapping[str, str]) -> Iterator[tuple[AnyScores, AnyScores, str]]:
    """Yield what is compared, set by set: each experiment and its base, each two experiments, and which of the two."""
    for group in _by_set(scores).values():
        experiments = [s for s in group if s.recogniser in bases]
        for s in experiments:
            yield from ((s, other, "base") for other in group if other.recogniser == bases[s.recogniser])
        yield from ((s, other, "experiment") for s, other in combinations(experiments, 2))


def _paired(a: Scores, b: Scores) -> tuple[Any, Any, Any, list[str | None]]:
    """Errors of both, words and speakers, the utterances in the order of the first."""
    where = f"{a.recogniser} and {b.recogniser} cannot be compared on {a.set}"
    if a.normalizer != b.normalizer:
        raise UserError(f"{where}: their normalisers are {a.normalizer!r} and {b.normalizer!r}; score both with one")
    first, second = a.per_utterance, b.per_utterance
    places = {name: place for place, name in enumerate(second.id)}
    if only := sorted(places.keys() ^ set(first.id)):
        raise UserError(
            f"{where}: {len(only)} utterances are of one only, such as {only[0]!r}; transcribe all with both"
        )
    order = [places[name] for name in first.id]
    words, characters = np.array(first.words), np.array(first.characters)
    others = np.array(second.words)[order], np.array(second.characters)[order]
    remedy = f"between {a.file} and {b.file}; transcribe the same manifest with both, and score both again"
    if (differ := np.flatnonzero((words != others[0]) | (characters != others[1]))).size:
        raise UserError(f"{where}: the reference of {first.id[differ[0]]!r} differs {remedy}")
    if a.references and b.references and a.references != b.references:
        raise UserError(f"{where}: the references differ, in words of the same lengths, {remedy}")
    return np.array(first.errors), np.array(second.errors)[order], words, first.speaker


def _by_set(scores: Iterable[AnyScores]) -> dict[tuple[str, str], list[AnyScores]]:
    groups: dict[tuple[str, str], list[AnyScores]] = {}
    for s in scores:
        groups.setdefault((s.corpus, s.split), []).append(s)
    return groups


# --- for the eye ---


def percent(share: float | None, form: str = ".2f", unit: str = " %") -> str:
    """Return a share as a text in percent, or ``-`` where there is none."""
    return "-" if share is None or np.isnan(share) else f"{100 * share:{form}}{unit}"


def readable(table: pd.DataFrame) -> str:
    """Return a table of :func:`tabulate` for the terminal: a block for each set."""
    width = max(map(len, table["recogniser"]), default=0)
    lines = []
    for (corpus, split), rows in table.groupby(["corpus", "split"], sort=False):
        first = rows.iloc[0]
        lines.append(f"{corpus}/{split}: {first.utterances} utterances, {first.words} words, {first.hours:.2f} hours")
        for row in _records(rows):
            wer = f"WER {percent(row.wer):>8} ({percent(row.wer_low)} to {percent(row.wer_high)})"
            cer = f"CER {percent(row.cer):>8} ({percent(row.cer_low)} to {percent(row.cer_high)})"
            lines.append(f"  {row.recogniser:<{width}}  {row.kind:<10}  {wer:<36}  {cer}")
    return "\n".join(lines)


def warnings_for(
    comparisons: pd.DataFrame, bases: Mapping[str, str], same_data: Iterable[Sequence[str]] = ()
) -> Iterator[str]:
    """Yield a sentence for each fine-tune that did not help, and each layout that changed what was learnt.

    Args:
        comparisons: of :func:`compare`.
        bases: experiment -> base model.
        same_data: groups of experiments that differ in layout only, so that their error rates should agree.
    """
    same = [set(group) for group in same_data]
    for row in _records(comparisons):
        difference, low, high = (
            percent(points, "+.2f", "") for points in (row.difference, row.difference_low, row.difference_high)
        )
        sure = "" if np.isnan(row.p_value) else f" ({low} to {high}), p = {row.p_value:.2g}"
        numbers = f"{percent(row.wer)} against {percent(row.other_wer)}, difference {difference} points{sure}"
        pair = {row.recogniser, row.compared_with}
        # Equal rates are no improvement either, unless there was nothing to improve.
        if row.kind == "base" and row.difference >= 0 and row.wer > 0:
            verdict = "is worse than" if row.difference_low > 0 else "is not better than"
            yield f"{row.corpus}/{row.split}: {row.recogniser} {verdict} its base {row.compared_with}: {numbers}"
        elif any(pair <= group for group in same) and (row.difference_low > 0 or row.difference_high < 0):
            yield (
                f"{row.corpus}/{row.split}: {row.recogniser} and {row.compared_with} differ in layout only,"
                f" but their WER by more than chance: {numbers}"
            )
    compared = set(zip(comparisons["recogniser"], comparisons["compared_with"], strict=True))
    for experiment, base in bases.items():
        if (experiment, base) not in compared:
            yield f"{experiment} and its base {base} were scored on no common set, so nothing says whether it helped"


def _records(table: pd.DataFrame) -> Iterator[Any]:
    """Rows as named tuples: pandas-stubs cannot know what is in them."""
    return iter(table.itertuples())


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
