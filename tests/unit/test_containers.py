"""The two container recipes install what everything else installs. No engine is needed: nothing is built here."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = (ROOT / "envs/Dockerfile").read_text()
APPTAINER = (ROOT / "envs/nuptse.def").read_text()
RECIPES = pytest.mark.parametrize("recipe", [DOCKER, APPTAINER], ids=["docker", "apptainer"])


def without_comments(recipe):
    return [line for line in recipe.splitlines() if line.strip() and not line.startswith("#")]


@RECIPES
def test_the_pins_are_installed_as_they_are_everywhere(recipe):
    (command,) = re.findall(r"python -m pip install (.*)", "\n".join(without_comments(recipe)))
    (documented,) = re.findall(r"python -m pip install (.*)", (ROOT / "envs/requirements.txt").read_text())
    assert command.removeprefix("--no-cache-dir ") == documented
    copied = set(re.findall(r"envs/[\w.]+", "\n".join(without_comments(recipe))))
    assert copied == {"envs/constraints.txt", "envs/requirements.txt"}
    assert all((ROOT / name).is_file() for name in copied)


def test_both_start_from_one_image_with_the_python_of_the_conda_files():
    (docker,) = re.findall(r"^FROM (\S+)$", DOCKER, re.MULTILINE)
    (apptainer,) = re.findall(r"^From: (\S+)$", APPTAINER, re.MULTILINE)
    assert docker == apptainer
    python = re.match(r"python:(\d+\.\d+)-", docker)[1]
    for path in (ROOT / "envs").glob("*.yaml"):
        assert f"python ={python}" in yaml.safe_load(path.read_text())["dependencies"]


def test_the_image_that_is_built_is_the_one_that_snakemake_takes():
    (built,) = re.findall(r"apptainer build (\S+) (?:\S+)$", APPTAINER, re.MULTILINE)
    assert f'container: "{built}"' in (ROOT / "Snakefile").read_text()
    assert f"apptainer build {built} envs/nuptse.def" in (ROOT / "docs/slurm.md").read_text()
    assert built in (ROOT / ".gitignore").read_text()
