"""The check of all audio that is made beside a training."""

import threading
from pathlib import Path

import pytest

from nuptse.errors import UserError
from nuptse.jsonl import write_rows

pytestmark = pytest.mark.slow  # importing Lightning takes seconds


@pytest.fixture
def checks():
    from nuptse import data_check

    return data_check


def manifest(folder, *names):
    write_rows(folder / "m.json", [{"id": name, "audio_filepath": str(folder / name)} for name in names])
    return folder / "m.json"


@pytest.fixture
def looked(checks, monkeypatch):
    """Let no check look at its data before this event."""
    event, check_data = threading.Event(), checks.check_data

    def slow_disk(*arguments):
        event.wait(10)
        return check_data(*arguments)

    monkeypatch.setattr(checks, "check_data", slow_disk)
    return event


def test_small_data_is_checked_before_the_first_step(checks, tmp_path, capsys):
    check = checks.DataCheck([("libri/train", manifest(tmp_path, "gone.wav"), None)])
    with pytest.raises(UserError, match=r"1 of 1 audio files .* are missing, such as .*gone.wav"):
        check.wait()


def test_it_says_once_what_it_found(checks, tmp_path, capsys):
    (tmp_path / "a.wav").touch()
    check = checks.DataCheck([("libri/train", manifest(tmp_path, "a.wav"), None)])
    check.wait(None)
    check.on_train_batch_start(None, None, None, 0)
    assert capsys.readouterr().out == "libri/train: 1 utterances\n"


def test_large_data_stops_a_training_that_has_begun(checks, looked, tmp_path):
    check = checks.DataCheck([("libri/train", manifest(tmp_path, "gone.wav"), None)])
    check.wait(0.01)
    check.on_train_batch_start(None, None, None, 0)
    looked.set()
    with pytest.raises(UserError, match="missing"):
        check.wait(None)
    with pytest.raises(UserError, match="missing"):
        check.on_train_batch_start(None, None, None, 1)


def test_a_training_may_go_to_another_folder_meanwhile(checks, looked, tmp_path, monkeypatch):
    """NeMo does so while it restores a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").touch()
    write_rows(tmp_path / "m.json", [{"id": "a", "audio_filepath": "a.wav"}])
    check = checks.DataCheck([("libri/train", Path("m.json"), 1)])
    monkeypatch.chdir("/")
    looked.set()
    check.wait(None)
