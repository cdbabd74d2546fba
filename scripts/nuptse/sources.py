"""Which of our files a command runs, so that Snakemake can see when its code changes."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def source_files(script: Path) -> tuple[Path, ...]:
    """Return ``script`` and every module of ours that it imports, directly or not; the script comes first.

    Reads import statements, also those inside functions, and runs nothing.
    """
    folder = script.parent
    found, waiting = {script: None}, [script]
    while waiting:
        for name in _imported_modules(waiting.pop()):
            module = folder.joinpath(*name.split(".")).with_suffix(".py")
            if module.is_file() and module not in found:
                found[module] = None
                waiting.append(module)
    return tuple(found)


def _imported_modules(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"), path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
