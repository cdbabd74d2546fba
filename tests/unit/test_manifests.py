"""From a corpus folder to the tables of a recipe, and by command to cuts and NeMo rows."""

import json

import pytest
import soundfile
from lhotse.testing.dummies import dummy_recording, dummy_supervision

from nuptse.errors import UserError
from nuptse.jsonl import read_rows
from nuptse.manifests import flatten_parts, prepare_recipe, write_parts


def test_nested_parts_of_recipes():
    leaf = {"recordings": [], "supervisions": []}
    assert list(flatten_parts(leaf)) == ["all"]
    assert list(flatten_parts({"train": leaf, "dev": leaf})) == ["train", "dev"]
    assert list(flatten_parts({"en": {"train": leaf}, "de": {"train": leaf}})) == ["en.train", "de.train"]


@pytest.fixture
def librispeech(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "raw" / "LibriSpeech" / "dev-clean-2" / "1" / "2"
    folder.mkdir(parents=True)
    for number in (0, 1):
        soundfile.write(folder / f"1-2-000{number}.flac", [0.0] * 1600, 16000)
    (folder / "1-2.trans.txt").write_text("1-2-0000 HELLO\n")
    (tmp_path / "out").mkdir()
    return tmp_path


def test_a_recipe_is_run_and_what_it_leaves_out_is_told(librispeech):
    report = prepare_recipe("librispeech", librispeech / "raw" / "LibriSpeech", {}, librispeech / "out", 2)
    assert "dev-clean-2: 1 recordings, 1 supervisions" in report
    assert "2 audio files, 1 in the recipe's manifests, 1 not" in report
    (row,) = read_rows(librispeech / "out" / "dev-clean-2_recordings.jsonl.gz", dict)
    assert row["sources"][0]["source"] == "raw/LibriSpeech/dev-clean-2/1/2/1-2-0000.flac", "relative: the same anywhere"


def test_a_recipe_gives_the_same_bytes_in_whatever_order_it_finds_the_files(tmp_path):
    for name, numbers in (("a", [2, 0, 1]), ("b", [1, 2, 0])):
        tables = {
            "recordings": [dummy_recording(number) for number in numbers],
            "supervisions": [dummy_supervision(number) for number in numbers],
        }
        (tmp_path / name).mkdir()
        write_parts("librispeech", tables, tmp_path, tmp_path / name)
    for kind in ("recordings", "supervisions"):
        first, second = ((tmp_path / name / f"all_{kind}.jsonl.gz").read_bytes() for name in "ab")
        assert first == second
    assert [row["id"] for row in read_rows(tmp_path / "a/all_recordings.jsonl.gz", dict)] == [
        f"dummy-recording-000{number}" for number in range(3)
    ]


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("librispech", {}, "Lhotse has no recipe 'librispech'"),
        ("librispeech", {"parts": "x"}, "recipe_options.parts is no argument of prepare_librispeech; it takes corpus_dir"),
        ("yesno", {}, "the recipe 'yesno' cannot read"),
        ("heroico", {}, "prepare_heroico also needs transcript_dir: give them under recipe_options"),
        ("librispeech", {"dataset_parts": ["train-clean-5"]}, "No recordings left"),
    ],
)  # fmt: skip
def test_a_recipe_that_refuses_is_one_message(librispeech, recipe, options, message):
    with pytest.raises(UserError, match=message):
        prepare_recipe(recipe, librispeech / "raw" / "LibriSpeech", options, librispeech / "out", 1)


def test_a_missing_recipe_root_names_the_key(librispeech):
    with pytest.raises(UserError, match="is no folder: set recipe_root"):
        prepare_recipe("librispeech", librispeech / "raw" / "Libri", {}, librispeech / "out", 1)


@pytest.mark.parametrize(("content", "reason"), [(b"", "it is empty"), (b"<html>404</html>", "Format not recognised")])
def test_a_file_that_a_recipe_cannot_open_is_named(librispeech, content, reason):
    file = librispeech / "raw/LibriSpeech/dev-clean-2/1/2/1-2-0000.flac"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"the recipe 'librispeech' cannot open .*1-2-0000.flac: {reason}.*; copy the"):
        prepare_recipe("librispeech", librispeech / "raw" / "LibriSpeech", {}, librispeech / "out", 2)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a"}\n{"id": \n')
    with pytest.raises(UserError, match="x.jsonl, line 2: "):
        list(read_rows(path, dict))


def test_commands_chain(librispeech, capsys):
    from build_cutset import main as build_main
    from export_nemo_manifest import main as export_main
    from prepare_manifests import main as prepare_main
    from select_utterances import main as select_main

    prepare_main("--recipe librispeech --corpus-dir raw --recipe-root LibriSpeech --output-dir recipe".split())
    select_main(
        '--recipe-dir recipe --part dev-clean-2 --corpus c --split dev --language en --text ["lower"]'
        " --selected selected.jsonl.gz --dropped dropped.jsonl.gz --ledger selection.json".split()
    )
    build_main(
        "--selected selected.jsonl.gz --selection selection.json --recordings r.jsonl.gz --supervisions s.jsonl.gz"
        " --cuts c.jsonl.gz --quarantine q.jsonl.gz --ledger l.json".split()
    )
    export_main("--cuts c.jsonl.gz --manifest m.json".split())
    assert json.loads((librispeech / "l.json").read_text())["kept"] == {"utterances": 1, "seconds": 0.1}
    (row,) = map(json.loads, (librispeech / "m.json").read_text().splitlines())
    assert row["text"] == "hello"
    assert row["sampling_rate"] == 16000
    assert "m.json: in and out: 1 utterances, 0.000 h; dropped: 0" in capsys.readouterr().out
