"""What only the configuration files show: keys that stand twice, and blocks taken away that were never there."""

import pytest

from nuptse.config_files import check_files
from nuptse.errors import UserError

TWICE = """\
experiments:
  first: {layout: tarred}
corpora:
  a:
    splits: {train: x, train: y}
experiments:
  second: {layout: cutset}
"""


@pytest.fixture
def write(tmp_path):
    def one(text, name="my.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return one


def test_each_key_that_stands_twice_is_named_with_both_lines(write):
    with pytest.raises(UserError) as error:
        check_files([path := write(TWICE)], {})
    inner, outer = str(error.value).splitlines()
    assert inner.startswith(f"`corpora.a.splits.train` stands twice in {path}, in lines 5 and 5")
    assert outer.startswith(f"`experiments` stands twice in {path}, in lines 1 and 6")


@pytest.mark.parametrize(
    "text", ["", "a: [{b: 1}, {b: 2}]", "a: {c: 1}\nb: {c: 1}", "a: [", "? [x]\n: 1", "experiments: 1"]
)
def test_nothing_is_wrong_with_these(write, text):
    check_files([write(text)], {"experiments": {"a": {}}})


def test_a_block_is_taken_away_only_where_there_is_one(write):
    base = write("experiments: {first: {layout: tarred}, 2: {layout: cutset}}\nmodels: {gone: null}", "base.yaml")
    overlay = write("experiments: {first: null}", "overlay.yaml")
    check_files([base, overlay], {"experiments": {"first": None, 2: None}})
    with pytest.raises(UserError) as error:
        check_files([base, overlay], {"experiments": {"frist": None, "first": None}, "models": {"gone": None}})
    model, experiment = sorted(str(error.value).splitlines(), reverse=True)
    assert model == "`models.gone` is null, which removes it, but no configuration file has it"
    assert experiment.startswith("`experiments.frist` is null") and experiment.endswith("; did you mean `first`?")
