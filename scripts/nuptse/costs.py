"""What the jobs of a run cost: the benchmark files that Snakemake writes, added up by rule."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nuptse.formats import is_number


@dataclass(frozen=True)
class Cost:
    """All jobs of a rule.

    Attributes:
        seconds: wall time, added up: what one job after the other would take.
        cpu_seconds: time on all cores, added up; None where the jobs were too short to be looked at.
        peak_bytes: memory of the largest job (resident set), bytes; None likewise.
    """

    rule: str
    jobs: int
    seconds: float
    cpu_seconds: float | None
    peak_bytes: float | None


def read_costs(folder: Path, rules: Iterable[str], names: Iterable[str]) -> tuple[list[Cost], list[str]]:
    """Return the cost of each rule, and the rules of which there is no record.

    Args:
        folder: ``benchmarks``, with ``<rule>/<job>.tsv`` or ``<rule>/<folder>/<job>.tsv``.
        rules: of this run, in the order of the work.
        names: what its jobs are called: experiments, corpora, splits. A file of another name is of an earlier run.
    """
    known, found, missing = set(names), [], []
    for rule in rules:
        jobs = [
            row
            for path in sorted((folder / rule).rglob("*.tsv"))
            if path.relative_to(folder / rule).parts[0].removesuffix(".tsv") in known
            for row in _rows(path)
        ]
        if jobs:
            found.append(_add_up(rule, jobs))
        else:
            missing.append(rule)
    return found, missing


def _rows(path: Path) -> list[dict[str, float | None]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: _number(row.get(key)) for key in ("s", "cpu_time", "max_rss")}
            for row in csv.DictReader(file, delimiter="\t")
        ]


def _number(text: str | None) -> float | None:
    """Snakemake writes ``NA`` for what it could not measure."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if is_number(value) else None


def _add_up(rule: str, jobs: list[dict[str, float | None]]) -> Cost:
    seconds = [job["s"] for job in jobs if job["s"] is not None]
    cpu = [job["cpu_time"] for job in jobs if job["cpu_time"] is not None]
    # The column is in MiB, though Snakemake calls it MB.
    peaks = [job["max_rss"] * 2**20 for job in jobs if job["max_rss"]]
    return Cost(rule, len(jobs), sum(seconds), sum(cpu) if cpu else None, max(peaks, default=None))
