"""What the rules of trainings ask: base models, the options of experiments, and what the doctor examines."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import msgspec

from nuptse.finding_codes import parse_acceptance
from nuptse.overrides import VALIDATION_LAYOUT, data_files, finetune_overrides
from nuptse.plan_base import as_json, checks, identity
from nuptse.plan_corpora import CorpusPlan
from nuptse.ranks import visible_gpus
from nuptse.settings import model_source, own_tokenizer


class TrainingPlan(CorpusPlan):
    """The part of a plan that is about models and experiments."""

    # --- models ---

    def model_urls(self, model: str) -> list[str]:
        return self.addresses(self.models[model]["url"])

    def file_addresses(self) -> dict[str, list[str]]:
        """Return the mirrors of every file that can be downloaded, by its path."""
        archives = [
            (corpus, archive) for corpus in self.corpora for archive in self.corpora[corpus].get("archives", {})
        ]
        models = [model for model, settings in self.models.items() if "url" in settings]
        return {
            f"data/downloads/{corpus}/{archive}": self.archive_urls(corpus, archive) for corpus, archive in archives
        } | {f"data/models/{model}.nemo": self.model_urls(model) for model in models}

    def model_checks(self, model: str) -> list[str]:
        return checks(self.models[model])

    def model_identity(self, model: str) -> str:
        return identity(self.models[model])

    def pretrained_name(self, model: str) -> str:
        name: str = self.models[model]["pretrained"]
        return name

    def tokenizer_cuts(self, model: str) -> list[str]:
        tokenizer = own_tokenizer(self.models[model])
        return data_files("cutset", tokenizer["train"]) if tokenizer else []

    def architecture(self, model: str) -> str:
        return as_json(self.models[model]["from_scratch"])

    def adapted_model(self, model: str) -> str:
        """Return the model that another one is made of."""
        return f"data/models/{self.models[model]['from_model']['model']}.nemo"

    def adaptation(self, model: str) -> str:
        """Return what makes it another one, JSON."""
        settings = self.models[model]["from_model"]
        return as_json({key: settings[key] for key in ("tokenizer", "seed")})

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

    def node_memory(self, experiment: str, device_mb: int, attempt: int) -> int:
        """Return what a node must have (MB) if a device needs so much at first; each attempt gets half of that more.

        All of it again would soon be more than a node has, and an attempt may have failed for want of time alone.
        """
        return device_mb * (attempt + 1) // 2 * self.devices(experiment)

    def devices(self, experiment: str) -> int:
        """GPUs that a training takes, of each of its nodes."""
        count: int = self.experiments[experiment]["trainer"]["devices"]
        return count

    def nodes(self, experiment: str) -> int:
        """Nodes that a training takes."""
        count: int = self.experiments[experiment]["trainer"]["num_nodes"]
        return count

    def gpus(self, experiment: str) -> int:
        """GPUs that a training takes, of all of its nodes."""
        return self.nodes(experiment) * self.devices(experiment)

    def node_resources(self, experiment: str) -> dict[str, int | str]:
        """What Snakemake's SLURM executor must know of where a training runs: all GPUs on one node, or as many on each.

        On several nodes there is one task on each, and ``mpi`` says that the command starts them itself. Without
        ``tasks_per_gpu`` the executor would ask for as many tasks for each GPU.
        """
        nodes, gpus = self.nodes(experiment), f"gpu:{self.devices(experiment)}"
        if nodes == 1:
            return {"nodes": 1}  # or SLURM may take one GPU here and one there
        return {"nodes": nodes, "tasks": nodes, "tasks_per_gpu": 0, "gres": gpus, "mpi": "srun"}

    def training_threads(self, experiment: str) -> int:
        """Threads of a training on one node, for all of its devices there."""
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
        model = self.models[settings["model"]]
        tokenizer = own_tokenizer(model)
        corpora = {name.partition("/")[0] for name in self.examined_splits(experiment)}
        keys = ("model", "train", "validation", "test", "train_ds")
        trainer = ("max_steps", "val_check_interval", "accumulate_grad_batches", "precision")
        # Those of others are none of its business: accepting a finding examines nobody else anew.
        subjects = ("", experiment, *self.examined_splits(experiment))
        accepted = [entry for entry in self.config["doctor"]["accept"] if parse_acceptance(entry)[1] in subjects]
        return as_json(
            {key: settings[key] for key in keys}
            | {
                "experiment": experiment,
                "trainer": {key: settings["trainer"][key] for key in trainer},
                "warmup_steps": settings["optim"]["sched"]["warmup_steps"],
                "corpora": {
                    name: {key: self.corpora[name][key] for key in ("language", "text", "filters")} for name in corpora
                },
                "tokenizer_of": f"models.{settings['model']}.{model_source(model)}.tokenizer" if tokenizer else None,
                "tokenizer_text": tokenizer["text"] if tokenizer else [],
                "doctor": self.config["doctor"] | {"accept": sorted(accepted)},
            }
        )


class _Account(msgspec.Struct):
    """Of train.json, which may be long, only what is asked for."""

    options: list[str]
