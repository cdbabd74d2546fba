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
CREATE TABLE kept (id BLOB PRIMARY KEY, number INTEGER, part TEXT, row BLOB, duration REAL);
CREATE TABLE used (part TEXT, id BLOB, row BLOB, duration REAL, PRIMARY KEY (part, id));
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
    """A row, its number, the id of its recording, and the audio of that or the reason why it cannot be used."""

    number: int
    row: Utterance
    recording: str
    found: Found


def key(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


# Structs are stored by marshal: pickle takes three times as long for such small things, and msgpack knows no names that
# are not text.
def _found_values(found: Found) -> tuple[bytes, bytes | None]:
    if isinstance(found, str):
        return b"", key(found)
    return marshal.dumps([(sound.path, astuple(sound.header), sound.channel) for sound in found]), None


def _found(content: bytes, reason: bytes | None) -> Found:
    if reason is not None:
        return _text(reason)
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
        values = ((key(row.audio), key(row.recording), key(row.name), marshal.dumps(astuple(row))) for row in rows)
        return self._database.executemany("INSERT INTO utterances VALUES (NULL, ?, ?, ?, ?)", values).rowcount

    def row(self, number: int) -> Utterance:
        """Return the row of a number, the first of which is 1."""
        (content,) = self._run("SELECT row FROM utterances WHERE number = ?", (number,)).fetchone()
        return Utterance(*marshal.loads(content))

    def reject(self, row: Rejected) -> None:
        content = marshal.dumps(astuple(row))
        values = (row.part, key(row.id), key(row.audio), key(row.reason), content)
        self._run("INSERT INTO rejected VALUES (?, ?, ?, ?, ?)", values)

    def rejected(self, part: str) -> Iterator[Rejected]:
        """Yield what is left out of a part, sorted by id and audio."""
        rows = self._run("SELECT row FROM rejected WHERE part = ? ORDER BY id, audio", (part,))
        return (Rejected(*marshal.loads(content)) for (content,) in rows)

    def reasons(self) -> dict[str, int]:
        """Return how many rows were left out for each reason, in the order in which the reasons came up."""
        rows = self._run("SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY min(rowid)")
        return {_text(reason): count for reason, count in rows}

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
                f"{row.place}: the recording {as_text(_text(name))} is {as_text(row.audio)}, but"
                f" {as_text(other.audio)} in {other.place}: {remedy}"
            )

    def recordings(self) -> Iterator[tuple[int, str, str]]:
        """Yield (number of its first row, id, audio file) of each, in the order of those rows."""
        found = self._run("SELECT first, id, audio FROM recordings ORDER BY first")
        return ((first, _text(name), _text(audio)) for first, name, audio in found)

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the audio files, sorted, with their sizes."""
        found = self._run("SELECT audio, bytes FROM recordings JOIN sounds USING (first) ORDER BY audio")
        return ((_text(audio), size) for audio, size in found)

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
        return count, [(self.row(first).place, _text(audio), _text(reason)) for first, audio, reason in rows]

    def joined(self) -> Iterator[Joined]:
        """Yield every row with its recording and audio, in the order of the source."""
        rows = self._run(
            "SELECT number, row, recordings.id, found, reason FROM utterances JOIN recordings USING (audio)"
            " JOIN sounds USING (first) ORDER BY number"
        )
        for number, row, recording, found, reason in rows:
            yield Joined(number, Utterance(*marshal.loads(row)), _text(recording), _found(found, reason))

    # --- what is kept ---

    def keep(self, identity: str, number: int, part: str, row: bytes, duration: float) -> int:
        """Keep a supervision, JSON, unless one of its id is kept; return the number of the row that is."""
        values = (key(identity), number, part, row, duration)
        if self._run("INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?, ?)", values).rowcount:
            return number
        owner: int = self._run("SELECT number FROM kept WHERE id = ?", values[:1]).fetchone()[0]
        return owner

    def use(self, recordings: Iterable[tuple[str, str, bytes, float]]) -> int:
        """Keep recordings, (part, id, JSON, duration), once for each part; return how many there are."""
        rows = ((part, key(identity), row, duration) for part, identity, row, duration in recordings)
        return self._database.executemany("INSERT OR IGNORE INTO used VALUES (?, ?, ?, ?)", rows).rowcount

    def kept(self, part: str) -> Iterator[tuple[Any, float]]:
        """Yield JSON and duration (s) of the supervisions of a part, sorted by id."""
        return self._run("SELECT row, duration FROM kept WHERE part = ? ORDER BY id", (part,))

    def used(self, part: str) -> Iterator[tuple[Any, float]]:
        """Yield JSON and duration (s) of the recordings of a part, sorted by id."""
        return self._run("SELECT row, duration FROM used WHERE part = ? ORDER BY id", (part,))
