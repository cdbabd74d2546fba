"""Links to nothing among our files, as a disk leaves them that is not mounted.

Snakemake takes such a link for a file at one moment and not at another, and says no more than that it has no time.
Standard library only: Snakemake uses it when it parses the rules.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nuptse.errors import UserError, make_again

# Where rules write. Deeper ones hold what Snakemake does not look at: audio, and what is in the folder of a rule.
DEPTH = {"data": 3, "results": 2}
NOT_OURS = ("data/raw", "data/converted")


def check_links() -> None:
    """Refuse links to nothing below the working directory.

    Raises:
        UserError: there is one; the message names it.
    """
    for folder, depth in DEPTH.items():
        for link in _dead_links(Path(folder), depth):
            raise UserError(
                f"{link} is a link to {link.readlink()}, which is not there: mount what holds it, or {make_again(link)}"
            )


def _dead_links(path: Path, depth: int) -> Iterator[Path]:
    if path.is_symlink() and not path.exists():
        yield path
    elif depth and path.is_dir() and str(path) not in NOT_OURS:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink() or entry.is_dir():
                    yield from _dead_links(Path(entry), depth - 1)
