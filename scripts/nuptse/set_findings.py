"""What is wrong with the sets: the same twice, and what training and judging splits share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nuptse.findings import ERROR, NOTE, WARNING, Finding, acceptance
from nuptse.surveys import Survey

# Sentences of fewer words are in any two texts: "yes", "thank you".
COUNTED_WORDS = 4
# So many utterances for each different sentence: a closed set of sentences, such as commands.
CLOSED_SET = 2.0
UNEVEN_SHARE = 0.5
# Share of the training audio of a corpus that may be given up for a test on new voices.
CHEAP_SHARE = 0.3


def split_findings(survey: Survey) -> Iterator[Finding]:
    """Yield what is there twice within a split."""
    if again := _repeated(survey.ids):
        yield Finding(
            code="repeated_ids",
            severity=ERROR,
            subject=survey.name,
            message="utterances that have the id of another one",
            remedy=f"make ids unique in the corpus, then delete {survey.cuts} and run again",
            **_amount(survey, again),
        )
    if again := _repeated(survey.audio):
        first = dict(zip(reversed(survey.audio), reversed(survey.texts), strict=True))
        other = [index for index in again if first[survey.audio[index]] != survey.texts[index]]
        yield Finding(
            code="repeated_audio",
            severity=ERROR if other else WARNING,
            subject=survey.name,
            message="utterances with the audio of another one"
            + (f", {len(other)} of them with another transcript" if other else ""),
            remedy="take all but one of each out of the corpus; the report names them by id",
            **_amount(survey, other or again, len(again)),
        )


def _repeated(values: Sequence[str]) -> list[int]:
    """Return the places of values that stand before, too."""
    if len(set(values)) == len(values):
        return []
    seen: set[str] = set()
    return [index for index, value in enumerate(values) if value in seen or seen.add(value)]  # type: ignore[func-returns-value]


def _amount(survey: Survey, indices: Sequence[int], count: int | None = None) -> dict[str, Any]:
    return {
        "count": len(indices) if count is None else count,
        "of": len(survey),
        "share_of_hours": survey.share_of_hours(indices),
        "examples": survey.examples(indices),
    }


def leak_findings(train: Sequence[Survey], judges: Sequence[Survey], settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what validation and test splits share with the training: audio, sentences, speakers."""
    audio = {key for survey in train for key in survey.audio}
    texts = Counter(text for survey in train for text in survey.texts)
    speakers = {(survey.corpus, name) for survey in train for name in survey.speakers if name}
    names = {survey.name for survey in train}
    for survey in judges:
        shared = [index for index, key in enumerate(survey.audio) if key in audio]
        if shared:
            yield _leaked(survey, shared, names, settings)
        else:  # else the same utterances would be found again by their texts and speakers
            yield from _shared_text(survey, texts, settings)
            yield from _shared_speakers(survey, train, speakers, settings)


def _leaked(survey: Survey, shared: list[int], names: set[str], settings: Mapping[str, Any]) -> Finding:
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


def _shared_text(survey: Survey, texts: Counter[str], settings: Mapping[str, Any]) -> Iterator[Finding]:
    long = [index for index, text in enumerate(survey.texts) if len(text.split()) >= COUNTED_WORDS]
    shared = [index for index in long if survey.texts[index] in texts]
    if len(shared) <= settings["doctor"]["shared_text_share"] * len(survey):
        return
    # Few sentences that all say, as in a corpus of commands, are how the corpus is meant.
    closed = texts.total() >= CLOSED_SET * len(texts)
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
    shared = [i for i, name in enumerate(survey.speakers) if name and (survey.corpus, name) in speakers]
    if not shared:
        return
    names = sorted({survey.speakers[index] or "" for index in shared})
    of_corpus = {name for corpus, name in speakers if corpus == survey.corpus} | set(filter(None, survey.speakers))
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
        own = [index for index, speaker in enumerate(survey.speakers) if speaker == name]
        yield Finding(
            code="uneven_speakers",
            severity=NOTE,
            subject=survey.name,
            message=f"the speaker {name} has {most / survey.seconds:.0%} of the audio of {len(seconds)} speakers",
            remedy="take fewer utterances of that speaker, or accept the finding",
            change=acceptance("uneven_speakers", survey.name, settings),
            **_amount(survey, own),
        )
