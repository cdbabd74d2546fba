"""The quickstart as users run it: every fine-tune halves the errors of the base model on a split that chose nothing."""

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

BASE = "quickstart_base"
FOUR = [f"finetune_from_{name}" for name in ("cutset", "nemo_json", "nemo_tarred", "nemo_multidataset")]
SPLITS = [("quickstart", "dev"), ("quickstart", "test")]
YESNO = ("quickstart_yesno", "test")


@pytest.fixture(scope="module")
def quickstart(make_checkout):
    checkout = make_checkout("quickstart")
    return checkout, checkout.snakemake().stdout


@pytest.fixture(scope="module")
def table(quickstart):
    checkout, _ = quickstart
    read = pd.read_csv(checkout.folder / "results/wer.tsv", sep="\t")
    return read.set_index(["recogniser", "corpus", "split"])


def test_the_table_has_every_model_on_every_split(table):
    wanted = {(name, *split) for name in [BASE, *FOUR] for split in SPLITS}
    assert set(table.index) == wanted | {(BASE, *YESNO), ("finetune_from_nemo_multidataset", *YESNO)}


@pytest.mark.parametrize("name", FOUR)
def test_every_fine_tune_halves_the_errors_of_its_base(table, name):
    base, tuned = table.loc[(BASE, "quickstart", "test")], table.loc[(name, "quickstart", "test")]
    assert tuned.wer < base.wer / 2
    assert tuned.wer_high < base.wer_low, "intervals apart"
    assert table.loc[(name, "quickstart", "dev")].wer < table.loc[(BASE, "quickstart", "dev")].wer / 2


def test_the_mix_learns_yesno_at_the_same_time(table):
    assert table.loc[(BASE, *YESNO)].wer > 1
    assert table.loc[("finetune_from_nemo_multidataset", *YESNO)].wer < 0.1


def test_the_comparisons_say_so_too(quickstart):
    checkout, _ = quickstart
    comparisons = pd.read_csv(checkout.folder / "results/wer_comparisons.tsv", sep="\t")
    with_base = comparisons[comparisons.kind == "base"]
    assert len(with_base) == 9
    assert (with_base.difference_high < 0).all()
    assert (with_base.p_value < 0.01).all()


def test_the_terminal_shows_the_progress_and_the_table(quickstart):
    _, output = quickstart
    for name in FOUR:
        assert f"{name}: step 200/200  loss" in output
        assert f"{name}: step 50/200  val_wer" in output
    assert "s to go" in output
    assert "steps (100%) done" in output
    assert "better than its base" not in output
    assert "quickstart/test: 48 utterances" in output


def test_the_terminal_ends_with_the_table_and_the_page(quickstart):
    checkout, output = quickstart
    ending = output.rpartition("steps (100%) done")[2]
    assert "quickstart/test: 48 utterances" in ending
    assert (checkout.folder / "results/report.html").as_uri() in ending
