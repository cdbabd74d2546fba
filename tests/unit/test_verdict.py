"""What the error rates say, in words."""

import json
from dataclasses import replace
from pathlib import Path

from run_files import experiment, transcripts, write_run

from nuptse.results import read_run
from nuptse.verdict import SELECTION, TEST, WATCHED, headline, ordered_splits, role, verdict


def run_of(folder: Path, **options):
    arguments = list(map(str, write_run(folder, **options)))

    def after(flag):
        values = arguments[arguments.index(flag) + 1 :]
        return values[: next((place for place, value in enumerate(values) if value.startswith("--")), len(values))]

    return read_run(
        settings=json.loads(after("--settings")[0]),
        bases=dict(pair.split("=") for pair in after("--base")),
        same_data=[],
        table=Path(after("--table")[0]),
        comparisons=Path(after("--comparisons")[0]),
        scores=map(Path, after("--scores")),
        experiments=[Path(path).parent for path in after("--train")],
        ledgers=map(Path, after("--ledgers")),
        reports=map(Path, after("--doctor")),
    )


def plain(text):
    return text.replace("\u00a0", " ")


def test_roles_of_splits_and_tests_first(tmp_path):
    both = (("corpus", "dev"), ("corpus", "extra"))
    run = run_of(tmp_path, experiments={"a": experiment(), "b": experiment(validation=both)})
    assert ordered_splits(run) == [("corpus", "test"), ("corpus", "dev"), ("corpus", "extra")]
    assert [role(run, split) for split in ordered_splits(run)] == [TEST, SELECTION, WATCHED]


def test_a_split_that_chose_one_checkpoint_is_no_test_for_the_others(tmp_path):
    seen = {"a": experiment(test=(("corpus", "dev2"),)), "b": experiment(validation=(("corpus", "dev2"),))}
    run = run_of(tmp_path, experiments=seen)
    assert role(run, ("corpus", "dev2")) == SELECTION


def test_the_best_and_how_much_better_than_its_base(tmp_path):
    hears = {"base": "no", "first": "one two three", "second": "one too"}
    run = run_of(tmp_path, hypotheses=hears)
    found = verdict(run, ("corpus", "test"))
    assert found.best == ["first"]
    assert found.wer == 0.125
    assert found.against_base.difference == -0.375
    assert plain(found.sentence).startswith("first is best, 37.5 points below base (95 % interval ")
    assert plain(headline(run)) == (
        "On corpus/test, the best fine-tune brings the word error rate from 50.0 % down to 12.5 %."
    )


def test_equal_rates_share_the_first_place(tmp_path):
    run = run_of(tmp_path, hypotheses={"base": "no", "first": "one two", "second": "one two"})
    found = verdict(run, ("corpus", "test"))
    assert found.best == ["first", "second"]
    assert found.rivals == []
    assert found.sentence.startswith("first and second are best, ")


def test_equal_rates_from_different_bases_are_held_against_none(tmp_path):
    tunes = {"first": experiment(model="good"), "second": experiment(model="bad")}
    hears = {"good": "one two", "bad": "no", "first": "one two", "second": "one two"}
    run = run_of(tmp_path, experiments=tunes, hypotheses=hears)
    found = verdict(run, ("corpus", "test"))
    assert found.sentence == "first and second are best, and come from different bases."
    assert found.against_base is None and found.caution == ""
    assert plain(headline(run)) == "On corpus/test, the best fine-tune has a word error rate of 25.0 %."


def test_rivals_within_chance_are_named(tmp_path):
    rows = {(name, split): transcripts("no") for name in ("base",) for split in ("dev", "test")}
    for split in ("dev", "test"):
        rows["first", split] = transcripts("one two three four")
        rows["second", split] = transcripts("one two three four")
        rows["second", split][0].pred_text = "one two three"
    found = verdict(run_of(tmp_path, rows=rows), ("corpus", "test"))
    assert found.best == ["first"]
    assert [rival.other for rival in found.rivals] == ["second"]
    assert found.caution == "Within chance of it: second."


def test_of_few_utterances_no_gain_is_certain(tmp_path):
    rows = {(name, split): transcripts("one two three four", number=2) for name in ("base", "first") for split in ("dev", "test")}  # fmt: skip
    for split in ("dev", "test"):
        for row in rows["base", split]:
            row.pred_text = "one two three"
    found = verdict(run_of(tmp_path, experiments={"first": experiment()}, rows=rows), ("corpus", "test"))
    assert plain(found.sentence) == "first is best, 25.0 points below base."
    assert found.caution == "Too few utterances to say how sure that is."


def test_a_fine_tune_that_did_not_help(tmp_path):
    run = run_of(tmp_path, hypotheses={"base": "one two three four", "first": "no", "second": "no no"})
    assert verdict(run, ("corpus", "test")).sentence.endswith("yet no better than base.")
    assert headline(run) == "On corpus/test, no fine-tune is better than its base model."


def test_a_fine_tune_that_helped_a_worse_base_is_not_denied(tmp_path):
    """The best one is no better than its base; the other one is, and the headline spoke of both."""
    tunes = {"first": experiment(model="good"), "second": experiment(model="bad"), "third": experiment(model="bad")}
    hears = {
        "good": "one two three four",
        "bad": "no",
        "first": "one two three four",
        "second": "one two",
        "third": "no",
    }
    run = run_of(tmp_path / "one", experiments=tunes, hypotheses=hears)
    said = "On corpus/test, the best fine-tune is no better than its base model, but second is better than its own."
    assert headline(run) == said
    run = run_of(tmp_path / "two", experiments=tunes, hypotheses=hears | {"third": "one"})
    assert headline(run).endswith("no better than its base model, but 2 others are better than theirs.")


def test_a_fine_tune_without_scores_of_its_base_is_not_denied(tmp_path):
    tunes = {"first": experiment(model="good"), "second": experiment(model="bad")}
    hears = {"good": "one two three four", "bad": "no", "first": "one two three four", "second": "one two"}
    run = run_of(tmp_path, experiments=tunes, hypotheses=hears)
    compared = run.comparisons[run.comparisons["recogniser"] != "second"]
    assert (
        headline(replace(run, comparisons=compared))
        == "On corpus/test, no fine-tune that was compared is better than its base model."
    )


def test_without_reference_words_there_is_no_verdict(tmp_path):
    rows = {(name, split): transcripts("a", text="") for name in ("base", "first") for split in ("dev", "test")}
    run = run_of(tmp_path, experiments={"first": experiment()}, rows=rows)
    assert verdict(run, ("corpus", "test")) is None
    assert headline(run).startswith("No word error rate could be measured")


def test_a_comparison_is_the_same_from_the_other_side(tmp_path):
    run = run_of(tmp_path, hypotheses={"base": "no", "first": "no", "second": "one two three"})
    found = verdict(run, ("corpus", "test"))
    assert found.best == ["second"] and found.rivals == []
    one = found.against_base
    assert one.swapped().swapped() == one
    assert (one.swapped().difference, one.swapped().low) == (-one.difference, -one.high)


def test_a_recogniser_may_be_called_na(tmp_path):
    run = run_of(tmp_path, experiments={"NA": experiment(model="null")})
    assert run.recognisers == ["null", "NA"]
    assert set(run.table["recogniser"]) == {"null", "NA"}
