"""What a profile does is counted and shown step by step."""

import json

import pytest

from nuptse.jsonl import write_rows
from nuptse.text_samples import in_words, sample_texts

STEPS = ["lower", {"drop_brackets": ["[]"]}, {"keep": "a-z "}]
TEXTS = {"a": "YES", "b": "no [noise]", "c": "[noise]", "d": "fine", "e": "né", "f": "ok"}


@pytest.fixture
def rows():
    return [{"id": name, "text": text} for name, text in TEXTS.items()]


def test_effects_are_counted_and_samples_prefer_what_changes(rows):
    report = sample_texts(rows, STEPS, "en", 1)
    assert (report["utterances"], report["changed"], report["empty"]) == (6, 4, 1)
    assert [(step["step"], step["utterances"]) for step in report["steps"]] == list(zip(STEPS, [1, 2, 1], strict=True))
    assert report["steps"][0]["gone"] == {"E": 1, "S": 1, "Y": 1}
    assert report["steps"][2]["gone"] == {"é": 1} and report["steps"][2]["new"] == {}
    assert report["characters"] == {"n": 3, "e": 2, "o": 2, "f": 1, "i": 1, "k": 1, "s": 1, "y": 1}
    samples = {sample["id"]: sample for sample in report["samples"]}
    assert {"a", "c", "e"} <= samples.keys() and len(samples) <= 5
    assert samples["e"] == {"id": "e", "before": "né", "after": "n", "steps": [{"step": STEPS[2], "text": "n"}]}
    assert sample_texts(rows[::-1], STEPS, "en", 1)["samples"] == report["samples"], "whatever the order"


def test_the_terminal_says_which_step_did_what(rows):
    text = in_words({"corpus": "mine", "split": "dev"} | sample_texts(rows, STEPS, "en", 3))
    assert text.startswith("mine/dev: 6 utterances; the text profile changes 4, and leaves 1 without text\n")
    assert "  3. keep: changes 1; less é 1\n" in text
    assert "  b\n    before         no [noise]\n    drop_brackets  no\n" in text
    assert "  d (unchanged)\n    before  fine" in text


def test_the_command_writes_and_prints(tmp_path, capsys, rows):
    from sample_texts import main

    recording = {"id": "r", "duration": 1.0, "sources": []}
    write_rows(tmp_path / "all_recordings.jsonl.gz", [recording])
    write_rows(tmp_path / "all_supervisions.jsonl.gz", [row | {"recording_id": "r"} for row in rows])
    arguments = (
        f"--recipe-dir {tmp_path} --part all --corpus c --split s --language en --output {tmp_path}/s.json".split()
    )
    main([*arguments, "--text", json.dumps(STEPS)])
    assert json.loads((tmp_path / "s.json").read_text())["empty"] == 1
    assert "c/s: 6 utterances" in capsys.readouterr().out
