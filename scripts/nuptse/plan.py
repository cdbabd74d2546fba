"""What the rules ask the configuration: the files that a rule needs, and the options that it gets.

Every method takes wildcards by name, so that rules use them as input and param functions, and answers without running
anything: only what Snakemake cannot see by itself is looked at, the files of corpora and the shards of ledgers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nuptse.decoding import decoding_files
from nuptse.errors import UserError
from nuptse.folder_state import OWN_AUDIO_SUFFIXES, folder_state
from nuptse.overrides import data_files
from nuptse.page_settings import page_settings
from nuptse.plan_base import as_json
from nuptse.plan_trainings import TrainingPlan
from nuptse.settings import made_of, model_source
from nuptse.source_settings import corpus_source


class Plan(TrainingPlan):
    """A checked configuration, seen from the rules; made as ``PlanBase`` says. Here stands what is about results."""

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
        return as_json(self.decoding)

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

    def comparison_arguments(self) -> list[str]:
        """Return which base each experiment started from, and which experiments differ in their layout only."""
        bases = [f"{name}={settings['model']}" for name, settings in sorted(self.experiments.items())]
        alike: dict[str, list[str]] = {}
        for name, settings in sorted(self.experiments.items()):
            same = {key: value for key, value in settings.items() if key not in _NOT_DATA}
            same["trainer"] = settings["trainer"] | {"limit_train_batches": None}
            alike.setdefault(as_json(same), []).append(name)
        groups = [",".join(names) for names in alike.values() if len(names) > 1]
        return ["--base", *bases, *(["--same-data", *groups] if groups else [])]

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
        name = settings["model"]
        origin = self.models[made_of(name, self.models)[0]]
        splits = settings["train"] + self._evaluation_entries(experiment)
        facts = {
            "experiment": experiment,
            "license": settings["license"],
            "base": {
                "name": name,
                "source": model_source(origin),
                "pretrained": origin.get("pretrained", ""),
                "adapted": "from_model" in self.models[name],
            },
            "languages": {entry["corpus"]: self.corpora[entry["corpus"]]["language"] for entry in splits},
            "text": {entry["corpus"]: self.corpora[entry["corpus"]]["text"] for entry in settings["train"]},
            "datasets": sorted(set(filter(None, (_on_the_hub(self.corpora[e["corpus"]]) for e in settings["train"])))),
            "validation": settings["validation"],
            "layout": settings["layout"],
            "batch_duration": settings["train_ds"]["batch_duration"],
            "optim": settings["optim"],
            "precision": settings["trainer"]["precision"],
            "decoding": self.decoding,
        }
        return as_json(facts)

    # --- the whole way ---

    def files_on_the_way(self) -> list[str]:
        """Return a file of every job that leads to the results of the experiments, in the order of the work."""
        files = []
        for corpus, split in self.used_splits:
            if "archives" in self.corpora[corpus]:
                files += [*self.archives(corpus), f"data/raw/{corpus}.json"]
            if "nemo_shards" not in self.corpora[corpus]:
                name = f"data/manifests/{corpus}_{{}}_{split}"
                files += [f"data/recipes/{corpus}", f"{name.format('selection')}.json"]
                files += [f"{name.format(kind)}.jsonl.gz" for kind in ("audio", "cuts")]
        files += [f"data/models/{model}.nemo" for model in self.used_models]
        for name, settings in self.experiments.items():
            if settings["layout"] == "tarred":
                files += self._files_of_shards(settings["train"])
            files += [*self.training_data(name), *self.validation_data(name), *self.training_durations(name)]
            files.append(f"results/{name}/duration_bins.json")
        files += [*self.doctor_reports(), *(f"results/transcripts/{name}" for name in self.recognisers)]
        return list(dict.fromkeys([*files, *self.all_scores()]))

    def _files_of_shards(self, entries: list[dict[str, str]]) -> list[str]:
        files = []
        for corpus, split in ((entry["corpus"], entry["split"]) for entry in entries):
            if "nemo_shards" not in self.corpora[corpus]:
                plan = f"data/shards/{corpus}_{split}/plan.bin"
                files += [f"data/manifests/{corpus}_nemo_{split}.json", plan, *self.group_ledgers(corpus, split)]
        return files

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
        if not self.audio or not Path(self.audio).is_dir():
            return ""
        return folder_state(Path(self.audio), audio=OWN_AUDIO_SUFFIXES)

    # --- the page of results ---

    def ledgers(self) -> list[str]:
        return self.of_each_split("data/manifests/{corpus}_ledger_{split}.json")

    def page_settings(self) -> str:
        corpora = {corpus for corpus, _ in self.used_splits}
        in_groups = any(self.audio_groups(*split) for split in self.used_splits)
        return as_json(page_settings(self.config, self.experiments, corpora, in_groups))


def _on_the_hub(corpus: Mapping[str, Any]) -> str | None:
    """Return the name on the Hub of the dataset that a corpus is; None of one that is none, or lies on a disk."""
    source = corpus_source(corpus)
    if source.kind != "huggingface" or "archives" in corpus:
        return None
    name: str = source.parts["all"]
    on_disk = Path(corpus.get("folder", ""), name).exists()
    return name if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) and not on_disk else None


# Settings in which experiments may differ that are compared for their layout.
_NOT_DATA = ("layout", "validation", "test", "license", "checkpoint")
