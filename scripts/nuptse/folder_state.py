"""Tell whether anything in a corpus folder changed, without reading its audio. Standard library only: see plan.py."""

from __future__ import annotations

# Strings below, not paths: a corpus has a hundred thousand files and more, and Path takes five times as long.
import hashlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".sph", ".aac", ".wma"})
# What audio to transcribe may be besides. Only there: a corpus whose such files counted otherwise would be read again.
OWN_AUDIO_SUFFIXES = AUDIO_SUFFIXES | frozenset(
    ".aif .aiff .aifc .oga .au .caf .w64 .rf64 .mp4 .m4b .webm .amr .mka .mkv .mov .3gp .ac3".split()
)
# Snakemake leaves this empty file in a folder that is the output of a rule.
SNAKEMAKE_STAMP = ".snakemake_timestamp"
# Larger files count by their time instead of their contents: no transcript is that large, but a forgotten archive is.
MAX_READ_BYTES = 64 << 20
# Files of a corpus of one's own that are read at every start of Snakemake: a fifth of a second.
MOST_READ = 10_000


def is_audio(name: str, suffixes: frozenset[str] = AUDIO_SUFFIXES) -> bool:
    """Return whether a file is audio by its suffix."""
    return os.path.splitext(name)[1].lower() in suffixes


def folder_state(folder: Path, *, most_read: int | None = None, audio: frozenset[str] = AUDIO_SUFFIXES) -> str:
    """Return 16 hexadecimal digits that change with any name or size below ``folder``, and with any transcript.

    Audio counts by name and size, everything else by name and contents, so that a copy of a corpus has the same state.
    A file in place of ``folder`` counts in the same way, whatever its own name.
    Of more files than ``most_read`` that are no audio none is read: they count by name, size and time. ``audio`` are
    the suffixes of audio.
    """
    digest = hashlib.blake2b(digest_size=8)
    paths = [os.fspath(folder)] if os.path.isfile(folder) else files_below(folder)
    read = most_read is None or sum(not is_audio(path, audio) for path in paths) <= most_read
    above = len(os.path.join(folder, ""))
    for path in paths:
        found = os.stat(path)
        digest.update(f"{path[above:]}\0{found.st_size}\0".encode(errors="surrogateescape"))
        if not is_audio(path, audio):
            if read and found.st_size <= MAX_READ_BYTES:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
            else:
                digest.update(str(found.st_mtime_ns).encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[str]:
    """Return the files of a folder at any depth, sorted; see ``folders_below``."""
    return sorted(os.path.join(root, name) for root, names in folders_below(folder) for name in names)


def folders_below(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and each one below it, sorted, with the names of its files, sorted.

    Links to folders come last, so that a folder that lies here is read by its own name. One that was read before is not
    read again, and a link to a folder that it lies in itself leads nowhere.
    """
    waiting, links, linked = [os.fspath(folder)], deque[str](), False
    seen: set[tuple[int, int]] = set()
    while waiting or links:
        if not waiting:
            linked, link = True, links.popleft()
            waiting += [] if _leads_up(link) else [link]
            continue
        root = waiting.pop()
        try:
            state = os.stat(root)
            with os.scandir(root) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:  # gone, a dead link, or not ours to read
            continue
        # Behind links only: nothing else can be there twice, and not all file systems number their folders.
        if linked and (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        names = [entry.name for entry in entries if entry.name != SNAKEMAKE_STAMP and _is_file(entry)]
        yield root, names
        if len(names) < len(entries):
            waiting += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
            files = set(names)
            links += [entry.path for entry in entries if entry.is_symlink() and entry.name not in files]


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Ask the file system about links only; a dead one has no state."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def _leads_up(link: str) -> bool:
    here, there = os.path.realpath(os.path.dirname(link)), os.path.realpath(link)
    return os.path.commonpath([here, there]) == there
