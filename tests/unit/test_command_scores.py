"""The two commands that score and compare, as Snakemake calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import score_wer
import summarize_wer
from nuptse.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"
HYPOTHESES = {
    "tiny": ["yes no", "no", "", "yes yes no yes"],
    "cutset": ["yes no", "no no", "YES", "yes yes no"],
    "broken": ["maybe", "maybe not", "well well well", ""],
}


@pytest.fixture
def transcripts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    references = ["yes no", "no no", "yes", "yes yes no"] * 2
    for recogniser, hypotheses in HYPOTHESES.items():
        rows = [
            {
                "id": f"u{number}",
                "audio_filepath": f"u{number}.wav",
                "duration": 450.0,
                "text": reference,
                "pred_text": hypothesis,
                "speaker": f"s{number % 2}",
                "probability": 0.5,
            }
            for number, (reference, hypothesis) in enumerate(zip(references, hypotheses * 2, strict=True))
        ]
        Path(f"{recogniser}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("tiny.json").write_text('{"seconds": 36, "audio_seconds": 3600, "device": "cpu"}')


def score(recogniser, *more):
    fixed = f"--transcripts {recogniser}.jsonl --recogniser {recogniser} --corpus yesno --split dev --normalizer lower"
    score_wer.main([*fixed.split(), "--seed", "0", "--scores", f"scores/{recogniser}.json", *more])
    return Path(f"scores/{recogniser}.json")


def summarize(*names):
    scores = [f"scores/{name}.json" for name in names]
    tables = "--table results/wer.tsv --comparisons results/wer_comparisons.tsv".split()
    return ["--scores", *scores, *tables]


def test_transcripts_become_scores(transcripts, capsys):
    scores = json.loads(score("tiny", "--timing", "tiny.json").read_text())
    assert capsys.readouterr().out == (
        "tiny.jsonl: 8 utterances and 1.00 hours in, dropped 0; tiny makes 6 errors on 16 words:"
        " WER 37.50 %, CER 41.67 %\n"
    )
    assert list(scores) == [
        *("recogniser", "corpus", "split", "normalizer", "timing", "utterances", "hours", "speakers"),
        "references",
        *("words", "characters", "bootstrap", "by_duration", "by_speaker", "confusions", "deleted", "inserted"),
        *("worst", "per_utterance"),
    ]
    assert (scores["recogniser"], scores["corpus"], scores["normalizer"]) == ("tiny", "yesno", "lower")
    assert scores["timing"] == {"seconds": 36, "audio_seconds": 3600, "device": "cpu", "rtf": 0.01}
    assert (scores["words"]["deletions"], scores["words"]["insertions"]) == (4, 2)
    assert scores["per_utterance"]["errors"] == [0, 1, 1, 1] * 2
    assert scores["worst"][0]["alignment"] == [["no", "no"], ["no", ""]]
    assert [part["speaker"] for part in scores["by_speaker"]] == ["s0", "s1"]


def test_equal_input_gives_equal_bytes(transcripts):
    assert score("tiny").read_bytes() == score("tiny").read_bytes()


def test_scores_become_tables_and_warnings(transcripts, capsys):
    for name in HYPOTHESES:
        score(name, *(["--timing", "tiny.json"] if name == "tiny" else []))
    capsys.readouterr()
    options = "--base cutset=tiny broken=tiny --same-data cutset,broken --seed 1".split()
    summarize_wer.main([*summarize(*HYPOTHESES), *options])
    out = capsys.readouterr().out
    assert out.startswith("yesno/dev: 8 utterances, 16 words, 1.00 hours\n  tiny    base        WER  37.50 % (")
    warnings = [line for line in out.splitlines() if line.startswith("WARNING: ")]
    assert len(warnings) == 2
    assert warnings[0].startswith("WARNING: yesno/dev: broken is worse than its base tiny: 125.00 % against 37.50 %")
    assert warnings[1].startswith("WARNING: yesno/dev: cutset and broken differ in layout only")
    assert out.endswith("results/wer.tsv: 3 rows; results/wer_comparisons.tsv: 3 rows\n")

    lines = Path("results/wer.tsv").read_text().splitlines()
    assert (
        lines[0].split("\t")
        == (
            "recogniser kind corpus split normalizer wer wer_low wer_high cer cer_low cer_high"
            " substitutions deletions insertions utterances words hours rtf seconds"
        ).split()
    )
    assert lines[1].startswith("tiny\tbase\tyesno\tdev\tlower\t0.375\t")
    assert lines[1].endswith("\t0.01\t36")
    assert lines[2].startswith("cutset\texperiment\tyesno\tdev\tlower\t0\t\t\t0\t\t\t"), (
        "without an error there is no interval"
    )
    assert lines[2].endswith("\t\t")
    assert len(Path("results/wer_comparisons.tsv").read_text().splitlines()) == 4
    assert sorted(path.name for path in Path("results").iterdir()) == ["wer.tsv", "wer_comparisons.tsv"]


def test_one_model_alone_needs_no_base(transcripts, capsys):
    score("tiny")
    summarize_wer.main([*summarize("tiny"), "--base", "--same-data"])
    assert "WARNING" not in capsys.readouterr().out
    assert len(Path("results/wer_comparisons.tsv").read_text().splitlines()) == 1


def test_options_may_be_given_again(transcripts):
    for name in HYPOTHESES:
        score(name)
    options = "--scores scores/broken.json --base cutset=tiny --base broken=tiny".split()
    summarize_wer.main([*summarize("tiny", "cutset"), *options])
    assert len(Path("results/wer_comparisons.tsv").read_text().splitlines()) == 4


def test_an_empty_set_has_scores_without_rates(transcripts, capsys):
    Path("tiny.jsonl").write_text("")
    assert json.loads(score("tiny").read_text())["words"]["rate"] is None
    assert capsys.readouterr().out.endswith("tiny makes 0 errors on 0 words\n")
    summarize_wer.main(summarize("tiny"))


def test_nothing_is_left_of_a_failure(transcripts):
    Path("tiny.jsonl").write_text('{"id": "u0", "duration": 1.0, "text": "yes"}\n')
    with pytest.raises(UserError, match=r"tiny\.jsonl, line 1: .*pred_text"):
        score("tiny")
    with pytest.raises(UserError, match="no normaliser 'Lower'"):
        score("cutset", "--normalizer", "Lower")
    assert not Path("scores").exists()


def test_mistakes_end_with_one_line_and_status_1(transcripts):
    score("tiny")
    command = [sys.executable, SCRIPTS / "summarize_wer.py", *summarize("tiny"), "--base", "cutset=tiny"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "ERROR: --base cutset=tiny: no score file is of 'cutset', only of 'tiny'\n"
    assert not Path("results").exists()
