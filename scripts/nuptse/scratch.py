"""Tables of what is too large for memory: an SQLite database that nobody else sees.

It lies in the folder for temporary files (Snakemake's ``tmpdir`` resource, or TMPDIR) once it outgrows its cache, in
files without a name: whatever becomes of the process, nothing stays behind.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

from nuptse.errors import UserError

CACHE_MB = 64


@contextmanager
def scratch_database() -> Iterator[sqlite3.Connection]:
    """Give an empty database for the time of the ``with`` block. Nothing is ever committed, nor survives it.

    Raises:
        UserError: the folder for temporary files is full.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as database:
        for statement in (f"PRAGMA cache_size = -{CACHE_MB << 10}", "PRAGMA journal_mode = OFF", "BEGIN"):
            database.execute(statement)
        try:
            yield database
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
                raise
            raise UserError(
                f"{tempfile.gettempdir()} is full ({error}): make room there, or name a folder with more of it by"
                " TMPDIR or by Snakemake's `--default-resources tmpdir=...`"
            ) from None


class ScratchTable:
    """Texts by name, for more names than memory holds.

    Args:
        database: gets the table.
        name: of the table, of ours: it stands in statements as it is.
    """

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._run, self._name = database.execute, name
        self._run(f"CREATE TABLE {name} (name TEXT PRIMARY KEY, text TEXT)")

    def __setitem__(self, name: str, text: str) -> None:
        self._run(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", (name, text))

    def add(self, name: str, text: str) -> bool:
        """Enter a name, and return True; False if it is there."""
        return self._run(f"INSERT OR IGNORE INTO {self._name} VALUES (?, ?)", (name, text)).rowcount == 1

    def get(self, name: str) -> str | None:
        found = self._run(f"SELECT text FROM {self._name} WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield (name, text), in the order in which they were entered."""
        return iter(self._run(f"SELECT name, text FROM {self._name} ORDER BY rowid"))

    def names_without(self, other: ScratchTable) -> Iterator[str]:
        """Yield the names that another table of the same database lacks, sorted."""
        rows = self._run(f"SELECT name FROM {self._name} EXCEPT SELECT name FROM {other._name}")
        return (name for (name,) in rows)
