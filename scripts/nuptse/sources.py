"""Which of our files a command runs, so that Snakemake can see when its code changes."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TEMPLATES = "nuptse/templates"


@cache
def source_files(script: Path) -> tuple[Path, ...]:
    """Return ``script`` and every module of ours that it imports, directly or not; the script comes first.

    Templates that a module names, and those that these include, come with it. Reads import statements, also those
    inside functions, and runs nothing.
    """
    folder = script.parent
    found, waiting = {script: None}, [script]
    while waiting:
        path = waiting.pop()
        for file in _named_files(path, folder):
            if file.is_file() and file not in found:
                found[file] = None
                waiting.append(file)
    return tuple(found)


@cache
def _named_files(path: Path, folder: Path) -> list[Path]:
    templates = [folder / TEMPLATES / name for name in _named_templates(path)]
    return [*_imported_modules(path, folder), *templates]


def _imported_modules(path: Path, folder: Path) -> list[Path]:
    if path.suffix != ".py":
        return []
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"), path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [folder.joinpath(*name.split(".")).with_suffix(".py") for name in names]


def _named_templates(path: Path) -> list[str]:
    """Names in quotes that end as templates do: in a module, or in ``{% include "…" %}`` of another template."""
    return re.findall(r'"([\w.]+\.(?:j2|css|js))"', path.read_text("utf-8"))
