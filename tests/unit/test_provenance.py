"""Where numbers come from."""

from nuptse.provenance import command, compare_settings, flat


def test_settings_are_told_by_dotted_keys():
    assert dict(flat({"optim": {"lr": 0.1, "betas": [0.9, 0.98]}, "test": [], "spec_augment": None})) == {
        "optim.lr": "0.1",
        "optim.betas": "[0.9, 0.98]",
        "test": "[]",
        "spec_augment": "null",
    }


def test_what_differs_is_set_apart():
    found = compare_settings({"b": {"lr": 2, "seed": 0, "only": "x"}, "a": {"lr": 1, "seed": 0}})
    assert found.shared == [("seed", "0")]
    assert found.own == [("lr", ["1", "2"]), ("only", ["–", "x"])]


def test_settings_of_a_single_experiment_are_its_own():
    assert compare_settings({"a": {"lr": 1}}).own == [("lr", ["1"])]


def test_commands_can_be_pasted():
    assert command("results/wer.tsv", []) == "snakemake results/wer.tsv --cores 4"
    assert command("results/wer.tsv", ["my file.yaml"]).endswith("--cores 4 --configfile 'my file.yaml'")
