"""Tell whether anything in a corpus folder changed, without reading its audio. Standard library only: see plan.py."""

from __future__ import annotations

# Strings below, not paths: a corpus has a hundred thousand files and more, and Path takes five times as long.
import hashlib
import os
from pathlib import Path

AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".sph", ".aac", ".wma"})
# Snakemake leaves this empty file in a folder that is the output of a rule.
SNAKEMAKE_STAMP = ".snakemake_timestamp"
# Larger files count by their time instead of their contents: no transcript is that large, but a forgotten archive is.
MAX_READ_BYTES = 64 << 20


def is_audio(name: str) -> bool:
    """Return whether a file is audio by its suffix."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def folder_state(folder: Path, *, contents: bool = True) -> str:
    """Return 16 hexadecimal digits that change with any name or size below ``folder``, and with any transcript.

    Audio counts by name and size, everything else by name and contents, so that a copy of a corpus has the same state;
    without ``contents`` by name, size and time.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in files_below(folder):
        size = os.stat(path).st_size
        digest.update(f"{os.path.relpath(path, folder)}\0{size}\0".encode(errors="surrogateescape"))
        if not is_audio(path):
            if contents and size <= MAX_READ_BYTES:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
            else:
                digest.update(str(os.stat(path).st_mtime_ns).encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[str]:
    """Return the files of a folder at any depth, sorted; links to folders are not followed."""
    found = []
    for root, _, names in os.walk(folder):
        found += [os.path.join(root, name) for name in names if name != SNAKEMAKE_STAMP]
    return sorted(path for path in found if os.path.isfile(path))  # a dead link has no state
