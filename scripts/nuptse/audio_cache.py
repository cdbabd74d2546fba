"""Remember what was measured of audio files, so that no file is decoded a second time before it changes.

The cache is a folder of JSON Lines files. Every process writes a file of its own and reads those of all others, so that
there is nothing to lock: it works on network file systems and for several jobs at once, and a process that is killed
leaves at most half a line behind, which is ignored. Whoever deletes the folder loses nothing but time.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import soundfile
import xxhash

from nuptse import audio_reading, sound, unreadable, wav_header
from nuptse.audio_reading import Segment
from nuptse.errors import refused_by_the_disk, write_atomically

# A file that changed a moment ago may change once more within the same tick of the clock of its file system.
_SETTLED_NS = 2_000_000_000


class Stamp(NamedTuple):
    """What tells without reading a file that it is still the same, as in the index of git."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Entry(msgspec.Struct, array_like=True):
    """What is known of a file: ``stamp`` is None if it was too young for one to be trusted."""

    path: str
    stamp: Stamp | None
    content: str
    version: str
    segments: list[Segment]
    measured: list[dict[str, Any]]


_decode = msgspec.json.Decoder(Entry).decode


class _Key(msgspec.Struct, array_like=True):
    path: str
    stamp: Any
    content: str
    version: str


def measuring_version() -> str:
    """Return what changes when the same file may be measured otherwise: the code that measures, and its decoder."""
    digest = xxhash.xxh3_64(soundfile.__libsndfile_version__.encode())
    for module in (audio_reading, sound, unreadable, wav_header):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def stamp_of(path: str) -> Stamp:
    found = os.stat(path)
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def settled(stamp: Stamp, now_ns: int) -> Stamp | None:
    """Return the stamp if no change can hide behind it any more."""
    return stamp if now_ns - max(stamp.mtime_ns, stamp.ctime_ns) > _SETTLED_NS else None


class AudioCache:
    """The cache in ``folder``, as it was when it was opened, and what this process adds to it.

    Args:
        folder: need not exist.
        database: where it is kept in the meantime, see ``nuptse.scratch``.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self.version = measuring_version()
        self._database = database
        database.execute("CREATE TABLE known (path TEXT PRIMARY KEY, line BLOB)")
        self._files = sorted(folder.glob("[!.]*.jsonl"))
        self._own: BinaryIO | None = None
        self._written_s = 0.0
        for file in self._files:
            self._load(file)

    def _load(self, file: Path) -> None:
        decoder = msgspec.json.Decoder(_Key)
        try:
            with file.open("rb") as lines:
                for line in lines:
                    try:
                        key = decoder.decode(line)
                    except msgspec.DecodeError:  # the last line of a process that was killed
                        continue
                    if key.version == self.version:
                        self._keep(key.path, line.rstrip(b"\n"))
        except FileNotFoundError:  # another process has just put it together with others
            return

    def _keep(self, path: str, line: bytes) -> None:
        self._database.execute("INSERT OR REPLACE INTO known VALUES (?, ?)", (path, line))

    def entry(self, path: str, segments: Sequence[Segment]) -> Entry | None:
        """Return what is known of a file if it is known of all these segments."""
        row = self._database.execute("SELECT line FROM known WHERE path = ?", (path,)).fetchone()
        try:
            entry = _decode(row[0]) if row else None
        except msgspec.DecodeError:
            return None
        return entry if entry and entry.segments == list(segments) else None

    def add(self, entry: Entry) -> None:
        line = msgspec.json.encode(entry)
        self._keep(entry.path, line)
        with refused_by_the_disk(self.folder):
            if self._own is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{uuid.uuid4().hex}.jsonl"
                self._own = path.open("xb")
                self._files.append(path)
            self._own.write(line + b"\n")
            if time.monotonic() - self._written_s > 1:
                self._own.flush()
                self._written_s = time.monotonic()

    def close(self, *, tidy: bool = False) -> None:
        """Write what is not yet written; with ``tidy`` put all files of the cache together into one."""
        if self._own is not None:
            with refused_by_the_disk(self.folder):
                self._own.close()
        if not tidy or len(self._files) < 2:
            return
        with write_atomically(self.folder / f"{uuid.uuid4().hex}.jsonl") as partial, partial.open("wb") as file:
            rows = self._database.execute("SELECT line FROM known ORDER BY path")
            file.writelines(line + b"\n" for (line,) in rows)
        for path in self._files:
            path.unlink(missing_ok=True)
