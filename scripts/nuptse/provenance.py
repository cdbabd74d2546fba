"""Where every number comes from: settings, shared and own, and the command that makes each file again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from nuptse.results import Run, Split
from nuptse.source_settings import corpus_source, source_paths
from nuptse.splits import origin_of

MISSING = "–"


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value) for every setting; lists stay whole.

    >>> list(flat({"optim": {"lr": 0.1, "betas": [0.9, 0.98]}}))
    [('optim.lr', '0.1'), ('optim.betas', '[0.9, 0.98]')]
    """
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def in_yaml(settings: Any) -> str:
    text: str = yaml.safe_dump(settings, sort_keys=True, allow_unicode=True, width=100)
    return text


@dataclass(frozen=True)
class Settings:
    """Settings of all experiments: those that all have alike, and for each other key the value of each experiment."""

    shared: list[tuple[str, str]]
    own: list[tuple[str, list[str]]]


def compare_settings(experiments: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Return what experiments have in common and where they differ, by key, experiments in the order of their names."""
    tables = [dict(flat(settings)) for _, settings in sorted(experiments.items())]
    shared, own = [], []
    for key in sorted({key for table in tables for key in table}):
        values = [table.get(key, MISSING) for table in tables]
        if len(set(values)) == 1 and len(values) > 1:
            shared.append((key, values[0]))
        else:
            own.append((key, values))
    return Settings(shared, own)


def command(target: str, configfiles: Sequence[str]) -> str:
    """Return the command that makes a file anew, with the configuration files of this run."""
    files = ["--configfile", *configfiles] if configfiles else []
    return shlex.join(["snakemake", target, "--cores", "4", *files])


def commands(run: Run, configfiles: Sequence[str]) -> list[tuple[str, str]]:
    """Return (what it makes, command) for every number of the page."""
    recogniser, corpus, split = next(iter(run.details), ("RECOGNISER", "CORPUS", "SPLIT"))
    return [
        ("all error rates and comparisons", command("results/wer.tsv", configfiles)),
        *((f"training of {name}", command(f"results/{name}/train.json", configfiles)) for name in run.experiments),
        (
            f"errors of one recogniser in one split, such as {recogniser} on {corpus}/{split}",
            command(f"results/scores/{recogniser}/{corpus}_{split}.json", configfiles),
        ),
        ("this page and the figures", command("results/report.html", configfiles)),
    ]


@dataclass(frozen=True)
class SplitOrigin:
    """How a split was made.

    Attributes:
        archives: (file, SHA-256 or empty), or the folder, tables and manifests of the corpus.
        part: what the source calls it, or the share of it that was dealt out.
        text: the steps of the text profile, in words.
    """

    split: Split
    recipe: str
    part: str
    archives: list[tuple[str, str]]
    language: str
    text: str
    normalizer: str


def split_origins(run: Run) -> list[SplitOrigin]:
    found = []
    for corpus, split in run.ledgers:
        settings = run.settings["corpora"][corpus]
        source = corpus_source(settings)
        archives = [(file, archive.get("sha256", "")) for file, archive in sorted(settings["archives"].items())]
        steps = [step if isinstance(step, str) else json.dumps(step, ensure_ascii=False) for step in settings["text"]]
        found.append(
            SplitOrigin(
                split=(corpus, split),
                recipe=settings.get("recipe", source.kind),
                part=origin_of(settings, split),
                archives=archives or [(path, "") for path in (settings.get("folder"), *source_paths(source)) if path],
                language=settings["language"],
                text=", then ".join(steps) or "as it is",
                normalizer=settings["normalizer"],
            )
        )
    return found
