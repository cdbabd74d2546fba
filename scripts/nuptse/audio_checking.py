"""Measure the audio of every cut of a split: each file is decoded once, and not again before it changes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from nuptse.audio_cache import AudioCache, Entry, settled, stamp_of
from nuptse.audio_facts import MISSING, UNREADABLE
from nuptse.audio_reading import Segment, measure
from nuptse.checksums import xxh128_of
from nuptse.errors import say
from nuptse.jsonl import read_rows
from nuptse.unreadable import why_unreadable
from nuptse.workers import in_parallel

# Below this much audio it takes longer to start processes than to decode in this one.
_ALONE_S = 3600.0
_FILES_PER_TASK = 16
_PROGRESS_S = 30.0
_encode = msgspec.json.Encoder().encode


class _Source(msgspec.Struct):
    source: str
    type: str
    channels: list[int]


class _Recording(msgspec.Struct):
    sources: list[_Source]
    sampling_rate: int
    duration: float


class _Cut(msgspec.Struct):
    id: str
    start: float
    duration: float
    channel: int
    recording: _Recording


@dataclass
class AudioFile:
    """A file and the cuts in it: ``rows`` are their places in the manifest, ``segments`` what they are."""

    path: str
    rows: list[int]
    segments: list[Segment]

    @property
    def seconds(self) -> float:
        return sum(segment.duration_s for segment in self.segments)


@dataclass
class Effort:
    """What it took: files, and how many of them were decoded or could not even be opened; the rest were known."""

    files: int = 0
    decoded: int = 0
    unopened: int = 0

    def __str__(self) -> str:
        known = self.files - self.decoded - self.unopened
        return f"{self.files} files: {self.decoded} decoded, {known} known, {self.unopened} not opened"


def check_audio(
    selected: Path,
    cache: AudioCache,
    database: sqlite3.Connection,
    workers: int,
    group: tuple[int, int] | None = None,
) -> Effort:
    """Measure the audio of the cuts of a split; ``facts`` gives what was found.

    Args:
        selected: cuts, JSONL(.gz).
        cache: is asked and added to.
        database: where all of this is kept in the meantime, see ``nuptse.scratch``.
        workers: processes.
        group: ``(g, n)`` for the files of the g-th of n groups only, g from 0.
    """
    for table in (
        "cuts (number INTEGER PRIMARY KEY, path TEXT, start REAL, duration REAL, channel INTEGER, declared BLOB)",
        "facts (number INTEGER PRIMARY KEY, found BLOB)",
        "unknown (path TEXT PRIMARY KEY)",
    ):
        database.execute(f"CREATE TABLE {table}")
    _read(selected, group, database)
    effort, unknown, unknown_s = Effort(), 0, 0.0
    for file in _files(database, "cuts"):
        effort.files += 1
        known = _known(file, cache)
        if known is None:
            database.execute("INSERT INTO unknown VALUES (?)", (file.path,))
            unknown, unknown_s = unknown + 1, unknown_s + file.seconds
        else:
            _enter(database, file, known)
    files = _files(database, "unknown JOIN cuts USING (path)")
    for file, entry, fresh in _measured(files, unknown, unknown_s, cache, workers):
        _enter(database, file, entry.measured)
        if entry.content:
            cache.add(entry)
        effort.decoded += fresh
        effort.unopened += not entry.content
    return effort


def facts(database: sqlite3.Connection) -> Iterator[bytes]:
    """Yield a row for each cut, JSON of the form of ``AudioFacts``, in the order of the manifest."""
    rows = database.execute("SELECT declared, found FROM cuts JOIN facts USING (number) ORDER BY number")
    # The members of two objects, neither of which is empty.
    return (declared[:-1] + b"," + found[1:] for declared, found in rows)


def _read(selected: Path, group: tuple[int, int] | None, database: sqlite3.Connection) -> None:
    """Keep what the manifest declares of each cut, in its order."""
    for number, cut in enumerate(read_rows(selected, _Cut)):
        recording, source = cut.recording, cut.recording.sources[0]
        if group is not None and xxhash.xxh32_intdigest(source.source.encode()) % group[1] != group[0]:
            continue
        declared = {
            "id": cut.id,
            "audio": source.source,
            "start_s": cut.start,
            "duration_s": cut.duration,
            "declared_s": recording.duration,
            "declared_rate": recording.sampling_rate,
            "declared_channels": len(source.channels),
        }
        channel = source.channels.index(cut.channel)
        values = (number, source.source, cut.start, cut.duration, channel, _encode(declared))
        database.execute("INSERT INTO cuts VALUES (?, ?, ?, ?, ?, ?)", values)


def _files(database: sqlite3.Connection, tables: str) -> Iterator[AudioFile]:
    """Yield the files with their cuts, sorted by path."""
    rows = database.execute(f"SELECT path, number, start, duration, channel FROM {tables} ORDER BY path, number")
    for path, cuts in groupby(rows, key=itemgetter(0)):
        file = AudioFile(path, [], [])
        for _, number, *segment in cuts:
            file.rows.append(number)
            file.segments.append(Segment(*segment))
        yield file


def _enter(database: sqlite3.Connection, file: AudioFile, measured: Sequence[dict[str, Any]]) -> None:
    rows = [(row, _encode(found)) for row, found in zip(file.rows, measured, strict=True)]
    database.executemany("INSERT INTO facts VALUES (?, ?)", rows)


def _known(file: AudioFile, cache: AudioCache) -> list[dict[str, Any]] | None:
    """Return what the cache knows of a file whose stamp is still the same."""
    entry = cache.entry(file.path, file.segments)
    try:
        same = entry is not None and entry.stamp is not None and entry.stamp == stamp_of(file.path)
    except OSError:
        return None
    return entry.measured if entry is not None and same else None


# --- files of which nothing is known, or that may have changed ---

# A file with what was known of it, and a file with what it holds and whether it had to be decoded for that.
_Task = tuple[AudioFile, Entry | None]
Result = tuple[AudioFile, Entry, bool]


def _measured(
    files: Iterator[AudioFile], count: int, seconds: float, cache: AudioCache, workers: int
) -> Iterator[Result]:
    """Yield the results of all files, in any order, and say how it goes."""
    batches = iter(lambda: list(islice(files, _FILES_PER_TASK)), [])
    tasks = ([(file, cache.entry(file.path, file.segments)) for file in batch] for batch in batches)
    progress = _Progress(count, seconds)
    measure_tasks = partial(measure_files, cache.version)
    alone = workers <= 1 or seconds < _ALONE_S
    for results in map(measure_tasks, tasks) if alone else in_parallel(measure_tasks, tasks, workers):
        progress.add(results)
        yield from results


def measure_files(version: str, tasks: Sequence[_Task]) -> list[Result]:
    """Measure some files, unless their content is what it was before."""
    return [(file, *_measure_file(version, file, before)) for file, before in tasks]


def _measure_file(version: str, file: AudioFile, before: Entry | None) -> tuple[Entry, bool]:
    now_ns = time.time_ns()
    try:
        stamp = stamp_of(file.path)
        content = xxh128_of(file.path)
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        found = {"error": MISSING} if missing else {"error": UNREADABLE, "reason": why_unreadable(error, file.path)}
        return Entry(file.path, None, "", version, file.segments, [found for _ in file.segments]), False
    if before is not None and before.content == content:
        return Entry(file.path, settled(stamp, now_ns), content, version, file.segments, before.measured), False
    measured = measure(file.path, file.segments)
    try:
        same = stamp_of(file.path) == stamp
    except OSError:
        same = False
    trusted = settled(stamp, now_ns) if same else None
    return Entry(file.path, trusted, content if same else "", version, file.segments, measured), True


class _Progress:
    """Says from time to time how far it is."""

    def __init__(self, files: int, seconds: float) -> None:
        self.files, self.seconds = files, seconds
        self.done, self.done_s = 0, 0.0
        self.started = self.said = time.monotonic()

    def add(self, results: Sequence[Result]) -> None:
        self.done += len(results)
        self.done_s += sum(file.seconds for file, *_ in results)
        now = time.monotonic()
        if now - self.said > _PROGRESS_S:
            self.said = now
            left_s = (now - self.started) * (self.files - self.done) / self.done
            say(
                f"{self.done} of {self.files} files, {self.done_s / 3600:.1f} of {self.seconds / 3600:.1f} h of audio;"
                f" about {left_s / 60:.0f} min left"
            )
