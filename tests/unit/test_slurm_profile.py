"""profiles/slurm asks for what the rules ask for, for every rule that runs on a node."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
SNAKEFILE = (ROOT / "Snakefile").read_text()
LOCAL = set(re.findall(r"\w+", re.search(r"^localrules:\n((?:    .*\n)+)", SNAKEFILE, re.MULTILINE)[1]))


def rules():
    """The text of every rule that has an output."""
    found = {}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        parts = re.split(r"^rule (\w+):\n", path.read_text(), flags=re.MULTILINE)
        found |= {name: text for name, text in zip(parts[1::2], parts[2::2], strict=True) if "    output:\n" in text}
    return found


# The development tool that speaks a corpus, and runs for minutes on one machine.
ON_NODES = sorted(rules().keys() - LOCAL - {"speak_pretraining_corpus"})


def test_the_local_rules_exist_and_use_no_gpu():
    assert rules().keys() >= LOCAL
    assert not [name for name in LOCAL if "gpu=" in rules()[name]]


def test_what_needs_the_network_is_local():
    assert {name for name in rules() if name.startswith("download_")} <= LOCAL


@pytest.mark.parametrize("rule", ON_NODES)
def test_the_first_attempt_gets_what_the_rule_says_and_further_ones_more(rule):
    asked = PROFILE["default-resources"] | PROFILE["set-resources"].get(rule, {})
    for key, value in re.findall(r"^        (mem_mb|runtime)=(\d+),$", rules()[rule], re.MULTILINE):
        first, second = (eval(str(asked[key]), {"attempt": attempt}) for attempt in (1, 2))
        assert first == int(value), f"{rule}: {key}; name the rule in profiles/slurm/config.yaml, or in `localrules`"
        assert second == 2 * first or (rule, key) == ("finetune_model", "runtime")


def test_rules_with_a_gpu_go_where_gpus_are():
    with_gpu = {name for name in ON_NODES if "gpu=" in rules()[name]}
    partitions = {name: own.get("slurm_partition") for name, own in PROFILE["set-resources"].items()}
    assert {name for name, partition in partitions.items() if partition} == with_gpu
    assert len({partitions[name] for name in with_gpu}) == 1


def test_a_training_is_told_before_its_time_is_over():
    assert re.fullmatch(r"'--signal=TERM@\d+'", PROFILE["set-resources"]["finetune_model"]["slurm_extra"])


def test_both_profiles_agree_where_they_say_the_same():
    default = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert default.items() <= PROFILE.items()
