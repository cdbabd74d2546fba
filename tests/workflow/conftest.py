"""A copy of the workflow in a folder of its own, and one complete run of it that the tests of this folder share."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config", "rules", "scripts", "envs", "profiles", "resources")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items):
    """Keep each file of this folder to one process: its tests share runs, which take minutes to make."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


class Checkout:
    """A working copy that tests may edit and run."""

    def __init__(self, folder):
        self.folder = folder
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(
                source, folder / part, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {})
            )

    @classmethod
    def of(cls, folder):
        """A working copy that is there already."""
        checkout = cls.__new__(cls)
        checkout.folder = folder
        return checkout

    def command(self, *arguments):
        return [sys.executable, "-m", "snakemake", "--cores", "2", *map(str, arguments)]

    @property
    def environment(self):
        """Rules call plain `python`: the one that runs the tests."""
        return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def snakemake(self, *arguments, check=True):
        """Run Snakemake to its end; return the finished process with its output as text."""
        run = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert not check or run.returncode == 0, run.stdout[-20000:]
        return run

    def scheduled(self, *arguments):
        """Return the jobs that a dry run plans: rule and wildcards, such as `build_cutset corpus=a, split=b`."""
        output = self.snakemake("--dry-run", *arguments).stdout
        jobs = set()
        for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", output, re.MULTILINE):
            wildcards = re.search(r"^    wildcards: (.*)$", body, re.MULTILINE)
            jobs.add(f"{rule} {wildcards[1]}" if wildcards else rule)
        return jobs - {"all"}

    def overlay(self, content):
        """Write a configuration overlay and return its path."""
        path = self.folder / "overlay.yaml"
        path.write_text(yaml.safe_dump(content))
        return path


@pytest.fixture(scope="session")
def make_checkout(tmp_path_factory):
    """Make fresh checkouts that outlive a test."""
    return lambda name: Checkout(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def finished(make_checkout):
    """A checkout in which everything was made once, two steps of each fine-tune."""
    checkout = make_checkout("finished")
    checkout.snakemake("--configfile", "config/test.yaml")
    return checkout


@pytest.fixture
def checkout(tmp_path):
    """A fresh checkout, in which nothing was made."""
    folder = tmp_path / "a checkout"  # a path with a space
    folder.mkdir()
    return Checkout(folder)
