"""The database and the sorting of what is too large for memory."""

import os
import random
import resource
import sqlite3

import pytest

from nuptse import scratch
from nuptse.errors import UserError
from nuptse.scratch import ScratchTable, in_order_of_hash, scratch_database


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


@pytest.mark.parametrize("heap_bytes", [1 << 19, 1], ids=["in memory", "on disk"])
def test_lines_are_sorted_by_their_hash(monkeypatch, heap_bytes):
    monkeypatch.setattr(scratch, "HEAP_BYTES", heap_bytes)
    chance = random.Random(0)
    lines = [b"%016x\0%d" % (chance.getrandbits(64), number) for number in range(5000)]
    lines += [b"0" * 16, b"f" * 16 + b"\0b", b"f" * 16 + b"\0a"]
    assert list(in_order_of_hash(iter(lines))) == sorted(lines)
    assert list(in_order_of_hash([])) == []


def test_a_disk_that_is_full_while_lines_are_sorted_is_one_message(monkeypatch):
    monkeypatch.setattr(scratch, "HEAP_BYTES", 1)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limit[1]))
    try:
        with pytest.raises(UserError, match="is full .* name a folder with more of it by TMPDIR"):
            list(in_order_of_hash(b"%016x" % 0 + os.urandom(8).hex().encode() for _ in range(10_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
