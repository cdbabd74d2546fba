"""Findings of the doctor: what is wrong, how much of it, where, and the one change that mends it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nuptse.errors import write_atomically
from nuptse.finding_codes import parse_acceptance
from nuptse.jsonl import read_json

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
# Of shards that are used as they are: no text profile and no filter applies to them.
MEND_SHARDS = "mend the manifests of `nemo_shards`, which are used as they are, or mark rows there with `_skipme`"


class Example(msgspec.Struct, frozen=True):
    """An utterance: its id, ``file:line`` of its row, and its text or what is wrong with it."""

    id: str
    where: str
    text: str


class Finding(msgspec.Struct, kw_only=True):
    """One thing that is wrong with a split, or with the plan of an experiment.

    Attributes:
        code: a key of ``finding_codes.CODES``.
        severity: ``error`` (the experiment is not trained), ``warning`` or ``note``.
        subject: ``corpus/split``, or the name of the experiment.
        message: what was found.
        remedy: what mends it, in words.
        change: the same as keys of the configuration (dotted) and their values, where keys can mend it.
        count, of: utterances (or files) that are concerned, of so many; 0 where nothing is counted.
        share_of_hours: share of the audio of the subject that is concerned.
        examples: at most three.
        accepted: whether ``doctor.accept`` names it.
    """

    code: str
    severity: str
    subject: str
    message: str
    remedy: str
    change: dict[str, Any] = {}
    count: int = 0
    of: int = 0
    share_of_hours: float = 0.0
    examples: list[Example] = []
    accepted: bool = False


class Report(msgspec.Struct, kw_only=True):
    """results/doctor/{experiment}.json.

    Attributes:
        splits: facts of each split that the experiment uses, see ``surveys.split_facts``.
        plan: numbers of the training plan, see ``training_plan.plan_facts``.
    """

    experiment: str
    base: dict[str, Any]
    findings: list[Finding]
    splits: list[dict[str, Any]]
    plan: dict[str, Any]

    def of(self, severity: str) -> list[Finding]:
        """Return the findings of a severity that are not accepted."""
        return [finding for finding in self.findings if finding.severity == severity and not finding.accepted]


def acceptance(code: str, subject: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the change of the configuration that accepts a finding, beside those that are accepted already."""
    return {"doctor.accept": [*settings["doctor"]["accept"], f"{code}:{subject}"]}


def accept(findings: Iterable[Finding], accepted: Sequence[str]) -> list[Finding]:
    """Return the findings, errors first, with those marked that ``accepted`` names (``code`` or ``code:subject``)."""
    known = {parse_acceptance(entry) for entry in accepted}
    marked = []
    for finding in findings:
        finding.accepted = bool(known & {(finding.code, ""), (finding.code, finding.subject)})
        marked.append(finding)
    return sorted(marked, key=gravity)


def gravity(finding: Finding) -> tuple[bool, int]:
    """Return what findings are sorted by: errors, warnings, notes, and what is accepted."""
    return finding.accepted, SEVERITIES.index(finding.severity)


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(msgspec.to_builtins(report), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        UserError: it is missing or of another form.
    """
    return read_json(path, Report)
