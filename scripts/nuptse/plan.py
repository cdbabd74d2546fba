"""What the rules ask the configuration: the files that a rule needs, and the options that it gets.

Every method takes wildcards by name, so that rules use them as input and param functions, and answers without running
anything: only what Snakemake cannot see by itself is looked at, the files of corpora and the shards of ledgers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from nuptse.archive_ledger import changes
from nuptse.config import Config, load_config, model_source, resolve_experiment, resolve_urls
from nuptse.decoding import decoding_files
from nuptse.errors import UserError
from nuptse.finding_codes import parse_acceptance
from nuptse.folder_state import folder_state
from nuptse.import_ledger import changes_since
from nuptse.overrides import VALIDATION_LAYOUT, data_files, finetune_overrides
from nuptse.page_settings import page_settings
from nuptse.shard_ledger import num_groups, repairs
from nuptse.source_settings import (
    corpus_source,
    expand_shards,
    input_files,
    shard_patterns,
    source_folders,
    source_paths,
)
from nuptse.sources import source_files
from nuptse.splits import parts_of, split_names


def any_of(names: Iterable[str]) -> str:
    """Return a regular expression for exactly these names, or for nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


class Plan:
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
        for name, corpus in self.corpora.items():
            if "folder" in corpus and not Path(corpus["folder"]).is_dir():
                raise UserError(
                    f"`corpora.{name}.folder` is {corpus['folder']!r}, which is no folder: give one that exists,"
                    f" absolute or relative to {Path.cwd()}"
                )
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
            _check_source(name, self.corpora[name])

    # --- files of the workflow ---

    def path(self, relative: str | Path) -> str:
        """Return a path of the workflow as seen from the working directory: the same anywhere if it lies below it."""
        path, here = self.root / relative, Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def code(self, script: str) -> list[str]:
        """Return a command and every module of ours that it imports: a rule reruns when one of them changes."""
        return [self.path(path) for path in source_files(self.root / "scripts" / script)]

    def _addresses(self, url: str | list[str]) -> list[str]:
        found = resolve_urls(url, self.config["mirrors"])
        return [address if "://" in address else self.path(address) for address in found]

    # --- names, and what is used of all that is configured ---

    @cached_property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(split for corpus in self.corpora.values() for split in split_names(corpus)))

    def models_from(self, source: str) -> str:
        """Return a regular expression for the models from ``pretrained``, ``url`` or ``from_scratch``."""
        return any_of(name for name, model in self.models.items() if model_source(model) == source)

    @cached_property
    def used_splits(self) -> list[tuple[str, str]]:
        """Every (corpus, split) that an experiment or the tokenizer of its model reads."""
        entries = []
        for settings in self.experiments.values():
            entries += settings["train"] + settings["validation"] + settings["test"]
            if scratch := self.models[settings["model"]].get("from_scratch"):
                entries += scratch["tokenizer"]["train"]
        return list(dict.fromkeys((entry["corpus"], entry["split"]) for entry in entries))

    def all_archives(self) -> list[str]:
        corpora = dict.fromkeys(corpus for corpus, _ in self.used_splits)
        return [archive for corpus in corpora for archive in self.archives(corpus)]

    def all_manifests(self) -> list[str]:
        return [
            f"data/manifests/{corpus}_{kind}_{split}.{suffix}"
            for corpus, split in self.used_splits
            for kind, suffix in (("cuts", "jsonl.gz"), ("nemo", "json"), ("audio", "jsonl.gz"))
            if kind == "cuts" or "nemo_shards" not in self.corpora[corpus]
        ]

    def of_each_split(self, pattern: str) -> list[str]:
        """Return a file of every split that is used, in the order of their names."""
        return [pattern.format(corpus=corpus, split=split) for corpus, split in sorted(self.used_splits)]

    def all_text_samples(self) -> list[str]:
        """Return the text samples of every split; shards that are used as they are have no text profile."""
        return [
            f"results/text_samples/{corpus}_{split}.json"
            for corpus, split in sorted(self.used_splits)
            if "nemo_shards" not in self.corpora[corpus]
        ]

    def all_shards(self) -> list[str]:
        entries = [entry for settings in self.experiments.values() for entry in settings["train"]]
        return list(dict.fromkeys(data_files("tarred", entries)))

    # --- corpora ---

    def archives(self, corpus: str) -> list[str]:
        return [f"data/downloads/{corpus}/{name}" for name in self.corpora[corpus].get("archives", {})]

    def archive_urls(self, corpus: str, archive: str) -> list[str]:
        return self._addresses(self.corpora[corpus]["archives"][archive]["url"])

    def archive_checks(self, corpus: str, archive: str) -> list[str]:
        return _checks(self.corpora[corpus]["archives"][archive])

    def archive_identity(self, corpus: str, archive: str) -> str:
        return _identity(self.corpora[corpus]["archives"][archive])

    def corpus_base(self, corpus: str) -> str:
        """Return the folder that the paths of a source start from; "" for the working directory."""
        if "archives" in self.corpora[corpus]:
            return f"data/raw/{corpus}"
        folder: str = self.corpora[corpus].get("folder", "")
        return folder

    def corpus_inputs(self, corpus: str) -> dict[str, str | list[str]]:
        """Return the folder of a corpus and the ledger of what was unpacked there, or its tables and manifests."""
        if "archives" in self.corpora[corpus]:
            return {"folder": f"data/raw/{corpus}", "ledger": f"data/raw/{corpus}.json"}
        if "recipe" in self.corpora[corpus]:
            return {"folder": self.corpora[corpus]["folder"]}
        files = input_files(corpus_source(self.corpora[corpus]), self.corpus_base(corpus))
        return {"files": files} if files else {}

    def corpus_changes(self, corpus: str) -> str:
        """Changes when a file of the corpus does: Snakemake itself looks into no folder."""
        settings, source = self.corpora[corpus], corpus_source(self.corpora[corpus])
        if "archives" in settings:
            return changes(Path(f"data/raw/{corpus}"), Path(f"data/raw/{corpus}.json"))
        if source.kind == "recipe":
            return folder_state(Path(settings["folder"]))
        folders = [Path(self.corpus_base(corpus), path) for path in source_folders(source)]
        # The files of a container count by their time: nobody wants gigabytes to be read for every dry run.
        contents = source.kind == "audio_folder"
        return " ".join(folder_state(folder, contents=contents) for folder in folders if folder.is_dir())

    def audio_losses(self, corpus: str) -> str:
        """Grows by an entry when an audio file of a table or manifest changes; the next import keeps the list."""
        listed = "archives" not in self.corpora[corpus] and corpus_source(self.corpora[corpus]).lists_audio
        return _json(changes_since(Path(f"data/recipes/{corpus}")) if listed else [])

    def source_arguments(self, corpus: str) -> list[str]:
        settings, source = self.corpora[corpus], corpus_source(self.corpora[corpus])
        policy = {key: settings[key] for key in ("sampling_rate", "channels")}
        return [
            f"--source={_json({'kind': source.kind, 'parts': source.parts, 'options': source.options})}",
            *([f"--corpus-dir={base}"] if (base := self.corpus_base(corpus)) else []),
            *([f"--ledger=data/raw/{corpus}.json"] if "archives" in settings else []),
            f"--policy={_json(policy)}",
            # A recipe opens files as it likes: nothing can be left out there, so that nothing has to be read again.
            *(["--exclude"] if settings["on_bad_audio"] == "exclude" and source.kind != "recipe" else []),
        ]

    def selection_arguments(self, corpus: str, split: str) -> list[str]:
        """Say what a split is made of; what is not used is not said, so that it cannot make anything stale."""
        filters = {key: value for key, value in self.corpora[corpus]["filters"].items() if value is not None}
        used = split in filters.pop("splits", [split]) and filters
        return [*self.text_arguments(corpus, split), *([f"--filters={_json(filters)}"] if used else [])]

    def text_arguments(self, corpus: str, split: str) -> list[str]:
        """The same without the filters: what a text profile does is shown for what they drop, too."""
        settings = self.corpora[corpus]
        parts = [f"--part={part}" for part in parts_of(settings, split)]
        options = [f"--language={settings['language']}", f"--text={_json(settings['text'])}"]
        if split not in settings["splits"]:
            shares = {key: value for key, value in settings["split_by"].items() if key != "parts"}
            options.append(f"--split-by={_json(shares)}")
        return [*parts, *options]

    # --- audio ---

    def audio_limits(self) -> str:
        return _json(self.config["doctor"]["audio"])

    def error_limits(self) -> str:
        """Return the limits that make errors: those of warnings leave the data as it is, and must cost no training."""
        limits = self.config["doctor"]["audio"]
        made = {key: limits[key] for key in ("duration_s", "shortest_s")}
        return _json(made | ({"silence": None} if limits["silence"] is None else {}))

    def num_audio_groups(self, corpus: str) -> int:
        """One for every 32 shards, since a core decodes hours of speech in a second; at most 100."""
        return min(100, self.num_shards(corpus) // 32)

    def audio_groups(self, corpus: str, split: str) -> list[str]:
        """Return what the jobs write that share the work; none where a single job is enough."""
        groups = self.num_audio_groups(corpus)
        return [f"data/audio_checks/{corpus}_{split}/{group}.json" for group in range(groups)] if groups > 1 else []

    def quarantine_inputs(self, corpus: str, split: str) -> dict[str, str]:
        """Only where bad audio is excluded does the CutSet wait for the check."""
        excluded = self.corpora[corpus]["on_bad_audio"] == "exclude"
        return {"audio": f"data/manifests/{corpus}_audio_{split}.jsonl.gz"} if excluded else {}

    def quarantine_arguments(self, corpus: str, split: str) -> list[str]:
        rejected = [
            f"--rejected=data/recipes/{corpus}/{part}_rejected.jsonl.gz" for part in self._own_parts(corpus, split)
        ]
        excluded = [f"--audio={path}" for path in self.quarantine_inputs(corpus, split).values()]
        limits = [f"--limits={self.error_limits()}"] if excluded else []
        return [*rejected, *excluded, *limits]

    def _own_parts(self, corpus: str, split: str) -> list[str]:
        """Return the source's parts whose losses this split accounts for: those of shares count in the largest one."""
        settings = self.corpora[corpus]
        if split not in settings["splits"]:
            shares = settings["split_by"]["shares"]
            if split != max(sorted(shares), key=lambda name: shares[name]):
                return []
        return parts_of(settings, split)

    # --- shards ---

    def corpora_from(self, kind: str) -> str:
        """Return a regular expression for the corpora of this kind of source."""
        return any_of(name for name, corpus in self.corpora.items() if kind in corpus)

    def shard_patterns(self, corpus: str, split: str) -> dict[str, str]:
        """Return the patterns of the manifests and tars of shards that are used as they are."""
        settings = self.corpora[corpus]
        part = corpus_source(settings).parts[settings["splits"][split]]
        return shard_patterns(part, self.corpus_base(corpus))

    def shard_manifests(self, corpus: str, split: str) -> list[str]:
        return expand_shards(self.shard_patterns(corpus, split)["manifests"])

    def shard_arguments(self, corpus: str, split: str) -> list[str]:
        return [f"--{key}={pattern}" for key, pattern in self.shard_patterns(corpus, split).items()]

    def shard_losses(self, corpus: str, split: str) -> str:
        """Grows by an entry when a tar is gone or of another size; see ``repairs``."""
        return _json(repairs(Path(f"data/shards/{corpus}_{split}/ledger.json")))

    def num_shards(self, corpus: str) -> int:
        count: int = self.corpora[corpus]["num_shards"]
        return count

    def shards_per_job(self, corpus: str) -> int:
        """4 shards, or more where that would make over 100 jobs."""
        return max(4, -(-self.num_shards(corpus) // 100))

    def group_ledgers(self, corpus: str, split: str) -> list[str]:
        groups = num_groups(self.num_shards(corpus), self.shards_per_job(corpus))
        return [f"data/shards/{corpus}_{split}/ledger/{group}.json" for group in range(groups)]

    def repairs(self, corpus: str, split: str, group: str) -> str:
        """Grows by an entry when a shard of the group is gone: a changed param, so that the group is written again."""
        return _json(repairs(Path(f"data/shards/{corpus}_{split}/ledger/{group}.json")))

    # --- models ---

    def model_urls(self, model: str) -> list[str]:
        return self._addresses(self.models[model]["url"])

    def model_checks(self, model: str) -> list[str]:
        return _checks(self.models[model])

    def model_identity(self, model: str) -> str:
        return _identity(self.models[model])

    def pretrained_name(self, model: str) -> str:
        name: str = self.models[model]["pretrained"]
        return name

    def tokenizer_cuts(self, model: str) -> list[str]:
        return data_files("cutset", self.models[model]["from_scratch"]["tokenizer"]["train"])

    def architecture(self, model: str) -> str:
        return _json(self.models[model]["from_scratch"])

    # --- experiments ---

    @cached_property
    def threads(self) -> int:
        """Threads of a job that runs a model, at most 8: so many that the jobs side by side share the cores.

        As many run at once as there are GPUs here, or up to four on the CPU, where two trainings of one thread each
        are faster than one after the other with two.
        """
        if self.allotted is not None or not self.cores:
            return self.allotted or 8
        jobs = visible_gpus() or min(4, len(self.experiments))
        return min(8, max(1, self.cores // jobs))

    def devices(self, experiment: str) -> int:
        """GPUs that a training takes."""
        count: int = self.experiments[experiment]["trainer"]["devices"]
        return count

    def training_threads(self, experiment: str) -> int:
        """Threads of a training, for all of its devices together."""
        return min(self.cores or 10**6, self.allotted or self.threads * self.devices(experiment))

    def base_model(self, experiment: str) -> str:
        return f"data/models/{self.experiments[experiment]['model']}.nemo"

    def training_cuts(self, experiment: str) -> list[str]:
        return data_files("cutset", self.experiments[experiment]["train"])

    def training_durations(self, experiment: str) -> list[str]:
        return [
            "data/manifests/{corpus}_durations_{split}.npz".format(**e) for e in self.experiments[experiment]["train"]
        ]

    def training_data(self, experiment: str) -> list[str]:
        settings = self.experiments[experiment]
        return data_files(settings["layout"], settings["train"])

    def validation_data(self, experiment: str) -> list[str]:
        settings = self.experiments[experiment]
        return data_files(VALIDATION_LAYOUT[settings["layout"]], settings["validation"])

    def bin_arguments(self, experiment: str) -> list[str]:
        """Only what changes the bins, so that another batch size does not estimate them again."""
        settings = self.experiments[experiment]
        keys = ("num_buckets", "min_duration", "max_duration", "perturb_speed")
        options = [f"--{key.replace('_', '-')}={json.dumps(settings['train_ds'][key])}" for key in keys]
        weights = json.dumps([entry.get("weight") for entry in settings["train"]])
        names = [f"{entry['corpus']}/{entry['split']}" for entry in settings["train"]]
        return [*options, f"--weights={weights}", "--names", *names]

    def overrides(self, experiment: str) -> list[str]:
        settings = self.experiments[experiment]
        shards = {name: corpus["num_shards"] for name, corpus in self.corpora.items()}
        patterns = {
            (entry["corpus"], entry["split"]): self.shard_patterns(entry["corpus"], entry["split"])
            for entry in settings["train"]
            if "nemo_shards" in self.corpora[entry["corpus"]]
        }
        return finetune_overrides(settings, shards, patterns)

    def checkpoint_arguments(self, experiment: str) -> list[str]:
        settings = self.experiments[experiment]["checkpoint"]
        return [f"--{key.replace('_', '-')}={value}" for key, value in settings.items() if value is not None]

    # --- the doctor ---

    def doctor_reports(self) -> list[str]:
        return [f"results/doctor/{name}.json" for name in sorted(self.experiments)]

    def is_trained(self, experiment: str) -> bool:
        """Tell whether the results of a fine-tune are there, made with the options that it has now."""
        folder = Path(f"results/{experiment}")
        files = [f"checkpoints/{name}" for name in (f"{experiment}.nemo", "best.ckpt", "last.ckpt")]
        if not all((folder / file).exists() for file in (*files, "config.yaml", "train.json")):
            return False
        try:
            account = msgspec.json.decode((folder / "train.json").read_bytes(), type=_Account)
        except msgspec.DecodeError:
            return False
        return account.options == self.overrides(experiment)

    def examined_splits(self, experiment: str) -> list[str]:
        """Every split that an experiment uses, once, as ``corpus/split``."""
        settings = self.experiments[experiment]
        entries = settings["train"] + settings["validation"] + settings["test"]
        return list(dict.fromkeys(f"{entry['corpus']}/{entry['split']}" for entry in entries))

    def examined_files(self, experiment: str) -> dict[str, list[str]]:
        names = [name.split("/") for name in self.examined_splits(experiment)]
        files = {
            key: [f"data/manifests/{corpus}_{kind}_{split}.{suffix}" for corpus, split in names]
            for key, kind, suffix in (
                ("cuts", "cuts", "jsonl.gz"),
                ("ledgers", "ledger", "json"),
                ("audio", "audio", "jsonl.gz"),
            )
        }
        # Shards that are there already are used as they are.
        files["audio"] = [
            path
            for path, (name, _) in zip(files["audio"], names, strict=True)
            if "nemo_shards" not in self.corpora[name]
        ]
        tarred = self.experiments[experiment]["layout"] == "tarred"
        return files | {"shards": self.training_data(experiment) if tarred else []}

    def examined_settings(self, experiment: str) -> str:
        """Return what the doctor compares with the data, JSON; see ``examination.examine``."""
        settings = self.experiments[experiment]
        scratch = self.models[settings["model"]].get("from_scratch")
        corpora = {name.partition("/")[0] for name in self.examined_splits(experiment)}
        keys = ("model", "train", "validation", "test", "train_ds")
        trainer = ("max_steps", "val_check_interval", "accumulate_grad_batches", "precision")
        # Those of others are none of its business: accepting a finding examines nobody else anew.
        subjects = ("", experiment, *self.examined_splits(experiment))
        accepted = [entry for entry in self.config["doctor"]["accept"] if parse_acceptance(entry)[1] in subjects]
        return _json(
            {key: settings[key] for key in keys}
            | {
                "experiment": experiment,
                "trainer": {key: settings["trainer"][key] for key in trainer},
                "warmup_steps": settings["optim"]["sched"]["warmup_steps"],
                "corpora": {
                    name: {key: self.corpora[name][key] for key in ("language", "text", "filters")} for name in corpora
                },
                "from_scratch": scratch is not None,
                "tokenizer_text": scratch["tokenizer"]["text"] if scratch else [],
                "doctor": self.config["doctor"] | {"accept": sorted(accepted)},
            }
        )

    # --- evaluation: a recogniser is an experiment, or a base model before any fine-tune ---
    # Sorted: overlays change the order of experiments, and an order that is part of a param would rerun the rule.

    @cached_property
    def recognisers(self) -> dict[str, list[str]]:
        """The experiments that each recogniser stands for: itself, or those that start from the base model."""
        bases: dict[str, list[str]] = {}
        for name, settings in sorted(self.experiments.items()):
            bases.setdefault(settings["model"], []).append(name)
        return bases | {name: [name] for name in sorted(self.experiments)}

    def _evaluation_entries(self, recogniser: str) -> list[dict[str, str]]:
        """The splits that a recogniser is judged by: every validation and test split of its experiments, once."""
        entries = []
        for name in self.recognisers[recogniser]:
            entries += self.experiments[name]["validation"] + self.experiments[name]["test"]
        pairs = {(entry["corpus"], entry["split"]) for entry in entries}
        return [{"corpus": corpus, "split": split} for corpus, split in sorted(pairs)]

    def recogniser_model(self, recogniser: str) -> str:
        if recogniser in self.experiments:
            return f"results/{recogniser}/checkpoints/{recogniser}.nemo"
        return f"data/models/{recogniser}.nemo"

    def decoding_inputs(self) -> list[str]:
        """Return the files that the decoding options name: another language model is a reason to rerun."""
        return [str(path) for path in decoding_files(self.decoding).values()]

    def decoding_options(self) -> str:
        return _json(self.decoding)

    def evaluation_cuts(self, recogniser: str) -> list[str]:
        return data_files("cutset", self._evaluation_entries(recogniser))

    def evaluation_names(self, recogniser: str) -> list[str]:
        return ["{corpus}_{split}".format(**entry) for entry in self._evaluation_entries(recogniser)]

    def normalizer(self, corpus: str) -> str:
        name: str = self.corpora[corpus]["normalizer"]
        return name

    def all_scores(self) -> list[str]:
        return [
            f"results/scores/{recogniser}/{name}.json"
            for recogniser in self.recognisers
            for name in self.evaluation_names(recogniser)
        ]

    # --- model cards ---

    def training_ledgers(self, experiment: str) -> list[str]:
        return [
            "data/manifests/{corpus}_ledger_{split}.json".format(**e) for e in self.experiments[experiment]["train"]
        ]

    def experiment_scores(self, experiment: str) -> list[str]:
        return [f"results/scores/{experiment}/{name}.json" for name in self.evaluation_names(experiment)]

    def base_scores(self, experiment: str) -> list[str]:
        base = self.experiments[experiment]["model"]
        return [f"results/scores/{base}/{name}.json" for name in self.evaluation_names(experiment)]

    def card_facts(self, experiment: str) -> str:
        """Return what a model card says of the configuration, JSON: only that, so that nothing else rewrites a card."""
        settings = self.experiments[experiment]
        name, model = settings["model"], self.models[settings["model"]]
        splits = settings["train"] + self._evaluation_entries(experiment)
        facts = {
            "experiment": experiment,
            "license": settings["license"],
            "base": {"name": name, "source": model_source(model), "pretrained": model.get("pretrained", "")},
            "languages": {entry["corpus"]: self.corpora[entry["corpus"]]["language"] for entry in splits},
            "text": {entry["corpus"]: self.corpora[entry["corpus"]]["text"] for entry in settings["train"]},
            "validation": settings["validation"],
            "layout": settings["layout"],
            "batch_duration": settings["train_ds"]["batch_duration"],
            "optim": settings["optim"],
            "precision": settings["trainer"]["precision"],
            "decoding": self.decoding,
        }
        return _json(facts)

    # --- audio of one's own ---

    def audio_source(self) -> str:
        """Return the audio to transcribe.

        Raises:
            UserError: the configuration names none.
        """
        if self.audio is None:
            raise UserError("transcripts need the key `audio` of the configuration: add --config audio=path/to/audio")
        return self.audio

    def audio_changes(self) -> str:
        """Changes when a file below the audio folder does; a file by itself is an input that Snakemake looks at."""
        return folder_state(Path(self.audio)) if self.audio and Path(self.audio).is_dir() else ""

    def comparison_arguments(self) -> list[str]:
        """Return which base each experiment started from, and which experiments differ in their layout only."""
        bases = [f"{name}={settings['model']}" for name, settings in sorted(self.experiments.items())]
        alike: dict[str, list[str]] = {}
        for name, settings in sorted(self.experiments.items()):
            same = {key: value for key, value in settings.items() if key not in _NOT_DATA}
            same["trainer"] = settings["trainer"] | {"limit_train_batches": None}
            alike.setdefault(_json(same), []).append(name)
        groups = [",".join(names) for names in alike.values() if len(names) > 1]
        return ["--base", *bases, *(["--same-data", *groups] if groups else [])]

    # --- the page of results ---

    def of_each_experiment(self, file: str) -> list[str]:
        """Return the file of this name of every experiment."""
        return [f"results/{name}/{file}" for name in sorted(self.experiments)]

    def ledgers(self) -> list[str]:
        return self.of_each_split("data/manifests/{corpus}_ledger_{split}.json")

    def page_settings(self) -> str:
        return _json(page_settings(self.config, self.experiments, {corpus for corpus, _ in self.used_splits}))


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


class _Account(msgspec.Struct):
    """Of train.json, which may be long, only what is asked for."""

    options: list[str]


# Settings in which experiments may differ that are compared for their layout.
_NOT_DATA = ("layout", "validation", "test", "license", "checkpoint")


def visible_gpus() -> int:
    """Return how many NVIDIA GPUs a job on this machine may use, without importing torch."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([name for name in chosen.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _checks(source: Mapping[str, Any]) -> list[str]:
    return [f"--{key}={source[key]}" for key in ("sha256", "bytes") if key in source]


def _identity(source: Mapping[str, Any]) -> str:
    """What makes a file another one: its checksum, or its address if none is pinned."""
    return source.get("sha256") or _json(source["url"])


def _json(value: Any) -> str:
    """The same text for the same value: it is a param, and a change of it reruns a rule."""
    return json.dumps(value, sort_keys=True)
