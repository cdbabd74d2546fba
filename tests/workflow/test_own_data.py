"""docs/own-data.md, block for block: from a folder of recordings and a table to a model and its page."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
STEPS = "max_steps: 200, val_check_interval: 50"


@pytest.fixture(scope="module")
def followed(make_checkout):
    """A checkout in which every block was run, with two steps of training; and what the commands printed."""
    checkout, printed = make_checkout("own_data"), []
    for language, body in BLOCKS:
        if language == "yaml":
            assert STEPS in body
            (checkout.folder / "my.yaml").write_text(body.replace(STEPS, "max_steps: 2, val_check_interval: 2"))
        elif language == "csv":
            assert (checkout.folder / "my_speech/metadata.csv").read_text().startswith(body)
        else:
            assert language == "bash"
            run = subprocess.run(
                ["bash", "-e", "-c", body],
                cwd=checkout.folder,
                env=checkout.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert run.returncode == 0, run.stdout[-20000:]
            printed.append(run.stdout)
    return checkout.folder, "\n".join(printed)


def test_the_texts_and_the_splits_are_shown_before_anything_is_trained(followed):
    _, printed = followed
    before, _, _ = printed.partition("finetune_model")
    assert "mine/train: 218 utterances; the text profile changes 218, and leaves 0 without text" in before
    assert re.search(r"mine/dev: 3 speakers, 32 utterances, .* of the audio; wanted 10.0%", before)
    assert "first_try: healthy" in before
    assert "mine/train: in: 218 utterances, 0.201 h; out: 218 utterances, 0.201 h; dropped: 0" in before


def test_the_model_is_judged_beside_its_base_on_speakers_that_it_has_not_heard(followed):
    folder, printed = followed
    table = pd.read_csv(folder / "results/wer.tsv", sep="\t")
    wanted = {(name, split) for name in ("first_try", "quickstart_base") for split in ("dev", "test")}
    assert set(zip(table.recogniser, table.split, strict=True)) == wanted
    assert set(table.utterances) == {32}
    assert "recogniser\tcorpus\tsplit\twer\twer_low\twer_high" in printed
    assert (folder / "results/report.html").stat().st_size > 100_000
    assert not (folder / "data/downloads/quickstart").exists(), "what no experiment uses is not fetched"


def test_it_hears_every_file_of_the_folder(followed):
    folder, _ = followed
    rows = [json.loads(line) for line in (folder / "transcripts/first_try.jsonl").read_text().splitlines()]
    assert len(rows) == len(list((folder / "my_speech/wavs").glob("*.wav"))) == 282
    assert sum(bool(row["pred_text"]) for row in rows) > 200
