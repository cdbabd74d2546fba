"""What a failed or killed run leaves missing is asked for until it is there; what a user deletes is not."""

import json

import pytest

from nuptse.unfinished import begin_run, end_run, unfinished_files

FILES = ["a", "b", "c", "d"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in FILES[:3]:
        (tmp_path / file).touch()
    return tmp_path / "list.json"


@pytest.mark.parametrize("end", [end_run, lambda store: None], ids=["failed", "killed"])
def test_what_was_there_and_is_gone_is_asked_for_until_it_is_back(store, tmp_path, end):
    begin_run(store, FILES)
    (tmp_path / "b").unlink()
    end(store)
    assert unfinished_files(store, FILES) == ["b"], "d was never there"

    begin_run(store, FILES)  # a second run, in which another job fails before it comes to this one
    (tmp_path / "c").unlink()
    end(store)
    assert unfinished_files(store, FILES) == ["b", "c"]

    begin_run(store, FILES)
    (tmp_path / "b").touch()
    end(store)
    assert unfinished_files(store, FILES) == ["c"]
    assert unfinished_files(store, ["a"]) == [], "no longer part of the configuration"


def test_what_is_deleted_between_two_runs_stays_away(store, tmp_path):
    begin_run(store, FILES)
    end_run(store)
    (tmp_path / "a").unlink()
    assert unfinished_files(store, FILES) == []
    begin_run(store, FILES)
    end_run(store)
    assert unfinished_files(store, FILES) == []
    assert json.loads(store.read_text()) == []


def test_without_a_list_nothing_is_unfinished(store):
    assert unfinished_files(store, FILES) == []
    store.write_text("[")
    assert unfinished_files(store, FILES) == []
