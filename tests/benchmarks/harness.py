"""What the benchmarks share: run commands by turns, and take wall time, CPU time and peak memory of each.

A row compares a command of ours with a reference that does the unavoidable part of the same work. The two take turns, so
that both share the noise of the machine, and the medians are compared. CPU seconds hardly change when others use the
machine too; wall seconds do.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
COST = Path(__file__).parent / "cost.py"
RESULTS = ROOT / "benchmarks" / "results"
# As everywhere, modules are compiled once, not at each start.
_COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT = _COMPILED | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass(frozen=True)
class Cost:
    """What a command took, its children included: wall and CPU seconds, and the memory of its largest process, MB."""

    wall_s: float
    cpu_s: float
    memory_mb: float

    def beyond(self, start: Cost) -> Cost:
        """Return what is left without what the start alone takes."""
        return Cost(self.wall_s - start.wall_s, self.cpu_s - start.cpu_s, self.memory_mb)


@dataclass
class Work:
    """Commands that are timed as one, what has to be done before (not timed), where, and whether output is thrown away."""

    commands: Sequence[Sequence[str | Path]]
    prepare: Callable[[], object] = field(default=lambda: None)
    folder: Path | None = None
    quiet: bool = False


@dataclass
class Row:
    """One line of the table: medians of our work and of the reference.

    Attributes:
        amount: how much of what was done, such as 10,000 files.
        limit: the largest ratio of ours to the reference, or the most seconds, that would satisfy; None: no limit.
        measure: ``cpu_s``, ``wall_s`` or ``memory_mb``, in which the limit is meant.
    """

    name: str
    reference: str
    amount: str
    ours: Cost
    theirs: Cost | None
    rounds: int
    measure: str
    limit: float | None = None
    note: str = ""

    @property
    def value(self) -> float:
        """The ratio to the reference, or seconds where there is none."""
        ours: float = getattr(self.ours, self.measure)
        return ours / getattr(self.theirs, self.measure) if self.theirs else ours


def run(work: Work) -> Cost:
    """Run the commands one after the other; a failure shows its output and ends the benchmark."""
    work.prepare()
    wall = cpu = memory = 0.0
    for command in work.commands:
        with tempfile.NamedTemporaryFile() as file:
            run = subprocess.run(
                [sys.executable, "-I", COST, file.name, *map(str, command)],
                cwd=work.folder or ROOT,
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL if work.quiet else subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            if run.returncode:
                sys.exit(f"{command} failed:\n{(run.stdout or b'').decode(errors='replace')[-4000:]}")
            _, wall_s, cpu_s, memory_mb = json.loads(file.read())
        wall, cpu, memory = wall + wall_s, cpu + cpu_s, max(memory, memory_mb)
    return Cost(wall, cpu, memory)


def by_turns(works: Mapping[str, Work], rounds: int) -> dict[str, Cost]:
    """Return the median cost of each work; every second round goes backwards, so that none always comes first."""
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: -1 if number % 2 else 1]:
            costs[name].append(run(works[name]))
    return {name: median(taken) for name, taken in costs.items()}


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(*(round(statistics.median(getattr(cost, key) for cost in costs), 4) for key in Cost.__annotations__))


def machine() -> dict[str, object]:
    """Return what a reader needs to judge the numbers."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    load = os.getloadavg()[0]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        "load": round(load, 1),
        "commit": commit.strip(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines() if Path(path).exists() else []


def save(name: str, content: object) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), "rows": content}, indent=1) + "\n")


def report_lines(name: str, lines: Sequence[str]) -> None:
    """Keep a table of another form in benchmarks/results/{name}.json, and print it."""
    save(name, list(lines))
    print("\n".join(lines), flush=True)


def load(name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def report(name: str, rows: Sequence[Row]) -> None:
    """Keep the rows in benchmarks/results/{name}.json and print them as a table."""
    save(name, [asdict(row) | {"value": round(row.value, 4)} for row in rows])
    print("\n".join(table([asdict(row) | {"value": row.value} for row in rows])), flush=True)


MEASURES = {"cpu_s": "CPU", "wall_s": "wall", "memory_mb": "memory"}


def table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| what | amount | ours: wall, CPU, memory | reference | its wall, CPU, memory | ratio | at most |",
        "|---|---|---|---|---|---:|---:|",
    ]
    for row in rows:
        theirs, unit = row["theirs"], "" if row["theirs"] else " s"
        verdict = "" if row["limit"] is None else f"{row['limit']:g}{unit}" + _verdict(row)
        cells = [
            f"{row['name']}{': ' + str(row['note']) if row['note'] else ''}",
            row["amount"],
            "{wall_s:.2f} s, {cpu_s:.2f} s, {memory_mb:.0f} MB".format(**row["ours"]),  # type: ignore[arg-type]
            row["reference"],
            "{wall_s:.2f} s, {cpu_s:.2f} s, {memory_mb:.0f} MB".format(**theirs) if theirs else "",  # type: ignore[arg-type]
            f"{row['value']:.2f}{unit} ({MEASURES[str(row['measure'])]})",
            verdict,
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _verdict(row: Mapping[str, object]) -> str:
    return "" if float(row["value"]) <= float(row["limit"]) else ", **missed**"  # type: ignore[arg-type]
