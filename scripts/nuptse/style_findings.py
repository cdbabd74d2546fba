"""How transcripts are written, with capitals and punctuation or without, and where that does not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nuptse.base_model import BaseModel
from nuptse.findings import WARNING, Finding, acceptance
from nuptse.surveys import Survey, Utterance

# A share of the utterances with capitals or punctuation from which on that is the style of a corpus.
STYLE_SHARE = 0.2


@dataclass(frozen=True)
class Style:
    """Shares of the utterances with a capital letter, and with punctuation other than apostrophe and hyphen."""

    capitals: float
    punctuation: float


def style_of(survey: Survey) -> Style:
    """Return how a split is written."""
    number = max(1, len(survey))
    return Style(survey.capitals / number, survey.punctuation / number)


def other_style(survey: Survey, base: BaseModel, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding if a base model writes what the transcripts do not have: it would forget to."""
    if base.tokenizer is None or settings["tokenizer_of"]:
        return
    pieces = [piece for piece in base.tokenizer.vocabulary if not piece.startswith("<")]
    has_case = any(character.islower() for piece in pieces for character in piece)
    writes = {
        "capitals": has_case and any(character.isupper() for piece in pieces for character in piece),
        "punctuation": any(character in ".,?" for piece in pieces for character in piece),
    }
    style = style_of(survey)
    lost = [what for what, able in writes.items() if able and getattr(style, what) < STYLE_SHARE]
    if not lost or not any(_has_case(found) for _, found in survey.read(range(1000))):
        return
    profile = settings["corpora"][survey.corpus]["text"]
    takes = {"capitals": ("lower", "upper"), "punctuation": ("strip_punctuation",)}
    taking = [step for what in lost for step in takes[what] if step in profile]
    kept = [step for step in profile if step not in taking]
    change = {f"corpora.{survey.corpus}.text": kept}
    accepted = acceptance("other_style", survey.name, settings)
    yield Finding(
        code="other_style",
        severity=WARNING,
        subject=survey.name,
        message=f"the base model writes {' and '.join(lost)}, the transcripts have none: it would unlearn them",
        remedy=(
            f"leave {', '.join(taking)} out of the text profile, if the corpus has them"
            if taking
            else "take a corpus that has them; if the model shall unlearn them, accept the finding"
        ),
        change=change if taking else accepted,
        count=len(survey),
        of=len(survey),
        share_of_hours=1.0,
        examples=survey.examples(range(len(survey))),
    )


def _has_case(utterance: Utterance) -> bool:
    return utterance.text != utterance.text.upper() or utterance.text != utterance.text.lower()


def mixed_style(surveys: Sequence[Survey], settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding if training corpora are written in different styles: the model learns to toss a coin."""
    styles = {survey.name: style_of(survey) for survey in surveys}
    differ: list[str] = []
    change: dict[str, list[Any]] = {}
    for what, step in (("capitals", "lower"), ("punctuation", "strip_punctuation")):
        have = [name for name, style in styles.items() if getattr(style, what) >= STYLE_SHARE]
        lack = [name for name in styles if name not in have]
        if have and lack:
            differ.append(f"{', '.join(have)} have {what}, {', '.join(lack)} have none")
            for name in have:
                corpus = name.partition("/")[0]
                key = f"corpora.{corpus}.text"
                change[key] = [*change.get(key, settings["corpora"][corpus]["text"]), step]
    if differ:
        yield Finding(
            code="mixed_style",
            severity=WARNING,
            subject=settings["experiment"],
            message=f"of the training corpora {'; '.join(differ)}: the model has to guess which is wanted",
            remedy="write all of them alike, such as all without",
            change=change,
        )
