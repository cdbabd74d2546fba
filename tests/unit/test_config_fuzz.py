"""Whatever stands in a configuration: it is a plan, or a message for the user; never a traceback, never a hang."""

import copy
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuptse.errors import UserError
from nuptse.plan import Plan

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())
CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())

# What people write by mistake, and what they might write on purpose.
WORDS = [
    "",
    " ",
    "-",
    "--help",
    "a b",
    "it's",
    '"',
    "$(id)",
    "`id`",
    "a\nb",
    "../..",
    "/",
    "~",
    "pipe:id|",
    "null",
    "ünï 語",
]
WORDS += ["a" * 300, "\0", "{x}", "{wildcards.corpus}", "*", "[", "(?P<", "0", "1e-4"]
NUMBERS = [-1, 0, 1, 10**12, 0.0, -0.5, float("inf"), float("nan"), True, False, None]
KEYS = st.sampled_from([*WORDS, *NUMBERS])
VALUES = st.recursive(
    KEYS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=4
)


def places(node, path=()):
    """Yield the path of every key and list entry, those that only the schema has included."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def optional_keys(definition):
    return list(SCHEMA["$defs"][definition]["properties"])


PLACES = [path for path in places(CONFIG) if path]
PLACES += [(key,) for key in SCHEMA["properties"]]
PLACES += [("corpora", "quickstart", key) for key in optional_keys("corpus")]
PLACES += [("models", "quickstart_base", key) for key in optional_keys("model")]
PLACES += [("experiments", "finetune_from_cutset", key) for key in optional_keys("settings")]
PLACES += [("doctor", key) for key in SCHEMA["properties"]["doctor"]["properties"]]


def put(config, path, value):
    *way, last = path
    node = config
    for key in way:
        if isinstance(node, dict):
            node = node.setdefault(key, {})
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            return
    if isinstance(node, dict) or (isinstance(node, list) and isinstance(last, int) and last < len(node)):
        node[last] = value


def answers(plan):
    """Ask all that does not need files of a run."""
    plan.all_archives(), plan.all_manifests(), plan.all_shards(), plan.all_scores(), plan.comparison_arguments()
    plan.page_settings()
    for experiment in plan.experiments:
        plan.overrides(experiment), plan.examined_settings(experiment), plan.card_facts(experiment)
    for corpus, split in plan.used_splits:
        plan.source_arguments(corpus), plan.group_ledgers(corpus, split)


def plan_of(config):
    """Make a plan and ask it, or be told what is wrong."""
    with suppress(UserError):
        answers(Plan(config, SCHEMA, ROOT, cores=2))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_any_value_anywhere_is_used_or_refused(monkeypatch, tmp_path, changes):
    monkeypatch.chdir(tmp_path)
    config = copy.deepcopy(CONFIG)
    for path, value in changes:
        put(config, path, copy.deepcopy(value))
    plan_of(config)


@pytest.mark.parametrize("value", [None, [], {}, "", 0, -1, 1e308, True, "x", ["x"], {"x": "x"}], ids=repr)
def test_a_wrong_kind_of_value_at_every_key(monkeypatch, tmp_path, value):
    monkeypatch.chdir(tmp_path)
    for path in PLACES:
        config = copy.deepcopy(CONFIG)
        put(config, path, value)
        plan_of(config)
