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
            if file not in found:
                found[file] = None
                waiting.append(file)
    return tuple(found)


@cache
def _named_files(path: Path, folder: Path) -> list[Path]:
    text = path.read_text("utf-8")
    modules = _imported_modules(text) if path.suffix == ".py" else []
    names = [module.replace(".", "/") + ".py" for module in modules]
    names += [f"{TEMPLATES}/{name}" for name in _TEMPLATE.findall(text)]
    # Asked once for each file here, not for each command that imports it.
    return [file for name in dict.fromkeys(names) if (file := folder / name).is_file()]


def _imported_modules(text: str) -> list[str]:
    names: list[str] = []
    for module, members, modules in _IMPORT.findall(text):
        found = [words[0] for part in re.sub("#.*|[()]", "", members or modules).split(",") if (words := part.split())]
        names += [module, *(f"{module}.{name}" for name in found)] if module else found
    return names


# Not the module ast: reading a hundred files with it takes a fifth of a second each time Snakemake starts. What looks
# like an import in a text only adds a file.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n(]+)|import[ \t]+([^\n]+))", re.MULTILINE
)

# Names in quotes that end as templates do: in a module, or in ``{% include "…" %}`` of another template.
_TEMPLATE = re.compile(r'"([\w.]+\.(?:j2|css|js))"')
