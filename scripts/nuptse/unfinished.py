"""What jobs that failed were to make, so that the next run makes it.

Snakemake deletes the files of a job before it starts, and asks for none of them again where all that they lead to is
there from an earlier run. An edit of code or configuration whose first job failed might never reach the results: the
next run would have nothing to do. So a run writes down what is there when it begins, and strikes out what is there
when it ends, well or not. What is left on the list and missing is asked for until it is back. A run that is killed
strikes out nothing. What a user deletes between two runs is on no list, and stays away.

Standard library only: Snakemake reads it when it parses the rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from nuptse.errors import write_atomically


def begin_run(store: Path, files: Iterable[str]) -> None:
    """List those of ``files`` that are there, beside what earlier runs have left missing.

    Args:
        store: the list, JSON.
        files: all that leads to the results.
    """
    _write(store, {*filter(_exists, files), *_missing(store)})


def end_run(store: Path) -> None:
    """Leave on the list only what is missing."""
    _write(store, _missing(store))


def unfinished_files(store: Path, files: Iterable[str]) -> list[str]:
    """Return those of ``files`` that are on the list and missing."""
    missing = _missing(store)
    return [file for file in files if file in missing]


def _missing(store: Path) -> set[str]:
    try:
        listed: list[str] = json.loads(store.read_bytes())
    except (OSError, ValueError):
        return set()
    return {file for file in listed if not _exists(file)}


def _exists(file: str) -> bool:
    return Path(file).exists()


def _write(store: Path, files: Iterable[str]) -> None:
    with write_atomically(store) as partial:
        partial.write_text(json.dumps(sorted(files), indent=1) + "\n", "utf-8")
