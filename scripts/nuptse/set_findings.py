"""What is wrong with the sets: the same twice, and what training and judging splits share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nuptse.findings import ERROR, NOTE, WARNING, Finding, acceptance
from nuptse.surveys import Survey, among, count_distinct

# Sentences of fewer words are in any two texts: "yes", "thank you".
COUNTED_WORDS = 4
# So many utterances for each different sentence: a closed set of sentences, such as commands.
CLOSED_SET = 2.0
UNEVEN_SHARE = 0.5
# Share of the training audio of a corpus that may be given up for a test on new voices.
CHEAP_SHARE = 0.3


def split_findings(survey: Survey) -> Iterator[Finding]:
    """Yield what is there twice within a split."""
    if again := [index for index, _, _ in survey.repeated("id")]:
        yield Finding(
            code="repeated_ids",
            severity=ERROR,
            subject=survey.name,
            message="utterances that have the id of another one",
            remedy=f"make ids unique in the corpus, then delete {survey.cuts} and run again",
            **_amount(survey, again),
        )
    if same := [(index, found.text != first.text) for index, found, first in survey.repeated("audio")]:
        other = [index for index, differs in same if differs]
        yield Finding(
            code="repeated_audio",
            severity=ERROR if other else WARNING,
            subject=survey.name,
            message="utterances with the audio of another one"
            + (f", {len(other)} of them with another transcript" if other else ""),
            remedy="take all but one of each out of the corpus; the report names them by id",
            **_amount(survey, other or [index for index, _ in same], len(same)),
        )


def _amount(survey: Survey, indices: Sequence[int] | np.ndarray, count: int | None = None) -> dict[str, Any]:
    return {
        "count": len(indices) if count is None else count,
        "of": len(survey),
        "share_of_hours": survey.share_of_hours(indices),
        "examples": survey.examples(indices),
    }


def leak_findings(train: Sequence[Survey], judges: Sequence[Survey], settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what validation and test splits share with the training: audio, sentences, speakers."""
    texts, audio = (np.sort(np.concatenate([getattr(s, name) for s in train])) for name in ("texts", "audio"))
    # Few sentences that all say, as in a corpus of commands, are how the corpus is meant.
    closed = sum(map(len, train)) >= CLOSED_SET * count_distinct(texts)
    speakers = {(survey.corpus, name) for survey in train for name in survey.names}
    names = {survey.name for survey in train}
    for survey in judges:
        shared = np.arange(len(survey)) if survey.name in names else _shared_audio(survey, train, audio)
        if len(shared):
            yield _leaked(survey, shared, names, settings)
        else:  # else the same utterances would be found again by their texts and speakers
            yield from _shared_text(survey, texts, closed, settings)
            yield from _shared_speakers(survey, train, speakers, settings)


def _shared_audio(survey: Survey, train: Sequence[Survey], audio: np.ndarray) -> np.ndarray:
    """Return the utterances whose audio is in the training, too, as indices."""
    alike = np.flatnonzero(among(survey.audio, audio))
    hashes = np.sort(survey.audio[alike])
    heard = {found.audio for s in train for _, found in s.read(np.flatnonzero(among(s.audio, hashes)))}
    return np.array([index for index, found in survey.read(alike) if found.audio in heard], dtype=np.int64)


def _leaked(survey: Survey, shared: np.ndarray, names: set[str], settings: Mapping[str, Any]) -> Finding:
    where = f"it is {survey.name} of the training" if survey.name in names else "the training has the same audio"
    return Finding(
        code="leaked_audio",
        severity=ERROR,
        subject=survey.name,
        message=f"utterances that the model is trained on: {where}, so that its error rate says nothing",
        remedy=(
            f"name another split in place of {survey.name} under train, validation or test of {settings['experiment']}"
            if survey.name in names
            else "take them out of one of the two splits of the corpus; the examples name some"
        ),
        **_amount(survey, shared),
    )


def _shared_text(survey: Survey, texts: np.ndarray, closed: bool, settings: Mapping[str, Any]) -> Iterator[Finding]:
    shared = np.flatnonzero((survey.words >= COUNTED_WORDS) & among(survey.texts, texts))
    if len(shared) <= settings["doctor"]["shared_text_share"] * len(survey):
        return
    yield Finding(
        code="shared_text",
        severity=NOTE if closed else WARNING,
        subject=survey.name,
        message="sentences that the model is trained on: its error rate is that of known sentences, not of new ones"
        + (" (a closed set of sentences)" if closed else ""),
        remedy="take a split with sentences of its own; if that is how the corpus is meant, accept the finding",
        change=acceptance("shared_text", survey.name, settings),
        **_amount(survey, shared),
    )


def _shared_speakers(
    survey: Survey, train: Sequence[Survey], speakers: set[tuple[str, str]], settings: Mapping[str, Any]
) -> Iterator[Finding]:
    known = [number for number, name in enumerate(survey.names) if (survey.corpus, name) in speakers]
    if not known:
        return
    shared = np.flatnonzero(np.isin(survey.speakers, known))
    names = sorted(survey.names[number] for number in known)
    of_corpus = {name for corpus, name in speakers if corpus == survey.corpus} | set(survey.names)
    single = len(of_corpus) == 1
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    yield Finding(
        code="shared_speakers",
        severity=NOTE if single else WARNING,
        subject=survey.name,
        message=f"speakers of the training ({', '.join(names[:3])}{more}): its error rate is that of known voices"
        + ("; the corpus has only one" if single else ""),
        remedy=(
            "leave these speakers out of the training, deal the splits out by speaker"
            f" (corpora.{survey.corpus}.split_by), or, if known voices are what the model is for, accept the finding"
        ),
        change=_without_speakers(survey, train, names, settings),
        **_amount(survey, shared),
    )


def _without_speakers(
    survey: Survey, train: Sequence[Survey], names: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the filter that takes speakers out of the training, where that costs little and undoes no other filter."""
    own = [other for other in train if other.corpus == survey.corpus]
    lost = sum(other.speaker_seconds().get(name, 0.0) for other in own for name in names)
    filters = settings["corpora"][survey.corpus]["filters"]
    if any(filters.values()) or lost > CHEAP_SHARE * sum(other.seconds for other in own):
        return acceptance("shared_speakers", survey.name, settings)
    key = f"corpora.{survey.corpus}.filters"
    return {f"{key}.drop_speakers": list(names), f"{key}.splits": [other.name.partition("/")[2] for other in own]}


def uneven_speakers(survey: Survey, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a note if one of several speakers has most of the audio."""
    seconds = survey.speaker_seconds()
    if len(seconds) < 3:
        return
    name, most = next(iter(seconds.items()))
    if most > UNEVEN_SHARE * survey.seconds:
        own = np.flatnonzero(survey.speakers == survey.names.index(name))
        yield Finding(
            code="uneven_speakers",
            severity=NOTE,
            subject=survey.name,
            message=f"the speaker {name} has {most / survey.seconds:.0%} of the audio of {len(seconds)} speakers",
            remedy="take fewer utterances of that speaker, or accept the finding",
            change=acceptance("uneven_speakers", survey.name, settings),
            **_amount(survey, own),
        )
