"""What the doctor reads of a split: one pass over its cuts, kept as columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nuptse.audio_facts import AudioFacts
from nuptse.audio_problems import AudioLimits, problems_of
from nuptse.base_model import Tokenizer
from nuptse.errors import UserError
from nuptse.findings import Example
from nuptse.jsonl import read_rows

EXAMPLES = 3
LISTED_WORDS = 10
SHOWN_TEXT = 80  # characters of a transcript in an example
BATCH = 4096  # texts that the tokenizer gets at once


class _Source(msgspec.Struct):
    source: str


class _Recording(msgspec.Struct):
    sources: list[_Source]


class _Supervision(msgspec.Struct):
    recording_id: str = ""
    text: str | None = None
    speaker: str | None = None


class _Cut(msgspec.Struct):
    id: str
    start: float
    duration: float
    supervisions: list[_Supervision]
    recording: _Recording | None = None  # shards that are used as they are have none


@dataclass
class Survey:
    """The N utterances of a split, in the order of the manifest.

    Attributes:
        name: ``corpus/split``.
        cuts: the manifest.
        ids, texts, speakers: of each utterance; a speaker may be None.
        audio: what tells its audio from other audio: the digest of its samples, else file and start.
        duration_s: float64, (N,).
        letters: characters that are no spaces, int64, (N,).
        tokens: pieces of the tokenizer, int64, (N,); 0 without a tokenizer.
        ctc_frames: encoder frames that CTC needs, int64, (N,): the tokens, and one between two equal ones.
        unknown: how often each character is unknown to the tokenizer.
        unknown_words: the words that they stand in.
        lost_words: how many words that is; none of them can be recognised.
        with_unknown: the utterances with such a character, as indices.
        conspicuous: facts of the audio that has a problem, by index.
    """

    name: str
    cuts: Path
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    speakers: list[str | None] = field(default_factory=list)
    audio: list[str] = field(default_factory=list)
    duration_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    letters: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ctc_frames: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_words: Counter[str] = field(default_factory=Counter)
    lost_words: int = 0
    with_unknown: list[int] = field(default_factory=list)
    conspicuous: dict[int, AudioFacts] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def corpus(self) -> str:
        return self.name.partition("/")[0]

    @property
    def seconds(self) -> float:
        return float(self.duration_s.sum())

    @property
    def unknown_share(self) -> float:
        """Share of the words in which there is a character that the tokenizer does not know."""
        return self.lost_words / max(1, sum(len(text.split()) for text in self.texts))

    def share_of_hours(self, indices: Sequence[int] | np.ndarray) -> float:
        """Return the share of the audio that these utterances have."""
        return round(float(self.duration_s[np.asarray(indices, dtype=np.int64)].sum()) / max(self.seconds, 1e-9), 6)

    def examples(self, indices: Sequence[int] | np.ndarray) -> list[Example]:
        """Return the first of these utterances as examples."""
        return [self.example(int(index), self.texts[int(index)]) for index in indices[:EXAMPLES]]

    def example(self, index: int, text: str) -> Example:
        """Return an utterance as an example that shows ``text``."""
        short = text if len(text) <= SHOWN_TEXT else f"{text[: SHOWN_TEXT - 1]}…"
        return Example(id=self.ids[index], where=f"{self.cuts}:{index + 1}", text=short)

    def speaker_seconds(self) -> dict[str, float]:
        """Return the audio of each known speaker, s, most first."""
        seconds: dict[str, float] = {}
        for speaker, duration in zip(self.speakers, self.duration_s.tolist(), strict=True):
            if speaker:
                seconds[speaker] = seconds.get(speaker, 0.0) + duration
        return dict(sorted(((name, round(value, 3)) for name, value in seconds.items()), key=lambda pair: -pair[1]))


def survey_split(name: str, cuts: Path, tokenizer: Tokenizer | None, audio: Path | None, limits: AudioLimits) -> Survey:
    """Read the cuts of a split once.

    Args:
        name: ``corpus/split``.
        cuts: one cut for each utterance, ``.jsonl.gz``.
        tokenizer: of the base model; None leaves the columns of tokens at 0.
        audio: the ``AudioFacts`` of these cuts, in their order; some of others may stand between. None: not decoded.
        limits: what a problem of the audio is.

    Raises:
        UserError: ``audio`` is of other cuts.
    """
    survey = Survey(name, cuts)
    durations: list[float] = []
    names: dict[str, str] = {}  # one string for each speaker, not for each utterance
    facts = read_rows(audio, AudioFacts) if audio else None
    for cut in read_rows(cuts, _Cut):
        supervision = cut.supervisions[0]
        survey.ids.append(cut.id)
        survey.texts.append(supervision.text or "")
        speaker = supervision.speaker
        survey.speakers.append(speaker and names.setdefault(speaker, speaker))
        source = cut.recording.sources[0].source if cut.recording else supervision.recording_id
        place = f"{source}@{cut.start:.6f}"
        heard = next((row for row in facts if row.id == cut.id), None) if facts else None
        if facts and heard is None:
            raise UserError(f"{audio} is not of the cuts in {cuts}: delete it to have it made again")
        survey.audio.append((heard and heard.digest) or place)
        if heard and problems_of(heard, limits):
            survey.conspicuous[len(durations)] = heard
        durations.append(cut.duration)
    survey.duration_s = np.array(durations, dtype=np.float64)
    survey.letters = np.array([len(text) - text.count(" ") for text in survey.texts], dtype=np.int64)
    survey.tokens, survey.ctc_frames = np.zeros((2, len(survey)), dtype=np.int64)
    if tokenizer is not None:
        _tokenize(survey, tokenizer)
        _find_unknown(survey, tokenizer)
    return survey


def _tokenize(survey: Survey, tokenizer: Tokenizer) -> None:
    for start in range(0, len(survey), BATCH):
        rows = tokenizer.encode(survey.texts[start : start + BATCH])
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        survey.tokens[start : start + len(rows)] = lengths
        survey.ctc_frames[start : start + len(rows)] = lengths + _repeats(rows, lengths)


def _repeats(rows: list[list[int]], lengths: np.ndarray) -> np.ndarray:
    """Return how many tokens of each row equal the one before: CTC needs a blank between the two."""
    flat = np.fromiter((token for row in rows for token in row), dtype=np.int64, count=int(lengths.sum()))
    owner = np.repeat(np.arange(len(rows)), lengths)
    same = (flat[1:] == flat[:-1]) & (owner[1:] == owner[:-1])
    return np.bincount(owner[1:][same], minlength=len(rows))


def _find_unknown(survey: Survey, tokenizer: Tokenizer) -> None:
    seen: set[str] = set()
    unknown: set[str] = set()
    for index, text in enumerate(survey.texts):
        if not seen.issuperset(text):
            new = set(text) - seen
            seen |= new
            unknown |= unknown_among(new, tokenizer)
        if not unknown.isdisjoint(text):
            survey.with_unknown.append(index)
            survey.unknown.update(character for character in text if character in unknown)
            words = [word for word in text.split() if not unknown.isdisjoint(word)]
            survey.lost_words += len(words)
            if len(survey.unknown_words) < 10_000:  # enough to name the most frequent
                survey.unknown_words.update(words)


def unknown_among(characters: set[str], tokenizer: Tokenizer) -> set[str]:
    """Return the characters that the tokenizer has no piece for; the space is always known."""
    asked = sorted(characters - {" "})
    return {letter for letter, ids in zip(asked, tokenizer.encode(asked), strict=True) if tokenizer.unknown in ids}


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
        "texts": len(set(survey.texts)),
        "unknown_share": round(survey.unknown_share, 6),
        "unknown_characters": dict(survey.unknown.most_common(LISTED_WORDS)),
        "unknown_words": dict(survey.unknown_words.most_common(LISTED_WORDS)),
        "characters_per_s": _median(survey.letters / known),
        "tokens_per_s": _median(survey.tokens / known),
        "speakers": speakers,
    }


def _median(values: np.ndarray) -> float | None:
    return round(float(np.median(values)), 3) if len(values) else None
