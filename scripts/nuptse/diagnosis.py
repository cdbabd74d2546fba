"""The findings of experiments as text for a terminal: a line for what is well, a paragraph for what is not."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nuptse.errors import UserError
from nuptse.findings import ERROR, NOTE, WARNING, Finding, Report, gravity, read_report

WIDTH = 110


def change_as_yaml(change: Mapping[str, Any]) -> list[str]:
    """Return the keys of a change as lines, such as ``corpora.libri.text: [lower]``.

    >>> change_as_yaml({"corpora.libri.text": ["lower"], "experiments.a.train_ds.min_duration": None})
    ['corpora.libri.text: ["lower"]', 'experiments.a.train_ds.min_duration: null']
    """
    return [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in change.items()]


def counts(report: Report) -> str:
    """Return how many findings there are, such as ``1 error, 2 warnings``; accepted ones stand last."""
    parts = []
    for severity in (ERROR, WARNING, NOTE):
        if number := len(report.of(severity)):
            parts.append(f"{number} {severity}{'' if number == 1 else 's'}")
    if accepted := sum(finding.accepted for finding in report.findings):
        parts.append(f"{accepted} accepted")
    return ", ".join(parts)


def headline(report: Report) -> str:
    """Return one line about an experiment."""
    hours = sum(split["seconds"] for split in report.splits) / 3600
    plan = report.plan
    memory = f", about {plan['memory_bytes'] / 1e9:.1f} GB for a batch (estimate)" if plan["memory_bytes"] else ""
    state = counts(report)
    healthy = not report.of(ERROR) and not report.of(WARNING)
    verdict = f"healthy ({state})" if healthy and state else "healthy" if healthy else state
    return (
        f"{report.experiment}: {verdict}; {len(report.splits)} splits, {hours:.2f} h;"
        f" {plan['steps']} steps see the training data {plan['passes']:.3g} times{memory}"
    )


def describe(finding: Finding, experiments: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines about one finding; ``experiments`` are named where several have it."""
    state = "accepted" if finding.accepted else finding.severity
    amount = f": {finding.count} of {finding.of}, {finding.share_of_hours:.2%} of the hours" if finding.of else ""
    among = f" (in {', '.join(experiments)})" if len(experiments) > 1 else ""
    yield f"  {state.upper() if state == ERROR else state} {finding.code} {finding.subject}{amount}{among}"
    if finding.accepted:
        return
    yield from _wrapped(finding.message)
    for example in finding.examples:
        yield f"      {example.id} ({example.where}): {example.text}"
    yield from _wrapped(f"mend: {finding.remedy}")
    yield from (f"      {line}" for line in change_as_yaml(finding.change))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def diagnose(reports: Sequence[Report]) -> Iterator[str]:
    """Yield the lines about all experiments: one for each, then every finding once, whoever has it."""
    for report in reports:
        yield headline(report)
    for finding, experiments in grouped(reports):
        yield from describe(finding, experiments)


def grouped(reports: Iterable[Report]) -> list[tuple[Finding, list[str]]]:
    """Return every finding once, with the experiments that have it; the gravest first."""
    owners: dict[str, list[str]] = {}
    found: dict[str, Finding] = {}
    for report in reports:
        for finding in report.findings:
            key = json.dumps([finding.code, finding.subject, finding.message, finding.remedy, finding.accepted])
            owners.setdefault(key, []).append(report.experiment)
            found.setdefault(key, finding)
    return sorted(((finding, owners[key]) for key, finding in found.items()), key=lambda pair: gravity(pair[0]))


def refusal(reports: Sequence[Report]) -> str:
    """Return why experiments must not be trained; nothing if they may be."""
    bad = [report.experiment for report in reports if report.of(ERROR)]
    if not bad:
        return ""
    return (
        f"the doctor found errors in {', '.join(bad)}: mend them as it says, or name them under `doctor.accept` if"
        " all is as it should be; nothing is trained on them before"
    )


def check_report(path: Path) -> Report:
    """Let a training start, or not; return the report.

    Raises:
        UserError: the report has errors that are not accepted; the message shows them.
    """
    report = read_report(path)
    if reason := refusal([report]):
        errors = [line for finding in report.of(ERROR) for line in describe(finding)]
        raise UserError("\n".join([reason, *errors]))
    return report
