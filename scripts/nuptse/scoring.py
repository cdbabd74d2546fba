"""Word and character errors of a recogniser: one alignment and one set of counts for every model.

WER = (S + D + I) / N over all utterances of a set together (a micro average): it may exceed 1. Alignments come from
kaldialign, which NeMo counts with too, at cost 1 for each substitution, deletion and insertion.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from kaldialign import align, edit_distance

from nuptse.bootstrap import LEVEL, RESAMPLES, confidence_interval, resampling_units
from nuptse.errors import UserError, make_again, write_atomically

# Stands in an alignment for the word that one side lacks. No word is empty, so it cannot be taken for one.
GAP = ""
LISTED = 20  # worst utterances, confusions


class Transcript(msgspec.Struct):
    """One line of a transcript file; keys that are not here are ignored.

    Attributes:
        id: of the utterance, unique in its file.
        duration: s.
        text: the reference.
        pred_text: the hypothesis.
        speaker: None if unknown.
    """

    id: str
    duration: float
    text: str
    pred_text: str
    speaker: str | None = None


class Counts(NamedTuple):
    """Words or characters: ``length`` of the reference = hits + substitutions + deletions."""

    length: int = 0
    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors by length, 0 or more; None without a reference."""
        return self.errors / self.length if self.length else None


def add_up(counts: Iterable[Counts]) -> Counts:
    return Counts(*map(sum, zip(*counts, strict=True)))


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """Errors of one utterance; reference and hypothesis as they were compared, that is, after the normaliser."""

    id: str
    duration_s: float
    speaker: str | None
    reference: str
    hypothesis: str
    words: Counts
    characters: Counts


def _whisper_english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


NORMALIZERS: dict[str, Callable[[], Callable[[str], str]]] = {
    "none": lambda: str,
    "lower": lambda: str.lower,
    "whisper_english": _whisper_english,
}


def make_normalizer(name: str) -> Callable[[str], str]:
    """Return the function that reference and hypothesis go through before they are compared.

    ``none`` changes no word, ``lower`` lowers case, ``whisper_english`` is the English normaliser of A. Radford et al.,
    "Robust speech recognition via large-scale weak supervision", 2022, appendix C: case, punctuation, numbers,
    contractions, British spelling, fillers. After each, words are separated by one space and outer spaces are gone.

    Raises:
        UserError: there is no normaliser of this name.
    """
    if name not in NORMALIZERS:
        raise UserError(f"there is no normaliser {name!r}: choose one of {', '.join(NORMALIZERS)}")
    normalize = NORMALIZERS[name]()
    return lambda text: " ".join(normalize(text).split())


def align_words(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """Return (reference word, hypothesis word) in order; ``GAP`` on the left is an insertion, on the right a deletion.

    >>> align_words("a b c", "a s x c")
    [('a', 'a'), ('b', 's'), ('', 'x'), ('c', 'c')]
    """
    pairs: list[tuple[str, str]] = align(reference.split(), hypothesis.split(), GAP)
    return pairs


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    """Count the errors of a shortest alignment of two sequences of words, or of two strings of characters."""
    found: dict[str, int] = edit_distance(reference, hypothesis)
    length, substitutions, deletions = len(reference), found["sub"], found["del"]
    return Counts(length, length - substitutions - deletions, substitutions, deletions, found["ins"])


def score_utterances(rows: Iterable[Transcript], normalizer: str) -> list[UtteranceScore]:
    """Return the errors of each utterance, in the order of ``rows``.

    Words are what white space separates. Characters include the one space between two words, as in NeMo's
    ``word_error_rate(use_cer=True)``; spaces beyond that one count there and not here.

    Args:
        rows: transcripts of one set.
        normalizer: a name in ``NORMALIZERS``.

    Raises:
        UserError: unknown normaliser, or an id occurs twice.
    """
    normalize = make_normalizer(normalizer)
    scores: dict[str, UtteranceScore] = {}
    for row in rows:
        if row.id in scores:
            raise UserError(
                f"utterance {row.id!r} occurs twice in the transcripts: make them anew, each utterance once"
            )
        reference, hypothesis = normalize(row.text), normalize(row.pred_text)
        words = count_errors(reference.split(), hypothesis.split())
        characters = count_errors(reference, hypothesis)
        scores[row.id] = UtteranceScore(row.id, row.duration, row.speaker, reference, hypothesis, words, characters)
    return list(scores.values())


def worst_utterances(scores: Iterable[UtteranceScore], count: int = LISTED) -> list[UtteranceScore]:
    """Return up to ``count`` utterances with errors: most word errors first, ties by id."""
    wrong = (score for score in scores if score.words.errors)
    return heapq.nsmallest(count, wrong, key=lambda score: (-score.words.errors, score.id))


def count_mistakes(scores: Iterable[UtteranceScore]) -> tuple[Counter[tuple[str, str]], Counter[str], Counter[str]]:
    """Count confused pairs (reference word, hypothesis word), deleted words and inserted words of all utterances."""
    confused: Counter[tuple[str, str]] = Counter()
    deleted: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for score in scores:
        if not score.words.errors:
            continue
        for reference, hypothesis in align_words(score.reference, score.hypothesis):
            if hypothesis == GAP:
                deleted[reference] += 1
            elif reference == GAP:
                inserted[hypothesis] += 1
            elif reference != hypothesis:
                confused[reference, hypothesis] += 1
    return confused, deleted, inserted


def summarize_set(
    scores: Sequence[UtteranceScore], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Return what is reported of a set: counts, rates with intervals, where and what the errors are.

    Everything in it is JSON. Durations are in s but for ``hours``; rates are shares, not percent, and None (null) where
    no reference word is. ``per_utterance`` holds columns, for a paired comparison of recognisers, and ``references``
    tells whether others were scored on the same.
    """
    speakers = [score.speaker for score in scores]
    units, num_units = resampling_units(speakers, len(scores))
    confused, deleted, inserted = count_mistakes(scores)
    return {
        "utterances": len(scores),
        "hours": sum(score.duration_s for score in scores) / 3600,
        "speakers": len(set(speakers)) if scores and None not in speakers else None,
        "references": references_checksum(scores),
        "words": _with_interval([score.words for score in scores], speakers, level, resamples, seed),
        "characters": _with_interval([score.characters for score in scores], speakers, level, resamples, seed),
        "bootstrap": {"level": level, "resamples": resamples, "seed": seed, "units": units, "num_units": num_units},
        "by_duration": by_duration(scores),
        "by_speaker": by_speaker(scores),
        "confusions": [[*pair, count] for pair, count in _most_frequent(confused)],
        "deleted": [[word, count] for word, count in _most_frequent(deleted)],
        "inserted": [[word, count] for word, count in _most_frequent(inserted)],
        "worst": [_describe(score) for score in worst_utterances(scores)],
        "per_utterance": {
            "id": [score.id for score in scores],
            "speaker": speakers,
            "duration_s": [score.duration_s for score in scores],
            "words": [score.words.length for score in scores],
            "errors": [score.words.errors for score in scores],
            "substitutions": [score.words.substitutions for score in scores],
            "deletions": [score.words.deletions for score in scores],
            "insertions": [score.words.insertions for score in scores],
            "characters": [score.characters.length for score in scores],
            "character_errors": [score.characters.errors for score in scores],
        },
    }


def references_checksum(scores: Iterable[UtteranceScore]) -> str:
    """Return the SHA-256 of the ids and references, after the normaliser, hexadecimal; their order does not matter."""
    checksum = hashlib.sha256()
    for score in sorted(scores, key=attrgetter("id")):
        checksum.update(msgspec.json.encode([score.id, score.reference]))
    return checksum.hexdigest()


def by_duration(scores: Sequence[UtteranceScore]) -> list[dict[str, Any]]:
    """Return the errors in each quartile of duration, the shortest first; fewer parts where durations are alike."""
    if not scores:
        return []
    durations = np.array([score.duration_s for score in scores])
    # A duration that equals an edge belongs below it.
    part = np.searchsorted(np.quantile(durations, [0.25, 0.5, 0.75]), durations, side="left")
    return [
        {"from_s": float(durations[part == number].min()), "to_s": float(durations[part == number].max())}
        | _totals([scores[index] for index in np.flatnonzero(part == number).tolist()])
        for number in np.unique(part)
    ]


def by_speaker(scores: Sequence[UtteranceScore]) -> list[dict[str, Any]]:
    """Return the errors of each speaker, by name; those of unknown speakers last, and nothing if none is known."""
    if all(score.speaker is None for score in scores):
        return []
    groups: dict[str | None, list[UtteranceScore]] = {}
    for score in scores:
        groups.setdefault(score.speaker, []).append(score)
    names = sorted(groups, key=lambda name: (name is None, name or ""))
    return [{"speaker": name} | _totals(groups[name]) for name in names]


def _totals(scores: Sequence[UtteranceScore]) -> dict[str, Any]:
    words = add_up(score.words for score in scores)
    return {"utterances": len(scores), "words": words.length, "errors": words.errors, "wer": words.rate}


def _with_interval(
    counts: Sequence[Counts], speakers: Sequence[str | None], level: float, resamples: int, seed: int
) -> dict[str, Any]:
    errors, lengths = [count.errors for count in counts], [count.length for count in counts]
    bounds = confidence_interval(errors, lengths, speakers, level=level, resamples=resamples, seed=seed)
    low, high = (None if np.isnan(bound) else bound for bound in bounds)
    total = add_up(counts)
    return total._asdict() | {"errors": total.errors, "rate": total.rate, "low": low, "high": high}


def _describe(score: UtteranceScore) -> dict[str, Any]:
    return (
        {"id": score.id, "speaker": score.speaker, "duration_s": score.duration_s}
        | score.words._asdict()
        | {"errors": score.words.errors, "wer": score.words.rate}
        | {"reference": score.reference, "hypothesis": score.hypothesis}
        | {"alignment": align_words(score.reference, score.hypothesis)}
    )


def _most_frequent(counter: Counter[Any]) -> list[tuple[Any, int]]:
    """Ties in alphabetical order, so that the order of utterances does not matter."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:LISTED]


def read_timing(path: Path) -> dict[str, Any]:
    """Return what a transcriber says of its decoding, with ``rtf`` = ``seconds`` / ``audio_seconds`` added.

    ``seconds`` is wall time, so rtf 0.1 is ten times faster than speech; None where there was no audio.

    Raises:
        UserError: the file is missing, or no JSON object with both numbers.
    """
    try:
        timing: dict[str, Any] = json.loads(path.read_text("utf-8"))
        seconds, audio_seconds = float(timing["seconds"]), float(timing["audio_seconds"])
    except (ValueError, KeyError, TypeError):
        wanted = "a JSON object with the numbers `seconds` and `audio_seconds`"
        raise UserError(f"{path} should be {wanted}: {make_again(path)}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {make_again(path)}") from None
    return timing | {"rtf": seconds / audio_seconds if audio_seconds > 0 else None}


def write_scores(path: Path, scores: Mapping[str, Any]) -> None:
    """Write ``scores`` as JSON with one key a line, which is easy to search and still small."""
    lines = [f"{json.dumps(key)}: {msgspec.json.encode(value).decode()}" for key, value in scores.items()]
    with write_atomically(path) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
