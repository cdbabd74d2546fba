"""The doctor: all that is wrong with the data and the plan of one experiment, before it costs a GPU night."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from nuptse.audio_findings import audio_findings
from nuptse.audio_problems import AudioLimits
from nuptse.base_model import BaseModel, read_base_model
from nuptse.findings import MEND_SHARDS, NOTE, Finding, Report, accept, acceptance
from nuptse.jsonl import read_json
from nuptse.set_findings import leak_findings, split_findings, uneven_speakers
from nuptse.shard_findings import shard_findings
from nuptse.style_findings import mixed_style
from nuptse.surveys import split_facts, survey_split
from nuptse.text_findings import ledger_findings, text_findings
from nuptse.training_plan import make_plan, plan_findings

ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitFiles:
    """What is known of a split.

    Attributes:
        name: ``corpus/split``.
        cuts: its Lhotse cuts.
        ledger: what became of its supervisions.
        audio: its audio facts; None if it was not decoded.
    """

    name: str
    cuts: Path
    ledger: Path
    audio: Path | None = None


def examine(
    settings: Mapping[str, Any], base: Path, bins: Path, splits: Sequence[SplitFiles], shards: Mapping[str, Path]
) -> Report:
    """Return all findings about one experiment.

    Args:
        settings: ``experiment`` (its name), ``model``, ``train``, ``validation``, ``test``, ``train_ds``, ``trainer``
            and ``warmup_steps`` as it has them; ``tokenizer_of`` (the key of the model's tokenizer, None if it comes
            with one) and ``tokenizer_text``; ``corpora`` (``language``, ``text`` and ``filters`` of each); ``doctor``
            (thresholds and accepted findings).
        base: the base model, .nemo.
        bins: the duration bins of the experiment.
        splits: every split that it uses.
        shards: ledger of the shards of each training split, where it reads shards.

    Raises:
        UserError: a file is missing or of another form.
    """
    model = read_base_model(base)
    roles = {role: [f"{entry['corpus']}/{entry['split']}" for entry in settings[role]] for role in ROLES}
    limits = msgspec.convert(settings["doctor"]["audio"], AudioLimits)
    surveys = {
        split.name: survey_split(split.name, split.cuts, model.tokenizer, split.audio, limits) for split in splits
    }
    findings = list(_of_model(model, settings))
    for split in splits:
        survey, trained_on = surveys[split.name], split.name in roles["train"]
        findings += ledger_findings(split.name, read_json(split.ledger, dict), settings)
        findings += text_findings(survey, model, settings, trained_on)
        findings += split_findings(survey)
        findings += uneven_speakers(survey, settings) if trained_on else []
        findings += audio_findings(survey, settings)
    train = [surveys[name] for name in roles["train"]]
    judges = [surveys[name] for name in dict.fromkeys(roles["validation"] + roles["test"])]
    findings += mixed_style(train, settings)
    findings += leak_findings(train, judges, settings)
    plan = make_plan(train, [surveys[name] for name in roles["validation"]], model, settings)
    findings += plan_findings(plan, train, read_json(bins, dict), settings)
    for name, ledger in shards.items():
        findings += shard_findings(name, ledger)
    as_they_are = {survey.corpus for survey in surveys.values() if survey.is_of_shards}
    return Report(
        experiment=settings["experiment"],
        base={"name": settings["model"]} | model.describe(),
        findings=accept([_for_shards(found, as_they_are) for found in findings], settings["doctor"]["accept"]),
        splits=[
            split_facts(survey, [role for role in ROLES if name in roles[role]]) for name, survey in surveys.items()
        ],
        plan=plan.facts(),
    )


def _for_shards(finding: Finding, corpora: Collection[str]) -> Finding:
    """Return a finding without changes that the configuration refuses: those of ``corpora`` used as they are."""
    allowed = {
        key: value
        for key, value in finding.change.items()
        if not any(key.startswith(f"corpora.{name}.") for name in corpora)
    }
    return finding if allowed == finding.change else replace(finding, remedy=MEND_SHARDS, change=allowed)


def _of_model(model: BaseModel, settings: Mapping[str, Any]) -> Iterator[Finding]:
    if model.tokenizer is None:
        yield Finding(
            code="unread_tokenizer",
            severity=NOTE,
            subject=settings["experiment"],
            message=f"the tokenizer of {settings['model']} has a part for each language: no text was compared with it",
            remedy="make sure that it knows the transcripts, then accept the finding",
            change=acceptance("unread_tokenizer", settings["experiment"], settings),
        )
