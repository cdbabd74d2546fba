"""What the doctor reads of a split: one pass over its cuts, kept as numbers.

A text is read again where it is shown: a finding has three examples, most of them near the start of the manifest.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from nuptse.audio_facts import AudioFacts
from nuptse.audio_problems import AudioLimits, problems_of
from nuptse.base_model import Tokenizer
from nuptse.errors import UserError
from nuptse.findings import Example
from nuptse.jsonl import read_rows
from nuptse.text_measures import CAPITALS, LETTERS, PUNCTUATION, REPEATS, TOKENS, UNKNOWN, WORDS, TextMeasures

EXAMPLES = 3
LISTED_WORDS = 10
SHOWN_TEXT = 80  # characters of a transcript in an example
BATCH = 8192  # utterances that are measured at once


class _Source(msgspec.Struct, gc=False):
    source: str


class _Recording(msgspec.Struct, gc=False):
    sources: list[_Source]


class _Supervision(msgspec.Struct, gc=False):
    recording_id: str = ""
    text: str | None = None
    speaker: str | None = None


class _Cut(msgspec.Struct, gc=False):
    id: str
    start: float
    duration: float
    supervisions: list[_Supervision]
    recording: _Recording | None = None  # shards that are used as they are have none


class Utterance(msgspec.Struct, gc=False):
    """One utterance of a manifest.

    Attributes:
        audio: what tells its audio from other audio: the digest of its samples, else file and start.
        heard: what decoding told of it; None if it was not decoded.
    """

    id: str
    text: str
    speaker: str | None
    audio: str
    duration_s: float
    heard: AudioFacts | None


@dataclass
class BadAudio:
    """The utterances with one problem of their audio, as indices, and the facts of the first ``EXAMPLES``."""

    indices: array[int] = field(default_factory=lambda: array("q"))
    first: list[AudioFacts] = field(default_factory=list)

    def add(self, index: int, facts: AudioFacts) -> None:
        self.indices.append(index)
        if len(self.first) < EXAMPLES:
            self.first.append(facts)


@dataclass
class Survey:
    """The N utterances of a split, in the order of the manifest; some 60 bytes for each. Arrays have the shape (N,).

    Attributes:
        name: ``corpus/split``.
        cuts: the manifest.
        facts: of the audio of these cuts; None if it was not decoded.
        names: of the speakers, in the order of their first utterances.
        capitals, punctuation: how many texts have some; see ``style_findings.Style``.
        unknown: how often each character is unknown to the tokenizer.
        unknown_words: the words that they stand in.
        lost_words: how many words that is; none of them can be recognised.
        sound: checksum of what tells the audio of each utterance from other audio, in this order.
        bad_audio: by the code of the problem, in the order in which they come up.
        ids, texts, audio: hashes of 64 bits, see ``fingerprints``.
        duration_s: float64.
        speakers: places in ``names``, int32; -1: unknown.
        characters: of the text, int32.
        letters: characters that are no spaces, int32.
        words: between spaces of any kind, int32.
        tokens: pieces of the tokenizer, int32; 0 without a tokenizer.
        ctc_frames: encoder frames that CTC needs, int32: the tokens, and one between two equal ones.
        with_unknown: the utterances with a character that is unknown, as indices; int64, (M,).
    """

    name: str
    cuts: Path
    facts: Path | None = None
    names: list[str] = field(default_factory=list)
    capitals: int = 0
    punctuation: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_words: Counter[str] = field(default_factory=Counter)
    lost_words: int = 0
    sound: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)
    bad_audio: dict[str, BadAudio] = field(default_factory=dict)
    ids: np.ndarray = field(init=False)
    texts: np.ndarray = field(init=False)
    audio: np.ndarray = field(init=False)
    duration_s: np.ndarray = field(init=False)
    speakers: np.ndarray = field(init=False)
    characters: np.ndarray = field(init=False)
    letters: np.ndarray = field(init=False)
    words: np.ndarray = field(init=False)
    tokens: np.ndarray = field(init=False)
    ctc_frames: np.ndarray = field(init=False)
    with_unknown: np.ndarray = field(init=False)

    def __len__(self) -> int:
        return len(self.duration_s)

    @property
    def corpus(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_of_shards(self) -> bool:
        """Whether these are shards that are used as they are: the audio of all else is decoded."""
        return self.facts is None

    @property
    def seconds(self) -> float:
        return float(self.duration_s.sum())

    @property
    def unknown_share(self) -> float:
        """Share of the words in which there is a character that the tokenizer does not know."""
        return self.lost_words / max(1, int(self.words.sum(dtype=np.int64)))

    def share_of_hours(self, indices: Sequence[int] | np.ndarray) -> float:
        """Return the share of the audio that these utterances have."""
        return round(float(self.duration_s[np.asarray(indices, dtype=np.int64)].sum()) / max(self.seconds, 1e-9), 6)

    def read(self, indices: Sequence[int] | np.ndarray) -> Iterator[tuple[int, Utterance]]:
        """Read these utterances, whose indices ascend, from the manifest again; yield each with its index."""
        wanted = iter(indices)
        index = next(wanted, None)
        for number, utterance in enumerate(read_utterances(self.cuts, self.facts) if index is not None else ()):
            if number == index:
                yield number, utterance
                if (index := next(wanted, None)) is None:
                    return

    def repeated(self, column: str) -> Iterator[tuple[int, Utterance, Utterance]]:
        """Yield (index, itself, the earliest) of each utterance with the ``id`` or ``audio`` of an earlier one."""
        hashes = {"id": self.ids, "audio": self.audio}[column]
        ordered = np.sort(hashes)
        suspects = np.flatnonzero(among(hashes, ordered[1:][ordered[1:] == ordered[:-1]]))
        earliest: dict[str, Utterance] = {}
        for index, utterance in self.read(suspects):
            first = earliest.setdefault(getattr(utterance, column), utterance)
            if first is not utterance:
                yield index, utterance, first

    def examples(self, indices: Sequence[int] | np.ndarray) -> list[Example]:
        """Return the first of these utterances as examples."""
        return [self._example(index, found, found.text) for index, found in self.read(indices[:EXAMPLES])]

    def audio_examples(self, bad: BadAudio, describe: Callable[[AudioFacts], str]) -> list[Example]:
        """Return the first utterances of a problem as examples that say what is wrong in place of their text."""
        found = zip(self.read(bad.indices[:EXAMPLES]), bad.first, strict=True)
        return [self._example(index, utterance, describe(facts)) for (index, utterance), facts in found]

    def _example(self, index: int, utterance: Utterance, text: str) -> Example:
        short = text if len(text) <= SHOWN_TEXT else f"{text[: SHOWN_TEXT - 1]}…"
        return Example(id=utterance.id, where=f"{self.cuts}:{index + 1}", text=short)

    def speaker_seconds(self) -> dict[str, float]:
        """Return the audio of each known speaker, s, most first."""
        known = self.speakers >= 0
        seconds = np.bincount(self.speakers[known], weights=self.duration_s[known], minlength=len(self.names))
        rounded = [round(value, 3) for value in seconds.tolist()]
        return dict(sorted(zip(self.names, rounded, strict=True), key=lambda pair: -pair[1]))


def read_utterances(cuts: Path, audio: Path | None) -> Iterator[Utterance]:
    """Yield the utterances of a split.

    Args:
        cuts: one cut for each utterance, ``.jsonl.gz``.
        audio: the ``AudioFacts`` of these cuts, in their order; some of others may stand between. None: not decoded.

    Raises:
        UserError: ``audio`` is of other cuts.
    """
    facts = read_rows(audio, AudioFacts) if audio else None
    heard = None
    for cut in read_rows(cuts, _Cut):
        if facts:
            for heard in facts:
                if heard.id == cut.id:
                    break
            else:
                raise UserError(f"{audio} is not of the cuts in {cuts}: delete it to have it made again")
        supervision = cut.supervisions[0]
        place = heard and heard.digest
        if not place:
            source = cut.recording.sources[0].source if cut.recording else supervision.recording_id
            place = f"{source}@{cut.start:.6f}"
        yield Utterance(cut.id, supervision.text or "", supervision.speaker, place, cut.duration, heard)


def survey_split(name: str, cuts: Path, tokenizer: Tokenizer | None, audio: Path | None, limits: AudioLimits) -> Survey:
    """Read the cuts of a split once.

    Args:
        name: ``corpus/split``.
        cuts, audio: see ``read_utterances``.
        tokenizer: of the base model; None leaves the columns of tokens at 0.
        limits: what a problem of the audio is.

    Raises:
        UserError: ``audio`` is of other cuts.
    """
    survey, measures = Survey(name, cuts, audio), TextMeasures(tokenizer)
    names: dict[str, int] = {}
    columns: dict[str, list[np.ndarray]] = {column: [np.zeros(0, kind)] for column, kind in _COLUMNS.items()}
    utterances, start = read_utterances(cuts, audio), 0
    while batch := list(islice(utterances, BATCH)):
        if audio:
            _listen(survey, batch, start, limits)
        for column, values in _columns(survey, batch, start, names, measures).items():
            columns[column].append(values.astype(_COLUMNS[column]))
        start += len(batch)
    for column in _COLUMNS:
        setattr(survey, column, np.concatenate(columns.pop(column)))
    survey.names = list(names)
    return survey


_COLUMNS: dict[str, type] = {
    **dict.fromkeys(("ids", "texts", "audio", "with_unknown"), np.int64),
    "duration_s": np.float64,
    **dict.fromkeys(("speakers", "characters", "letters", "words", "tokens", "ctc_frames"), np.int32),
}


def fingerprints(values: Sequence[str]) -> np.ndarray:
    """Return a hash of each of N texts, int64, (N,); another process gives others.

    Two of a million different texts have the same with a probability of 3e-8. So these tell which utterances to look
    at; an error is told by the texts themselves.
    """
    return np.fromiter(map(hash, values), dtype=np.int64, count=len(values))


def among(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return which of N values are among others, which are sorted; bool, (N,)."""
    # Not np.isin, which sorts both, or hashes them.
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    found: np.ndarray = ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    return found


def count_distinct(ordered: np.ndarray) -> int:
    """Return how many different values there are among sorted ones."""
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(len(ordered))


def _columns(
    survey: Survey, batch: Sequence[Utterance], start: int, names: dict[str, int], measures: TextMeasures
) -> dict[str, np.ndarray]:
    """Return the columns of a batch, the first of which has the index ``start``, and add up what has none."""
    texts, audio = [utterance.text for utterance in batch], [utterance.audio for utterance in batch]
    survey.sound.update("\n".join([*audio, ""]).encode(errors="surrogatepass"))
    measured = measures.of(texts)
    with_unknown = np.flatnonzero(measured[UNKNOWN])
    _count_unknown(survey, [texts[index] for index in with_unknown], measures.unknown)
    survey.capitals += int(np.count_nonzero(measured[CAPITALS]))
    survey.punctuation += int(np.count_nonzero(measured[PUNCTUATION]))
    return {
        "ids": fingerprints([utterance.id for utterance in batch]),
        "texts": fingerprints(texts),
        "audio": fingerprints(audio),
        "duration_s": np.array([utterance.duration_s for utterance in batch]),
        "speakers": np.array(
            [names.setdefault(name, len(names)) if (name := utterance.speaker) else -1 for utterance in batch]
        ),
        "characters": np.array([len(text) for text in texts]),
        "letters": measured[LETTERS],
        "words": measured[WORDS],
        "tokens": measured[TOKENS],
        "ctc_frames": measured[TOKENS] + measured[REPEATS],
        "with_unknown": with_unknown + start,
    }


def _listen(survey: Survey, batch: Sequence[Utterance], start: int, limits: AudioLimits) -> None:
    for index, utterance in enumerate(batch, start):
        if facts := utterance.heard:
            for code in problems_of(facts, limits):
                survey.bad_audio.setdefault(code, BadAudio()).add(index, facts)


def _count_unknown(survey: Survey, texts: Sequence[str], unknown: set[str]) -> None:
    for text in texts:
        survey.unknown.update(character for character in text if character in unknown)
        words = [word for word in text.split() if not unknown.isdisjoint(word)]
        survey.lost_words += len(words)
        if len(survey.unknown_words) < 10_000:  # enough to name the most frequent
            survey.unknown_words.update(words)


def split_facts(survey: Survey, roles: Sequence[str]) -> dict[str, Any]:
    """Return the facts of a split for the report."""
    speakers = survey.speaker_seconds()
    known = np.maximum(survey.duration_s, 1e-9)
    return {
        "name": survey.name,
        "roles": list(roles),
        "utterances": len(survey),
        "seconds": round(survey.seconds, 3),
        "longest_s": round(float(survey.duration_s.max(initial=0)), 3),
        "texts": count_distinct(np.sort(survey.texts)),
        "audio": survey.sound.hexdigest(),
        "unknown_share": round(survey.unknown_share, 6),
        "unknown_characters": dict(survey.unknown.most_common(LISTED_WORDS)),
        "unknown_words": dict(survey.unknown_words.most_common(LISTED_WORDS)),
        "characters_per_s": _median(survey.letters / known),
        "tokens_per_s": _median(survey.tokens / known),
        "speakers": speakers,
    }


def _median(values: np.ndarray) -> float | None:
    return round(float(np.median(values)), 3) if len(values) else None
