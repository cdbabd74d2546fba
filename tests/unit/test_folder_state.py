"""The state of a corpus folder changes with every name, size and transcript, and with nothing else."""

import os
import shutil

import pytest

from nuptse.archive_ledger import changes
from nuptse.folder_state import files_below, folder_state


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.flac").write_bytes(b"audio")
    (folder / "a" / "1.txt").write_text("hello")
    return folder


def test_touching_and_copying_change_nothing(corpus, tmp_path):
    before = folder_state(corpus)
    os.utime(corpus / "a" / "1.txt", (1, 1))
    (corpus / ".snakemake_timestamp").touch()
    assert folder_state(corpus) == before
    shutil.copytree(corpus, tmp_path / "copy")
    assert folder_state(tmp_path / "copy") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a" / "1.txt").write_text("hallo"),
        lambda folder: (folder / "a" / "1.flac").write_bytes(b"more audio"),
        lambda folder: (folder / "a" / "1.flac").unlink(),
        lambda folder: (folder / "a" / "1.flac").rename(folder / "a" / "2.flac"),
        lambda folder: (folder / "2.wav").touch(),
    ],
    ids=["transcript", "audio size", "audio gone", "name", "new file"],
)
def test_a_change_is_seen(corpus, change):
    before = folder_state(corpus)
    change(corpus)
    assert folder_state(corpus) != before


def test_of_many_transcripts_the_times_count(corpus, monkeypatch):
    """Their contents would be read at every start of Snakemake."""
    (corpus / "a" / "2.txt").write_text("you")
    whole = folder_state(corpus)
    assert folder_state(corpus, most_read=2) == whole
    before = folder_state(corpus, most_read=1)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a file was read"))
    assert folder_state(corpus, most_read=1) == before != whole
    os.utime(corpus / "a" / "1.flac", (1, 1))
    assert folder_state(corpus, most_read=1) == before
    os.utime(corpus / "a" / "1.txt", (1, 1))
    assert folder_state(corpus, most_read=1) != before


def test_links_to_folders_are_followed(corpus, tmp_path):
    """A speaker on another disk, and what else links may lead to: the same twice, a loop, nothing."""
    disk = tmp_path / "disk" / "b"
    disk.mkdir(parents=True)
    (disk / "1.txt").write_text("you")
    (corpus / "b").symlink_to(disk)
    before = folder_state(corpus)
    (disk / "1.txt").write_text("us")
    assert folder_state(corpus) != before
    names = ["a/1.flac", "a/1.txt", "b/1.txt"]
    for link, target in {
        "0": corpus / "a",  # by its own name, although the link comes first
        "c": disk,
        "d": corpus,
        "e": tmp_path,  # what the corpus itself lies in
        "b/f": tmp_path / "disk",
        "g": tmp_path / "gone",
        "h": corpus / "h",
    }.items():
        (corpus / link).symlink_to(target)
        assert [os.path.relpath(path, corpus) for path in files_below(corpus)] == names


def test_changes_against_the_ledger(corpus, tmp_path):
    ledger = tmp_path / "corpus.json"
    assert changes(corpus, ledger) == ""
    ledger.write_text(f'{{"state": "{folder_state(corpus)}"}}')
    assert changes(corpus, ledger) == ""
    (corpus / "a" / "1.txt").write_text("hallo")
    assert changes(corpus, ledger) == f"changed by hand: {folder_state(corpus)}"
    ledger.write_text('{"sta')
    assert changes(corpus, ledger) == f"changed by hand: {folder_state(corpus)}"
    shutil.rmtree(corpus)
    assert changes(corpus, ledger) == ""
