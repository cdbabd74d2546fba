"""Which files the decoding options name."""

from pathlib import Path

import pytest
import yaml

from nuptse.decoding import decoding_files
from nuptse.errors import UserError
from nuptse.plan import Plan

ROOT = Path(__file__).parents[2]


def plan(decoding):
    config, schema = (yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()) for name in ("config", "schema"))
    return Plan(config | {"decoding": decoding}, schema, ROOT)


def test_every_file_is_found_by_its_key():
    options = {
        "strategy": "beam_batch",
        "beam": {"ngram_lm_model": "lm.arpa", "kenlm_path": None, "boosting_tree": {"model_path": "b", "source_lang": "en"}},
        "wfst": {"arpa_lm_path": "a"},
    }  # fmt: skip
    assert decoding_files(options) == {
        "beam.boosting_tree.model_path": Path("b"),
        "beam.ngram_lm_model": Path("lm.arpa"),
        "wfst.arpa_lm_path": Path("a"),
    }
    assert decoding_files({}) == {}


def test_a_file_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"`decoding.beam.ngram_lm_model` is 'none.arpa', which is no file"):
        plan({"beam": {"ngram_lm_model": "none.arpa"}})


def test_files_are_inputs_and_the_order_of_keys_is_none(tmp_path):
    (tmp_path / "lm.arpa").touch()
    beam = {"beam_size": 4, "ngram_lm_model": str(tmp_path / "lm.arpa")}
    first = plan({"strategy": "beam_batch", "beam": beam})
    second = plan({"beam": dict(reversed(beam.items())), "strategy": "beam_batch"})
    assert first.decoding_inputs() == [beam["ngram_lm_model"]]
    assert first.decoding_options() == second.decoding_options()
    assert plan({}).decoding_options() == "{}"
