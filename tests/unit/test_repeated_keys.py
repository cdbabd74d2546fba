"""A key that stands twice in one block of a configuration file."""

import pytest

from nuptse.repeated_keys import repeated_keys

TWICE = """\
experiments:
  first: {layout: tarred}
corpora:
  a:
    splits: {train: x, train: y}
experiments:
  second: {layout: cutset}
"""


def test_each_is_named_with_both_lines(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(TWICE)
    inner, outer = repeated_keys(path)
    assert inner.startswith(f"`corpora.a.splits.train` stands twice in {path}, in lines 5 and 5")
    assert outer.startswith(f"`experiments` stands twice in {path}, in lines 1 and 6")


@pytest.mark.parametrize("text", ["", "a: [{b: 1}, {b: 2}]", "a: {c: 1}\nb: {c: 1}", "a: [", "? [x]\n: 1"])
def test_none_stands_twice(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    assert list(repeated_keys(path)) == []
