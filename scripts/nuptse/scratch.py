"""What is too large for memory: tables in an SQLite database that nobody else sees, and lines to be sorted.

They lie in the folder for temporary files (Snakemake's ``tmpdir`` resource, or TMPDIR) once they outgrow theirs, in
files without a name: whatever becomes of the process, nothing stays behind.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from tempfile import SpooledTemporaryFile

from nuptse.errors import WRITE_REFUSALS, UserError

CACHE_MB = 64
# To sort lines: how many heaps, and what each has in memory before it goes to a file. Of ten million lines of half a
# kilobyte a heap has 40 MB; more of them might be more open files than a process may have.
HEAPS, HEAP_BYTES = 128, 1 << 19


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
            raise _full(error) from None


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


def in_order_of_hash(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines, each of which begins with a hash in hexadecimal digits, sorted.

    They are dealt out to heaps by the hash, all of about one size, and a heap is sorted at a time. That takes as long
    for each line, however many there are; a database merges what it sorted again and again.

    Raises:
        UserError: the folder for temporary files is full.
    """
    try:
        with ExitStack() as files:
            heaps = [files.enter_context(SpooledTemporaryFile(HEAP_BYTES)) for _ in range(HEAPS)]
            writes = [heap.write for heap in heaps]
            for line in lines:
                writes[int(line[:4], 16) * HEAPS >> 16](line + b"\n")
            for heap in heaps:
                heap.seek(0)
                for line in sorted(heap):
                    yield line[:-1]
                heap.close()
    except OSError as error:
        if error.errno not in WRITE_REFUSALS:
            raise
        raise _full(error) from None


def _full(error: Exception) -> UserError:
    return UserError(
        f"{tempfile.gettempdir()} is full ({error}): make room there, or name a folder with more of it by TMPDIR or by"
        " Snakemake's `--default-resources tmpdir=...`"
    )
