"""What is wrong with transcripts: unknown characters, missing text, text that does not fit the audio, another style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nuptse.base_model import BaseModel, Tokenizer
from nuptse.findings import ERROR, MEND_SHARDS, NOTE, WARNING, Finding, acceptance
from nuptse.style_findings import other_style
from nuptse.surveys import Survey
from nuptse.text_remedies import TRIED_TEXTS, find_remedy

# Nobody says more letters in a second, in any script.
MOST_LETTERS_PER_S = 40.0
# Deviations from the median of the logarithm, in standard deviations as the median deviation tells them.
DEVIATIONS = 6.0
# Less speech without text is a pause before and after a short answer, s.
UNTOLD_S = 4.0
OTHER_TOKENIZER = "give the model a tokenizer that knows them, see `from_model`"
# From so many utterances on a median says what is usual.
ENOUGH = 20


def text_findings(survey: Survey, base: BaseModel, settings: Mapping[str, Any], trained_on: bool) -> Iterator[Finding]:
    """Yield what is wrong with the transcripts of one split.

    Args:
        settings: of the experiment, see ``examination.examine``.
        trained_on: whether the split is part of the training.
    """
    yield from _unknown_characters(survey, base, settings)
    yield from _empty(survey)
    yield from _rates(survey, settings)
    if trained_on:
        yield from _too_short_for_ctc(survey, base, settings)
        yield from other_style(survey, base, settings)


def _unknown_characters(survey: Survey, base: BaseModel, settings: Mapping[str, Any]) -> Iterator[Finding]:
    if base.tokenizer is None or not len(survey.with_unknown):
        return
    share, limit = survey.unknown_share, settings["doctor"]["unknown_share"]
    characters = " ".join(repr(character) for character, _ in survey.unknown.most_common(10))
    words = ", ".join(word for word, _ in survey.unknown_words.most_common(5))
    remedy, change = _text_change(survey, base.tokenizer, settings)
    yield Finding(
        code="unknown_characters",
        severity=ERROR if share > limit else WARNING,
        subject=survey.name,
        message=(
            f"the tokenizer of {settings['model']} cannot write {share:.2%} of the words, such as {words}: it does not"
            f" know {characters}, and the model would learn to write nothing there"
        ),
        remedy=remedy,
        change=change,
        count=len(survey.with_unknown),
        of=len(survey),
        share_of_hours=survey.share_of_hours(survey.with_unknown),
        examples=survey.examples(survey.with_unknown),
    )


def _text_change(survey: Survey, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    texts = [found.text for _, found in survey.read(survey.with_unknown[:TRIED_TEXTS])]
    profile = settings["corpora"][survey.corpus]["text"]
    if found := find_remedy(texts, tokenizer, settings["corpora"][survey.corpus]["language"]):
        left = f"{found.left:.2%} of the characters of these utterances stay unknown" if found.left else "all is known"
        other = "" if settings["tokenizer_of"] else f"; or {OTHER_TOKENIZER}"
        change = {f"corpora.{survey.corpus}.text": profile + found.steps}
        return f"add steps to the text profile; {left} then{other}", change
    if settings["tokenizer_of"]:
        lines = settings["tokenizer_text"] + ["".join(sorted(survey.unknown))]
        return "let the tokenizer learn them", {f"{settings['tokenizer_of']}.text": lines}
    if all(character.isdigit() for character in survey.unknown):
        return "spell the numbers out in the transcripts of the corpus", {}
    return f"no step of a text profile helps: {OTHER_TOKENIZER}, or take another model", {}


def _empty(survey: Survey) -> Iterator[Finding]:
    empty = np.flatnonzero(survey.words == 0)
    if len(empty):
        yield Finding(
            code="empty_text",
            severity=ERROR,
            subject=survey.name,
            message="utterances without a transcript: the model would learn to be silent where there is speech",
            remedy=MEND_SHARDS
            if survey.is_of_shards
            else f"delete {survey.cuts} and run again: utterances without a transcript are left out then",
            count=len(empty),
            of=len(survey),
            share_of_hours=survey.share_of_hours(empty),
            examples=survey.examples(empty),
        )


def ledger_findings(name: str, ledger: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding if much of a split was left out for want of a transcript or of audio, by the import or later.

    Args:
        name: ``corpus/split``.
        ledger: ``data/manifests/{corpus}_ledger_{split}.json``.
    """
    reasons = {reason: ledger["dropped"][reason] for reason in UNUSABLE if reason in ledger["dropped"]}
    # An import has reasons of its own, all but a few of which nobody wished for.
    reasons |= {
        reason: amount
        for reason, amount in ledger["quarantined"].items()
        if reason.startswith(NOT_IMPORTED) and not reason.removeprefix(NOT_IMPORTED).startswith(WISHED)
    }
    count = sum(amount["utterances"] for amount in reasons.values())
    seconds = sum(amount["seconds"] for amount in reasons.values())
    if not count:
        return
    taken = ledger["taken"]
    listed = ", ".join(f"{amount['utterances']} {reason}" for reason, amount in reasons.items())
    yield Finding(
        code="dropped_utterances",
        severity=WARNING if count > settings["doctor"]["dropped_share"] * taken["utterances"] else NOTE,
        subject=name,
        message=f"supervisions of the corpus that were left out: {listed}",
        remedy="see whether the corpus is complete; if it cannot be mended, accept the finding",
        change=acceptance("dropped_utterances", name, settings),
        count=count,
        of=taken["utterances"],
        share_of_hours=round(seconds / max(taken["seconds"], 1e-9), 6),
    )


UNUSABLE = ("no transcript", "no duration", "outside its recording")
NOT_IMPORTED = "not imported: "
WISHED = ("_skipme", "a row that stands there twice", "it is not on channel")


def _rates(survey: Survey, settings: Mapping[str, Any]) -> Iterator[Finding]:
    factor = settings["doctor"]["rate_factor"]
    fast, slow = rate_outliers(survey, factor)
    for code, indices, what in (
        ("too_much_text", fast, "more text than the audio can hold: another transcript, or audio cut short"),
        ("too_little_text", slow, "far less text than the audio should hold: a part is not transcribed"),
    ):
        if len(indices):
            rates = survey.letters[indices] / np.maximum(survey.duration_s[indices], 1e-9)
            usual = float(np.median(survey.letters / np.maximum(survey.duration_s, 1e-9)))
            yield Finding(
                code=code,
                severity=WARNING,
                subject=survey.name,
                message=f"{what} ({rates.min():.3g} to {rates.max():.3g} characters a second; usual is {usual:.3g})",
                **_leave_out(survey, indices, "max" if code == "too_much_text" else "min"),
                count=len(indices),
                of=len(survey),
                share_of_hours=survey.share_of_hours(indices),
                examples=survey.examples(indices),
            )


def rate_outliers(survey: Survey, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the utterances that have far more, and far less, text for their time than is usual, as indices.

    An utterance is unusual in characters or in tokens a second. Unusual is what differs from the median by more than
    ``factor`` times and by more than ``DEVIATIONS`` standard deviations, which the median absolute deviation of the
    logarithms tells (times 1.4826, as for a normal distribution). Little text also leaves ``UNTOLD_S`` of audio over.
    Nobody says over ``MOST_LETTERS_PER_S``.
    """
    seconds = np.maximum(survey.duration_s, 1e-9)
    fast = survey.letters / seconds > MOST_LETTERS_PER_S
    slow = np.zeros(len(survey), dtype=bool)
    for amount in (survey.letters, survey.tokens):
        some = amount > 0
        if some.sum() < ENOUGH:
            continue
        logs = np.log(np.maximum(amount, 1) / seconds)
        middle = np.median(logs[some])
        spread = 1.4826 * np.median(np.abs(logs[some] - middle))
        limit = max(np.log(factor), DEVIATIONS * spread)
        fast |= some & (logs - middle > limit)
        untold = seconds - amount / np.exp(middle)
        slow |= some & (middle - logs > limit) & (untold > UNTOLD_S)
    return np.flatnonzero(fast), np.flatnonzero(slow & ~fast)


def _too_short_for_ctc(survey: Survey, base: BaseModel, settings: Mapping[str, Any]) -> Iterator[Finding]:
    if not base.is_ctc or base.tokenizer is None:
        return
    train_ds = settings["train_ds"]
    fastest = 1.1 if train_ds["perturb_speed"] else 1.0
    lasts = survey.duration_s / fastest
    frames = base.encoder_frames(lasts)
    if frames is None:
        return
    kept = lasts >= (train_ds["min_duration"] or 0)
    if train_ds["max_duration"] is not None:
        kept &= lasts <= train_ds["max_duration"]
    short = np.flatnonzero(kept & (frames < survey.ctc_frames))
    if len(short):
        worst = short[np.argmax(survey.ctc_frames[short] - frames[short])]
        speed = " at 1.1 times the speed" if train_ds["perturb_speed"] else ""
        share = len(short) / len(survey)
        yield Finding(
            code="too_short_for_ctc",
            severity=ERROR if share > settings["doctor"]["too_short_share"] else WARNING,
            subject=survey.name,
            message=(
                f"fewer encoder frames{speed} than CTC needs for the transcript (the worst: {frames[worst]} for"
                f" {survey.ctc_frames[worst]} tokens and repeats): the loss is infinite, and NeMo takes it for 0"
            ),
            **_shorter_than(survey, short, fastest, settings),
            count=len(short),
            of=len(survey),
            share_of_hours=survey.share_of_hours(short),
            examples=survey.examples(short),
        )


def _leave_out(survey: Survey, indices: np.ndarray, end: str) -> dict[str, Any]:
    """Return the remedy for text that does not fit: a filter of the corpus where it takes out these and few others.

    Args:
        end: ``max`` or ``min``, the filter of characters in a second (spaces counted) that is tried.
    """
    listen = "listen to the examples, and mend their times or transcripts in the corpus"
    rates = survey.characters / np.maximum(survey.duration_s, 1e-9)
    if end == "max":
        limit = float(np.floor(rates[indices].min() * 100 - 1) / 100)
        others = int((rates > limit).sum()) - len(indices)
    else:
        limit = float(np.ceil(rates[indices].max() * 100 + 1) / 100)
        others = int((rates < limit).sum()) - len(indices)
    if others > max(1, 0.01 * len(survey)):
        return {"remedy": f"{listen}, or take them out of it"}
    change = {f"corpora.{survey.corpus}.filters.{end}_characters_per_second": limit}
    return {"remedy": f"{listen}; or leave such utterances out", "change": change}


def _shorter_than(survey: Survey, short: np.ndarray, fastest: float, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the remedy for utterances that are too short: by rate, else by duration where that costs little."""
    remedy = _leave_out(survey, short, "max")
    limit = float(np.ceil(survey.duration_s[short].max() / fastest * 100 + 1) / 100)
    lost = int((survey.duration_s / fastest < limit).sum())
    if "change" in remedy or lost - len(short) > max(len(short), 0.01 * len(survey)):
        return remedy
    change = {f"experiments.{settings['experiment']}.train_ds.min_duration": limit}
    return {"remedy": f"leave short utterances out ({lost} of {len(survey)})", "change": change}
