"""What every plan knows of a configuration: corpora, models, experiments, and where files of the workflow lie."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nuptse.config import load_config
from nuptse.decoding import decoding_files
from nuptse.errors import UserError
from nuptse.settings import Config, made_of, model_source, own_tokenizer, resolve_experiment, resolve_urls
from nuptse.source_settings import corpus_source, source_paths
from nuptse.sources import source_files
from nuptse.splits import split_names


class PlanBase:
    """A checked configuration, seen from the rules.

    Args:
        config: the configuration as Snakemake merged it.
        schema: content of config/schema.yaml.
        root: folder of the Snakefile.
        cores: that Snakemake may use on this machine; None where a cluster decides.
        allotted: cores that a cluster gave to the job which parses this; None or 0 if that is not known.

    Raises:
        UserError: the configuration cannot be used; one sentence per mistake.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        schema: Mapping[str, Any],
        root: Path,
        *,
        cores: int | None = None,
        allotted: int | None = None,
    ) -> None:
        self.config: Config = load_config(config, schema)
        self.root = root
        self.cores = cores
        self.allotted = allotted
        self.corpora: Config = self.config["corpora"]
        self.models: Config = self.config["models"]
        self.audio: str | None = self.config["audio"]
        if self.audio is not None and not Path(self.audio).exists():
            raise UserError(
                f"`audio` is {self.audio!r}, which does not exist: give a folder, an audio file or a manifest, absolute"
                f" or relative to {Path.cwd()}"
            )
        self.decoding: Config = self.config["decoding"]
        for key, path in decoding_files(self.decoding).items():
            if not path.is_file():
                raise UserError(
                    f"`decoding.{key}` is {str(path)!r}, which is no file: give one that exists, absolute or relative"
                    f" to {Path.cwd()}"
                )
        self.experiments = {name: resolve_experiment(self.config, name, schema) for name in self.config["experiments"]}
        for name in dict.fromkeys(corpus for corpus, _ in self.used_splits):
            folder = self.corpora[name].get("folder")
            if folder is not None and not Path(folder).is_dir():
                raise UserError(
                    f"`corpora.{name}.folder` is {folder!r}, which is no folder: give one that exists, absolute or"
                    f" relative to {Path.cwd()}"
                )
            _check_source(name, self.corpora[name])
        for name in self.used_models:
            self._check_model_file(name, self.models[name].get("url"))

    def _check_model_file(self, name: str, url: str | list[str] | None) -> None:
        """Refuse a path to a model that is not there; what a mirror lacks is for the download to tell."""
        is_path = isinstance(url, str) and self.addresses(url) == [self.path(url)]
        if is_path and not any(Path(place).exists() for place in (self.path(str(url)), f"data/models/{name}.nemo")):
            raise UserError(
                f"`models.{name}.url` is {url!r}, which is no file: give one that exists, absolute or relative to the"
                " Snakefile"
            )

    # --- files of the workflow ---

    def path(self, relative: str | Path) -> str:
        """Return a path of the workflow as seen from the working directory: the same anywhere if it lies below it."""
        path, here = self.root / relative, Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def code(self, script: str) -> list[str]:
        """Return a command and every module of ours that it imports: a rule reruns when one of them changes."""
        return [self.path(path) for path in source_files(self.root / "scripts" / script)]

    def addresses(self, url: str | list[str]) -> list[str]:
        """Return where to look for a file, in turn; those that are files of the workflow as ``path`` gives them."""
        found = resolve_urls(url, self.config["mirrors"])
        return [address if "://" in address else self.path(address) for address in found]

    # --- names, and what is used of all that is configured ---

    @cached_property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(split for corpus in self.corpora.values() for split in split_names(corpus)))

    def models_from(self, source: str) -> str:
        """Return a regular expression for the models of this kind of source, see ``model_source``."""
        return any_of(name for name, model in self.models.items() if model_source(model) == source)

    def corpora_from(self, kind: str) -> str:
        """Return a regular expression for the corpora of this kind of source."""
        return any_of(name for name, corpus in self.corpora.items() if kind in corpus)

    @cached_property
    def used_models(self) -> list[str]:
        """The base models of the experiments, and those that they are made of, which come before them."""
        names = [settings["model"] for settings in self.experiments.values()]
        return list(dict.fromkeys(model for name in names for model in made_of(name, self.models)))

    @cached_property
    def used_splits(self) -> list[tuple[str, str]]:
        """Every (corpus, split) that an experiment or the tokenizer of its model reads."""
        entries = []
        for settings in self.experiments.values():
            entries += settings["train"] + settings["validation"] + settings["test"]
        for model in self.used_models:
            entries += (own_tokenizer(self.models[model]) or {"train": []})["train"]
        return list(dict.fromkeys((entry["corpus"], entry["split"]) for entry in entries))

    def of_each_split(self, pattern: str) -> list[str]:
        """Return a file of every split that is used, in the order of their names."""
        return [pattern.format(corpus=corpus, split=split) for corpus, split in sorted(self.used_splits)]

    def of_each_experiment(self, file: str) -> list[str]:
        """Return the file of this name of every experiment."""
        return [f"results/{name}/{file}" for name in sorted(self.experiments)]


def _check_source(name: str, corpus: Mapping[str, Any]) -> None:
    """Refuse a folder, table or manifest that is not there. What comes out of archives is not there yet."""
    source = corpus_source(corpus)
    if "archives" in corpus or source.kind in ("huggingface", "nemo_shards"):
        return
    wanted = "folder" if source.kind in ("audio_folder", "kaldi", "shar") else "file"
    for path in source_paths(source):
        full = Path(corpus.get("folder", ""), path)
        if not (full.is_dir() if wanted == "folder" else full.is_file()):
            raise UserError(
                f"`corpora.{name}.{source.kind}` is {str(full)!r}, which is no {wanted}: give one that exists, absolute"
                f" or relative to {Path.cwd()}"
            )


def any_of(names: Iterable[str]) -> str:
    """Return a regular expression for exactly these names, or for nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


def checks(source: Mapping[str, Any]) -> list[str]:
    return [f"--{key}={source[key]}" for key in ("sha256", "bytes") if key in source]


def identity(source: Mapping[str, Any]) -> str:
    """What makes a file another one: its checksum, or its address, which nobody may read here, if none is pinned."""
    return source.get("sha256") or hashlib.sha256(as_json(source["url"]).encode()).hexdigest()


def as_json(value: Any) -> str:
    """The same text for the same value: it is a param, and a change of it reruns a rule."""
    return json.dumps(value, sort_keys=True)
