"""What must hold at the moment a training starts."""

import json

import pytest

from nuptse.errors import UserError
from nuptse.jsonl import write_rows
from nuptse.preflight import check_data


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "a.wav").touch()
    write_rows(tmp_path / "m.json", [{"id": str(i), "audio_filepath": str(tmp_path / "a.wav")} for i in range(2)])
    return tmp_path / "m.json"


def test_audio_that_is_there_passes(manifest):
    assert check_data("libri/train", manifest) == "libri/train: 2 utterances"


def test_a_manifest_without_its_last_line_is_refused(manifest, tmp_path, monkeypatch):
    assert check_data("libri/train", manifest, 2) == "libri/train: 2 utterances"
    manifest.write_bytes(manifest.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(
        UserError, match=r"m.json has 1 utterances, but 2 were counted before: .*; delete .*m.json and run again"
    ):
        check_data("libri/train", manifest, 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/manifests").mkdir(parents=True)
    manifest.rename("data/manifests/libri_nemo_train.json")
    (tmp_path / "ledger.json").write_text(json.dumps({"folder": ".", "utterances": 1, "shards": []}))
    with pytest.raises(
        UserError, match=r"ledger.json has 1 utterances, .*; delete data/manifests/libri_nemo_train.json and"
    ):
        check_data("libri/train", tmp_path / "ledger.json", 2)


def test_missing_audio_is_refused(manifest, tmp_path):
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UserError, match=r"libri/train: 2 of 2 audio files in .*m.json are missing, such as .*a.wav"):
        check_data("libri/train", manifest)


def test_missing_audio_of_cuts_is_refused(tmp_path):
    cut = {"recording": {"sources": [{"source": str(tmp_path / "gone.wav")}]}}
    write_rows(tmp_path / "cuts.jsonl.gz", [cut])
    with pytest.raises(
        UserError,
        match=r"1 of 1 audio files in .*cuts.jsonl.gz are missing, such as .*gone.wav.*--forcerun prepare_manifests",
    ):
        check_data("libri/train", tmp_path / "cuts.jsonl.gz")


def test_a_lost_shard_is_refused(tmp_path):
    shard = {"tar": "audio_0.tar", "tar_bytes": 3, "manifest": "m.json", "manifest_bytes": 2}
    (tmp_path / "ledger.json").write_text(json.dumps({"folder": ".", "utterances": 7, "shards": [shard]}))
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(UserError, match="audio_0.tar: missing or not of the size"):
        check_data("libri/train", tmp_path / "ledger.json")
    (tmp_path / "audio_0.tar").write_bytes(b"tar")
    assert check_data("libri/train", tmp_path / "ledger.json") == "libri/train: 7 utterances in shards"
