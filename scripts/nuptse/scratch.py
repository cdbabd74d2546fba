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
