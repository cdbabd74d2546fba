"""The pins in envs/: complete, consistent with each other, and free of banned releases."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"
CONSTRAINTS = ENVS / "constraints.txt"
REQUIREMENTS = [ENVS / "requirements.txt", ENVS / "requirements-dev.txt"]
CONDA_FILES = sorted(ENVS.glob("*.yaml"))
PYTHONS = ["3.11", "3.12", "3.13"]
# Releases that carried malicious code; a mirror or a cache may still offer them.
BANNED = {"lightning": ["2.6.2", "2.6.3"], "pytorch-lightning": ["2.6.2", "2.6.3"]}


def requirements_of(path: Path) -> list[Requirement]:
    """Return the requirements in a pip file, without its comments."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def linux(python: str) -> dict[str, str]:
    """Return the values of the markers on a Linux computer with this Python."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def pins_for(python: str) -> dict[str, str]:
    """Return package -> version as constraints.txt gives it for one Python."""
    pins: dict[str, str] = {}
    for requirement in requirements_of(CONSTRAINTS):
        if requirement.marker and not requirement.marker.evaluate(linux(python)):
            continue
        name = canonicalize_name(requirement.name)
        assert name not in pins, f"{name} has two versions on Python {python}"
        pins[name] = pinned_version(requirement)
    return pins


def pinned_version(requirement: Requirement) -> str:
    """Return the version of a requirement of the form ``name==version``."""
    specifiers = list(requirement.specifier)
    assert [s.operator for s in specifiers] == ["=="], f"not an exact pin: {requirement}"
    assert "*" not in specifiers[0].version, f"not an exact pin: {requirement}"
    return specifiers[0].version


def conda_environment(path: Path) -> tuple[str, list[Requirement]]:
    """Return the Python version and the pip section of a conda environment file."""
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    (python,) = (d for d in dependencies if isinstance(d, str) and re.match(r"python\b", d))
    (pip_section,) = (d["pip"] for d in dependencies if isinstance(d, dict))
    return re.sub(r"python *=+ *", "", python), [Requirement(line) for line in pip_section]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_a_pin_that_it_allows(python):
    pins = pins_for(python)
    for path in REQUIREMENTS:
        for requirement in requirements_of(path):
            name = canonicalize_name(requirement.name)
            assert name in pins, f"{path.name}: {name} has no pin; run `make lock`"
            assert pins[name] in requirement.specifier, f"{path.name}: {requirement} excludes {pins[name]}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", BANNED)
def test_banned_releases_are_not_pinned(name, python):
    assert pins_for(python)[name] not in BANNED[name]


@pytest.mark.parametrize("name", BANNED)
def test_banned_releases_are_excluded_by_name(name):
    (requirement,) = (r for r in requirements_of(ENVS / "requirements.txt") if r.name == name)
    for version in BANNED[name]:
        assert version not in requirement.specifier


def test_constraints_suit_plain_pip():
    for requirement in requirements_of(CONSTRAINTS):
        pinned_version(requirement)
        assert not requirement.extras, f"pip refuses extras in constraints: {requirement}"
        assert requirement.url is None, f"an address ties the pins to one place: {requirement}"


def test_constraints_name_the_command_that_made_them():
    command = re.search(r"uv (pip compile .*)", CONSTRAINTS.read_text(encoding="utf-8"))
    assert command, "constraints.txt lost its header"
    assert command[1] in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(ENVS.iterdir()), ids=lambda path: path.name)
def test_no_file_names_a_registry_or_a_local_path(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        assert "://" not in line
        assert not re.search(
            r"--(extra-)?index|--find-links|^\s*-[fie]\s|\bfile:|@ |(^|\s)(/|~/|\./)\w", line.split("#")[0]
        )


@pytest.mark.parametrize("path", CONDA_FILES, ids=lambda path: path.name)
def test_conda_files_pin_what_constraints_pin(path):
    python, requirements = conda_environment(path)
    assert python in PYTHONS
    pins = pins_for(python)
    differing = {
        requirement.name: f"{version}, constraints.txt has {pins.get(canonicalize_name(requirement.name))}"
        for requirement in requirements
        if (version := pinned_version(requirement)) != pins.get(canonicalize_name(requirement.name))
    }
    assert not differing


@pytest.mark.parametrize("path", CONDA_FILES, ids=lambda path: path.name)
def test_conda_files_name_each_package_once(path):
    names = [canonicalize_name(requirement.name) for requirement in conda_environment(path)[1]]
    assert len(names) == len(set(names))


def test_conda_files_exist():
    assert {"data.yaml", "nemo.yaml", "report.yaml"} <= {path.name for path in CONDA_FILES}


def test_requires_python_is_what_the_pins_cover():
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SpecifierSet(metadata["requires-python"]) == SpecifierSet(">=3.11,<3.14")
