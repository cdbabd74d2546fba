"""The rows of an import and what is known of their audio, in a database instead of in memory.

Texts that are compared or sorted are stored as bytes (``key``): names of files need not be text. Bytes of UTF-8 sort as
Python sorts text.
"""

from __future__ import annotations

import marshal
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import astuple

from nuptse.audio_headers import Header
from nuptse.converting import Sound
from nuptse.errors import UserError
from nuptse.import_ledger import as_text
from nuptse.utterances import Rejected, Utterance

_SCHEMA = """
-- Beside each row: its audio file, the id that the source gives to that, or the name that an id is made of.
CREATE TABLE utterances (number INTEGER PRIMARY KEY, audio BLOB, given BLOB, name BLOB, row BLOB);
-- One for each audio file, by the number of its first row.
CREATE TABLE recordings (first INTEGER PRIMARY KEY, audio BLOB UNIQUE, given BLOB, name BLOB, stem BLOB, id BLOB);
CREATE TABLE sounds (first INTEGER PRIMARY KEY, bytes INTEGER, found BLOB, reason BLOB);
-- Without an index: to sort all in the end takes less than to keep them sorted.
CREATE TABLE kept (
    number INTEGER PRIMARY KEY, id BLOB, part TEXT, seconds REAL, recording BLOB, first INTEGER, channel INTEGER,
    json BLOB
);
CREATE TABLE rejected (part TEXT, id BLOB, audio BLOB, reason BLOB, row BLOB);
"""

_NAMING = """
UPDATE recordings SET stem = stem(name) WHERE given = x'';
CREATE INDEX stems ON recordings (stem);
UPDATE recordings SET id = CASE
    WHEN given != x'' THEN given
    WHEN EXISTS (SELECT 1 FROM recordings AS o WHERE o.stem = recordings.stem AND o.first != recordings.first) THEN name
    ELSE stem END;
CREATE INDEX ids ON recordings (id);
"""

Found = list[Sound] | str
# An audio file: the number of its first row, its size in bytes, and its audio or the reason why that cannot be used.
LookedAt = tuple[int, int, Found]


class Joined(NamedTuple):
    """A row, its number, and of its recording: number of the first row, id, audio or the reason why it is of no use."""

    number: int
    row: Utterance
    first: int
    recording: str
    found: Found


class Kept(NamedTuple):
    """A supervision, its id and that of its recording as keys.

    Attributes:
        number: of its row.
        first: number of the first row of the audio file.
        channel: of that, where each is a recording; else 0.
        json: the supervision.
    """

    number: int
    id: bytes
    part: str
    seconds: float
    recording: bytes
    first: int
    channel: int
    json: bytes


def as_key(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def as_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


# Structs are stored by marshal: pickle takes three times as long for such small things, and msgpack knows no names that
# are not text.
def _found_values(found: Found) -> tuple[bytes, bytes | None]:
    if isinstance(found, str):
        return b"", as_key(found)
    return marshal.dumps([(sound.path, astuple(sound.header), sound.channel) for sound in found]), None


def _found(content: bytes, reason: bytes | None) -> Found:
    return _sounds(content) if reason is None else as_name(reason)


def _sounds(content: bytes) -> list[Sound]:
    return [Sound(path, Header(*header), channel) for path, header, channel in marshal.loads(content)]


class ImportTables:
    """See above.

    Args:
        database: empty.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._run = database.execute
        self._run_all(_SCHEMA)

    def _run_all(self, statements: str) -> None:
        # Not executescript, which ends the transaction: each later statement would be one of its own, at 0.2 ms.
        for statement in statements.split(";"):
            self._run(statement)

    # --- rows ---

    def add(self, rows: Iterable[Utterance]) -> int:
        """Keep the rows of the source, and return how many there are."""
        values = (
            (as_key(row.audio), as_key(row.recording), as_key(row.name), marshal.dumps(astuple(row))) for row in rows
        )
        return self._database.executemany("INSERT INTO utterances VALUES (NULL, ?, ?, ?, ?)", values).rowcount

    def row(self, number: int) -> Utterance:
        """Return the row of a number, the first of which is 1."""
        (content,) = self._run("SELECT row FROM utterances WHERE number = ?", (number,)).fetchone()
        return Utterance(*marshal.loads(content))

    def reject(self, row: Rejected) -> None:
        content = marshal.dumps(astuple(row))
        values = (row.part, as_key(row.id), as_key(row.audio), as_key(row.reason), content)
        self._run("INSERT INTO rejected VALUES (?, ?, ?, ?, ?)", values)

    def rejected(self) -> Iterator[Rejected]:
        """Yield what is left out, sorted by id and audio."""
        rows = self._run("SELECT row FROM rejected ORDER BY id, audio")
        return (Rejected(*marshal.loads(content)) for (content,) in rows)

    def reasons(self) -> dict[str, int]:
        """Return how many rows were left out for each reason, in the order in which the reasons came up."""
        rows = self._run("SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY min(rowid)")
        return {as_name(reason): count for reason, count in rows}

    # --- recordings ---

    def name_recordings(self) -> None:
        """Give each audio file the id of its recording: the source's own, or its name without the suffix.

        Where two files differ in their suffix only, both keep it.

        Raises:
            UserError: one id for two files, or two for one file.
        """
        self._run(
            "INSERT OR IGNORE INTO recordings SELECT number, audio, given, name, NULL, NULL FROM utterances"
            " ORDER BY number"
        )
        other_id = self._run(
            "SELECT number, first FROM utterances JOIN recordings USING (audio)"
            " WHERE utterances.given != recordings.given ORDER BY number LIMIT 1"
        ).fetchone()
        if other_id:
            row, other = map(self.row, other_id)
            raise UserError(
                f"{row.place}: {as_text(row.audio)} is the recording {row.recording!r}, but {other.recording!r} in"
                f" {other.place}: give both rows the same"
            )
        self._database.create_function("stem", 1, lambda name: os.path.splitext(name)[0], deterministic=True)
        self._run_all(_NAMING)
        twice = self._run(
            "SELECT first, (SELECT min(o.first) FROM recordings AS o WHERE o.id = recordings.id) AS owner"
            " FROM recordings WHERE owner < first ORDER BY first LIMIT 1"
        ).fetchone()
        if twice:
            row, other = map(self.row, twice)
            (name,) = self._run("SELECT id FROM recordings WHERE first = ?", twice[:1]).fetchone()
            remedy = (
                "give each recording an id of its own"
                if row.recording and other.recording
                else "ids are made of paths, so rename a file, or a folder above one of them"
            )
            raise UserError(
                f"{row.place}: the recording {as_text(as_name(name))} is {as_text(row.audio)}, but"
                f" {as_text(other.audio)} in {other.place}: {remedy}"
            )

    def recordings(self) -> Iterator[tuple[int, str, str]]:
        """Yield (number of its first row, id, audio file) of each, in the order of those rows."""
        found = self._run("SELECT first, id, audio FROM recordings ORDER BY first")
        return ((first, as_name(name), as_name(audio)) for first, name, audio in found)

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the audio files, sorted, with their sizes."""
        found = self._run("SELECT audio, bytes FROM recordings JOIN sounds USING (first) ORDER BY audio")
        return ((as_name(audio), size) for audio, size in found)

    # --- audio ---

    def add_sounds(self, looked_at: Iterable[LookedAt]) -> None:
        """Keep what was found in the audio files."""
        rows = ((first, size, *_found_values(found)) for first, size, found in looked_at)
        self._database.executemany("INSERT INTO sounds VALUES (?, ?, ?, ?)", rows)

    def bad_audio(self, most: int) -> tuple[int, list[tuple[str, str, str]]]:
        """Return how many files cannot be used, and (place, file, reason) of the first ``most``."""
        (count,) = self._run("SELECT count(*) FROM sounds WHERE reason IS NOT NULL").fetchone()
        rows = self._run(
            "SELECT first, audio, reason FROM sounds JOIN recordings USING (first) WHERE reason IS NOT NULL"
            " ORDER BY first LIMIT ?",
            (most,),
        ).fetchall()
        return count, [(self.row(first).place, as_name(audio), as_name(reason)) for first, audio, reason in rows]

    def joined(self) -> Iterator[Joined]:
        """Yield every row with its recording and audio, in the order of the source."""
        rows = self._run(
            "SELECT number, row, first, recordings.id, found, reason FROM utterances JOIN recordings USING (audio)"
            " JOIN sounds USING (first) ORDER BY number"
        )
        for number, row, first, recording, found, reason in rows:
            yield Joined(number, Utterance(*marshal.loads(row)), first, as_name(recording), _found(found, reason))

    # --- what is kept ---

    def keep(self, rows: Iterable[Kept]) -> int:
        """Keep supervisions, and return how many there are."""
        return self._database.executemany("INSERT INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows).rowcount

    def kept(self) -> Iterator[tuple[bytes, int, str, float, Any]]:
        """Yield (id, number of the row, part, duration in s, JSON) of the supervisions, sorted by id and number."""
        return self._run("SELECT id, number, part, seconds, json FROM kept ORDER BY id, number")

    def used(self) -> Iterator[tuple[str, str, int, Sound]]:
        """Yield (id, part, number of the first row, sound) of the recordings of what is kept, sorted by id."""
        rows = self._run(
            "SELECT recording, part, first, channel, found FROM"
            " (SELECT DISTINCT recording, part, first, channel FROM kept) JOIN sounds USING (first)"
            " ORDER BY recording, part, first"
        )
        for recording, part, first, channel, found in rows:
            yield as_name(recording), part, first, _sounds(found)[channel]
