"""The ledger of a directory of unpacked archives: how much it holds, and what each archive gave."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nuptse.errors import UserError
from nuptse.folder_state import SNAKEMAKE_STAMP, folder_state


@dataclass
class ArchiveCounts:
    """What one archive gave.

    Attributes:
        name: file name of the archive.
        bytes: its size.
        members: all entries, directories and repeated files too.
        files: files on disk that came from it.
        unpacked_bytes: size of these.
        shadowed: files left out because the same name was there before with other contents.
    """

    name: str
    bytes: int
    members: int = 0
    files: int = 0
    unpacked_bytes: int = 0
    shadowed: int = 0


@dataclass(frozen=True)
class Ledger:
    """What a directory of unpacked archives holds: number of files, sum of their sizes in bytes, ``folder_state``."""

    archives: list[ArchiveCounts]
    files: int
    bytes: int
    state: str


def changes(directory: Path, ledger: Path) -> str:
    """Return "" for a directory as it was unpacked, or not there yet; else a text that names its state.

    Snakemake looks into no directory: as a param this makes it see a file that was edited or deleted in one.
    """
    if not directory.is_dir() or not ledger.is_file():
        return ""
    state = folder_state(directory)
    try:
        unpacked = json.loads(ledger.read_text(encoding="utf-8"))["state"]
    except (ValueError, KeyError, TypeError):
        unpacked = None  # a damaged ledger: check_tree says so when it comes to it
    return "" if state == unpacked else f"changed by hand: {state}"


def check_tree(directory: Path, ledger: Path) -> None:
    """Compare the number of files and bytes under ``directory`` with its ledger; contents are not read.

    Raises:
        UserError: they differ, or one of the two is missing.
    """
    again = f"delete {directory} and run again to extract it anew"
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory; run again to extract it")
    try:
        record = json.loads(ledger.read_text(encoding="utf-8"))
        expected = record["files"], record["bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{ledger} is not a ledger of {directory}; {again}") from error
    files, size = _count_tree(directory)
    if (files, size) != expected:
        raise UserError(
            f"{directory} holds {files} files, {size} bytes; the ledger says {expected[0]} files, {expected[1]} bytes;"
            f" {again}"
        )


def _count_tree(directory: Path) -> tuple[int, int]:
    files = size = 0
    waiting = [str(directory)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name != SNAKEMAKE_STAMP:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
    return files, size
