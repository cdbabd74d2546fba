"""The database for what is too large for memory."""

import sqlite3

import pytest

from nuptse.errors import UserError
from nuptse.scratch import ScratchTable, scratch_database


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


def test_a_table_of_texts_by_name():
    with scratch_database() as database:
        table, other = ScratchTable(database, "one"), ScratchTable(database, "other")
        assert table.add("b", "1") and table.add("a", "2") and not table.add("b", "3")
        assert list(table) == [("b", "1"), ("a", "2")]
        table["a"] = "4"
        assert table.get("a") == "4" and table.get("c") is None
        other.add("b", "")
        assert list(table.names_without(other)) == ["a"]
