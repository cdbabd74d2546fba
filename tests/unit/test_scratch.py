"""The database for what is too large for memory."""

import sqlite3

import pytest

from nuptse.errors import UserError
from nuptse.scratch import scratch_database


def test_a_full_disk_is_one_message():
    with (
        pytest.raises(UserError, match="is full .* name a folder with more of it by TMPDIR"),
        scratch_database() as database,
    ):
        database.execute("CREATE TABLE rows (row BLOB)")
        database.execute("PRAGMA max_page_count = 4")
        database.execute("INSERT INTO rows VALUES (?)", (bytes(1 << 20),))


def test_other_mistakes_are_not_hidden():
    with pytest.raises(sqlite3.OperationalError, match="no such table"), scratch_database() as database:
        database.execute("SELECT * FROM none")
