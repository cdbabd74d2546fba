"""The processes of a training find each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nuptse import ranks

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("node", "local", "suffix", "first"),
    [(0, 0, "", True), (0, 3, ".rank3", False), (1, 0, ".node1.rank0", False), (2, 1, ".node2.rank1", False)],
)
def test_one_process_is_the_first(monkeypatch, node, local, suffix, first):
    monkeypatch.setenv("NODE_RANK", str(node))
    monkeypatch.setenv("LOCAL_RANK", str(local))
    assert (ranks.log_suffix(), ranks.is_first()) == (suffix, first)


def test_several_nodes_want_slurm():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    command = [sys.executable, ROOT / "scripts/finetune.py", "--experiment", "large", "--base", "b", "--bins", "b"]
    command += ["--train", "t", "--validation", "v", "--doctor", "d", "--output-dir", "o", "--", "trainer.num_nodes=2"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert run.returncode == 1
    assert run.stderr.startswith("ERROR: `trainer.num_nodes` of large is 2, and no SLURM is here")
    assert "--workflow-profile profiles/slurm" in run.stderr and run.stderr.count("\n") == 1


@pytest.fixture
def environment(monkeypatch):
    """The variables of this process, put back afterwards whatever a test does to them."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        yield os.environ


def test_a_task_of_srun_says_where_lightning_finds_the_others(environment):
    environment |= {
        "SLURM_JOB_ID": "7",
        ranks.LAUNCH: "7.x",
        "SLURM_NODEID": "1",
        "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
    }
    ranks.enter_nodes("large", 2, 8)
    assert (environment["NODE_RANK"], environment["MASTER_ADDR"]) == ("1", "10.0.0.7")


@pytest.mark.parametrize("inherited", [None, "None.x", "7.x", "71.x"])
def test_a_job_starts_its_tasks_whatever_it_was_submitted_from(environment, monkeypatch, inherited):
    environment["SLURM_JOB_ID"] = "17"
    if inherited:
        environment[ranks.LAUNCH] = inherited
    became = []
    monkeypatch.setattr(os, "execvp", lambda program, command: became.append(command))
    ranks.enter_nodes("large", 2, 8)
    assert became[0][:3] == ["srun", "--nodes=2", "--ntasks=2"]
    assert environment[ranks.LAUNCH].startswith("17.")


def test_each_start_has_a_name_of_its_own(environment):
    names = set()
    for _ in range(2):  # the second from where the first has left its name
        ranks.enter_nodes("small", 1, 8)
        names.add(environment[ranks.LAUNCH])
    assert len(names) == 2
    environment["LOCAL_RANK"] = "1"
    ranks.enter_nodes("small", 1, 8)
    assert environment[ranks.LAUNCH] in names, "that of the process that started this one"
