"""Which of our files a command runs, so that Snakemake can see when its code changes."""

from __future__ import annotations

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
    names: list[str] = []
    for module, members, modules in _IMPORT.findall(path.read_text("utf-8")):
        found = [words[0] for part in re.sub("#.*|[()]", "", members or modules).split(",") if (words := part.split())]
        names += [module, *(f"{module}.{name}" for name in found)] if module else found
    return [folder.joinpath(*name.split(".")).with_suffix(".py") for name in names]


# Not the module ast: reading a hundred files with it takes a fifth of a second each time Snakemake starts. What looks
# like an import in a text only adds a file.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n(]+)|import[ \t]+([^\n]+))", re.MULTILINE
)


def _named_templates(path: Path) -> list[str]:
    """Names in quotes that end as templates do: in a module, or in ``{% include "…" %}`` of another template."""
    return re.findall(r'"([\w.]+\.(?:j2|css|js))"', path.read_text("utf-8"))
