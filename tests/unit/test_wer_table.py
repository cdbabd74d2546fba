"""The tables hold what the scores say, and the warnings what a reader must not miss."""

import json

import numpy as np
import pandas as pd
import pytest

from nuptse.errors import UserError
from nuptse.scoring import Transcript, score_utterances, summarize_set, write_scores
from nuptse.wer_table import (
    COMPARISON_COLUMNS,
    compare,
    parse_bases,
    percent,
    read_scores,
    readable,
    tabulate,
    warnings_for,
    write_tsv,
)

WORDS = "a b c d e f g h i j".split()
BASES = {"cutset": "tiny", "tarred": "tiny"}


@pytest.fixture
def scored(tmp_path):
    """Write the scores of a recogniser that makes as many errors in each utterance of ten words as it is told."""

    def write(recogniser, errors, split="dev", ids=None, normalizer="none", words=WORDS, timing=None, speakers=None):
        ids = ids or [f"u{number}" for number in range(len(errors))]
        rows = [
            Transcript(name, 36.0, " ".join(words), " ".join(["x"] * count + words[count:]), speaker)
            for name, count, speaker in zip(ids, errors, speakers or [None] * len(ids), strict=True)
        ]
        what = {"recogniser": recogniser, "corpus": "yesno", "split": split, "normalizer": normalizer, "timing": timing}
        path = tmp_path / f"{recogniser}_{split}.json"
        write_scores(path, what | summarize_set(score_utterances(rows, normalizer)))
        return path

    return write


def test_the_table_has_a_row_for_each_recogniser_and_set(scored):
    timing = {"seconds": 7.2, "audio_seconds": 72.0, "device": "cpu", "rtf": 0.1}
    paths = [
        scored("cutset", [1, 0] * 4),
        scored("cutset", [0, 0, 1], "test"),
        scored("tiny", [3, 2] * 4, timing=timing),
        scored("tiny", [1, 1, 1], "test"),
    ]
    bases = {"cutset": "tiny"}
    table = tabulate(read_scores(paths, bases), bases)
    assert table[["recogniser", "kind", "corpus", "split"]].to_numpy().tolist() == [
        ["tiny", "base", "yesno", "dev"],
        ["cutset", "experiment", "yesno", "dev"],
        ["tiny", "base", "yesno", "test"],
        ["cutset", "experiment", "yesno", "test"],
    ]
    row = table.iloc[0]
    assert (row.wer, row.substitutions, row.deletions, row.insertions) == (0.25, 20, 0, 0)
    assert (row.utterances, row.words, row.hours, row.rtf, row.seconds) == (8, 80, 0.08, 0.1, 7.2)
    assert row.wer_low <= row.wer <= row.wer_high
    assert row.cer_low <= row.cer <= row.cer_high
    assert np.isnan(table.iloc[1].rtf)


def test_comparisons_are_of_experiments_with_their_base_and_each_other(scored):
    paths = [scored("tiny", [4, 5] * 10), scored("cutset", [1, 2] * 10), scored("tarred", [2, 2] * 10)]
    paths += [scored("other", [0] * 20), scored("tiny", [1, 2] * 4, "test"), scored("tarred", [1, 2] * 4, "test")]
    found = compare(read_scores(paths, BASES), BASES)
    assert found[["recogniser", "compared_with", "kind", "split"]].to_numpy().tolist() == [
        ["cutset", "tiny", "base", "dev"],
        ["tarred", "tiny", "base", "dev"],
        ["cutset", "tarred", "experiment", "dev"],
        ["tarred", "tiny", "base", "test"],
    ]
    assert found["difference"].tolist() == pytest.approx([-0.3, -0.25, -0.05, 0])
    assert (found["difference_low"] <= found["difference"]).all()
    assert found["p_value"].tolist() == pytest.approx([2 / 1001, 2 / 1001, 2 / 1001, 1], abs=1e-3)
    assert found["num_units"].tolist() == [20, 20, 20, 8]


def test_utterances_are_paired_by_id_and_speakers_resampled(scored):
    one = scored("tiny", [1, 2, 3, 4] * 2, ids=list("abcdefgh"), speakers=list("stuvstuv"))
    two = scored("cutset", [4, 3, 2, 1] * 2, ids=list("hgfedcba"), speakers=list("vutsvuts"))
    bases = {"cutset": "tiny"}
    (row,) = compare(read_scores([one, two], bases), bases).itertuples()
    assert (row.difference, row.difference_low, row.difference_high, row.p_value) == (0, 0, 0, 1)
    assert (row.units, row.num_units) == ("speakers", 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"errors": [1, 1, 1]}, "cannot be compared on yesno/dev: 1 utterances are of one only, such as 'u2'"),
        ({"ids": ["u0", "v1"]}, "2 utterances are of one only, such as 'u1'"),
        ({"normalizer": "lower"}, "their normalisers are 'lower' and 'none'"),
        ({"words": WORDS[:9]}, "the reference of 'u0' differs"),
        (
            {"words": [*WORDS[:9], "jay"]},
            "the reference of 'u0' differs between .*/cutset_dev.json and .*/tiny_dev.json; ",
        ),
        (
            {"words": [WORDS[1], WORDS[0], *WORDS[2:]]},
            "the references differ, in words of the same lengths, between .*/cutset_dev.json and .*/tiny_dev.json; ",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(scored, change, message):
    bases = {"cutset": "tiny"}
    paths = [scored("tiny", [1, 1]), scored("cutset", **({"errors": [1, 1]} | change))]
    with pytest.raises(UserError, match=message):
        compare(read_scores(paths, bases), bases)


def test_scores_from_before_references_had_a_checksum_are_compared(scored):
    bases = {"cutset": "tiny"}
    paths = [scored("tiny", [1, 1]), scored("cutset", [1, 1], words=[WORDS[1], WORDS[0], *WORDS[2:]])]
    old = json.loads(paths[0].read_text())
    del old["references"]
    paths[0].write_text(json.dumps(old))
    assert len(compare(read_scores(paths, bases), bases)) == 1


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([3] * 20, "cutset is worse than its base tiny: 30.00 % against 20.00 %, difference +10.00 points"),
        ([2] * 10 + [1, 4] * 5, "cutset is not better than its base tiny: 22.50 % against 20.00 %"),
        ([2] * 20, "cutset is not better than its base tiny: 20.00 % against 20.00 %, difference +0.00 points"),
        ([2] * 19 + [1], None),
        ([0] * 20, None),
    ],
)
def test_a_fine_tune_that_did_not_help_is_warned_of(scored, errors, expected):
    bases = {"cutset": "tiny"}
    paths = [scored("tiny", [2] * 20), scored("cutset", errors)]
    lines = list(warnings_for(compare(read_scores(paths, bases), bases), bases))
    assert len(lines) == (expected is not None)
    assert not lines or lines[0].startswith(f"yesno/dev: {expected}")


def test_a_warning_of_few_utterances_claims_nothing_of_chance(scored):
    bases = {"cutset": "tiny"}
    comparisons = compare(read_scores([scored("tiny", [2]), scored("cutset", [5])], bases), bases)
    assert list(warnings_for(comparisons, bases)) == [
        "yesno/dev: cutset is not better than its base tiny: 50.00 % against 20.00 %, difference +30.00 points"
    ]


def test_nothing_to_improve_is_no_failure(scored):
    bases = {"cutset": "tiny"}
    paths = [scored("tiny", [0] * 3), scored("cutset", [0] * 3)]
    assert list(warnings_for(compare(read_scores(paths, bases), bases), bases)) == []


@pytest.mark.parametrize("first", ["cutset", "tarred"])
@pytest.mark.parametrize(("errors", "warned"), [([1] * 20, True), ([3] * 19 + [1], False)])
def test_layouts_that_learn_differently_are_warned_of(scored, first, errors, warned):
    paths = [scored("tiny", [9] * 20), scored("cutset", [3] * 20), scored("tarred", errors)]
    paths[1:] = paths[1:] if first == "cutset" else paths[:0:-1]
    same_data = [["other", "tarred", "cutset"]]
    lines = list(warnings_for(compare(read_scores(paths, BASES), BASES), BASES, same_data))
    assert len(lines) == warned
    assert not lines or "differ in layout only, but their WER by more than chance" in lines[0]
    assert not list(warnings_for(compare(read_scores(paths, BASES), BASES), BASES, [["tarred", "other"]]))


def test_recognisers_without_a_common_set_are_warned_of(scored):
    bases = {"cutset": "tiny"}
    comparisons = compare(read_scores([scored("tiny", [1], "dev"), scored("cutset", [1], "test")], bases), bases)
    assert list(comparisons.columns) == COMPARISON_COLUMNS
    assert list(warnings_for(comparisons, bases)) == [
        "cutset and its base tiny were scored on no common set, so nothing says whether it helped"
    ]


def test_sets_without_words_have_empty_cells(scored, tmp_path):
    bases = {"cutset": "tiny"}
    scores = read_scores([scored(name, [0, 0], words=[]) for name in ("tiny", "cutset")], bases)
    table, comparisons = tabulate(scores, bases), compare(scores, bases)
    assert list(warnings_for(comparisons, bases)) == []
    assert "tiny    base        WER        - (- to -)" in readable(table)
    write_tsv(table, tmp_path / "t.tsv")
    header, first, _ = (line.split("\t") for line in (tmp_path / "t.tsv").read_text().splitlines())
    assert dict(zip(header, first, strict=True))["wer"] == ""


def test_tables_are_reproducible_and_read_back(scored, tmp_path):
    paths = [scored("tiny", [1, 2, 0]), scored("cutset", [0, 1, 2])]
    bases = {"cutset": "tiny"}
    for name in ("one.tsv", "two.tsv"):
        write_tsv(compare(read_scores(paths, bases), bases, seed=4), tmp_path / name)
    assert (tmp_path / "one.tsv").read_bytes() == (tmp_path / "two.tsv").read_bytes()
    back = pd.read_csv(tmp_path / "one.tsv", sep="\t")
    assert list(back.columns) == COMPARISON_COLUMNS
    assert back["wer"].tolist() == [0.1]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["cutset"], "--base 'cutset' should be EXPERIMENT=BASE"),
        (["=tiny"], "should be EXPERIMENT=BASE"),
        (["cutset="], "should be EXPERIMENT=BASE"),
        (["a=b", "a=c"], "names the experiment 'a' twice"),
    ],
)
def test_malformed_bases_are_refused(pairs, message):
    with pytest.raises(UserError, match=message):
        parse_bases(pairs)


def test_names_without_scores_are_refused(scored):
    path = scored("tiny", [1])
    with pytest.raises(UserError, match="--base cutset=tiny: no score file is of 'cutset', only of 'tiny'"):
        read_scores([path], {"cutset": "tiny"})
    with pytest.raises(UserError, match="--same-data tiny,tared: 'tiny', 'tared' not among the experiments"):
        read_scores([path], {}, [["tiny", "tared"]])


def test_two_scores_of_one_recogniser_and_set_are_refused(scored, tmp_path):
    path = scored("tiny", [1])
    copy = path.rename(tmp_path / "copy.json")
    with pytest.raises(UserError, match=r"tiny_dev\.json and .*copy\.json both score tiny on yesno/dev"):
        read_scores([copy, scored("tiny", [1])], {})


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"recogniser": 3})])
def test_files_that_hold_no_scores_are_refused(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(UserError, match=r"s\.json is no output of score_wer\.py"):
        read_scores([tmp_path / "s.json"], {})


@pytest.mark.parametrize(("share", "expected"), [(0.1234, "12.34 %"), (2, "200.00 %"), (None, "-"), (np.nan, "-")])
def test_percent(share, expected):
    assert percent(share) == expected
