"""The options of a fine-tune as NeMo's own command lines take them: ``model.train_ds.batch_duration=300``.

They are the plan of an experiment: computed when the workflow is parsed, shown in the log, compared with those of the
last run to decide whether a model is up to date. A new layout is one entry in ``DATA_FILES`` and one in ``_source``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What an experiment reads of each corpus and split, by layout. A ledger stands for the shards that it lists.
DATA_FILES = {
    "cutset": "data/manifests/{corpus}_cuts_{split}.jsonl.gz",
    "nemo_json": "data/manifests/{corpus}_nemo_{split}.json",
    "tarred": "data/shards/{corpus}_{split}/ledger.json",
}
# What a cut of a mix tells about the corpus that it came from; a tag in the words of NeMo's `input_cfg`.
SOURCE_TAG = "source"
# How NeMo's loaders name data, and what a training sets as soon as it has seen its data, model and GPU.
DATA_OPTIONS = ("input_cfg", "manifest_filepath", "tarred_audio_filepaths", "cuts_path", "shar_path")
FROM_DATA = ("bucket_duration_bins", "pin_memory", "sample_rate")
# Text that YAML reads as text without quotes.
PLAIN = re.compile(r"(?!(?:null|true|false|yes|no|on|off)$)[A-Za-z_/][\w./-]*", re.IGNORECASE)
# Shards cannot be validated on: the loader repeats them without end.
VALIDATION_LAYOUT = {"cutset": "cutset", "nemo_json": "nemo_json", "tarred": "nemo_json"}


def data_files(layout: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the file that stands for each corpus and split in ``entries`` in that layout."""
    return [DATA_FILES[layout].format(**entry) for entry in entries]


# Manifests and tars of shards that a user has already, by corpus and split, as NeMo's options name them.
Patterns = Mapping[tuple[str, str], Mapping[str, str]]


def finetune_overrides(
    settings: Mapping[str, Any], num_shards: Mapping[str, int], patterns: Patterns | None = None
) -> list[str]:
    """Return ``key=value`` for every option of one fine-tune, in the order of NeMo's configuration files.

    Args:
        settings: one experiment, see ``config.resolve_experiment``.
        num_shards: tar shards of each corpus.
        patterns: of shards that are used as they are.
    """
    train = _train_data(settings["layout"], settings["train"], num_shards, patterns or {})
    validation = _validation_data(VALIDATION_LAYOUT[settings["layout"]], settings["validation"])
    return list(_flatten(_options(settings, train, validation))) + list(settings["overrides"])


def own_options(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of all options that come from the keys of an experiment, or that only its data tells."""
    of_data = dict.fromkeys([*DATA_OPTIONS, *FROM_DATA])
    return [line.split("=", 1)[0] for line in _flatten(_options(settings, of_data, of_data | {"name": None}))]


def _options(settings: Mapping[str, Any], train: Mapping[str, Any], validation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as a tree: ``train`` and ``validation`` are those that name the data."""
    train_ds, trainer, optim = settings["train_ds"], settings["trainer"], settings["optim"]
    in_workers = settings["layout"] == "tarred" and train_ds["num_workers"] > 0
    if settings["layout"] != "tarred":
        # Each epoch of data that ends begins at its first utterance: a shorter one would never come to the others.
        trainer = trainer | {"limit_train_batches": None}
    elif trainer["limit_train_batches"] is None:
        # Shards are repeated without end, and NeMo wants a length of such a stream: one epoch that is the whole run.
        batches = trainer["max_steps"] * trainer["accumulate_grad_batches"]
        trainer = trainer | {"limit_train_batches": batches}
    tree = {
        "seed": settings["seed"],
        "model": {
            "train_ds": {
                "use_lhotse": True,
                **train,
                **{key: value for key, value in train_ds.items() if key != "num_buckets"},
                "use_bucketing": train_ds["num_buckets"] > 1,
                "shuffle": True,
                "seed": settings["seed"],
                # The default "trng" gives another order each time. Workers that read shards need "randomized": a number
                # gives all of them the same batches. Elsewhere that word means Python's random state at that moment,
                # which a resumed run does not share.
                "shard_seed": "randomized" if in_workers else settings["seed"],
                # The producer thread makes runs differ and can keep the process from ending.
                "concurrent_bucketing": False,
            },
            "validation_ds": {
                "use_lhotse": True,
                **validation,
                **settings["validation_ds"],
                "batch_duration": settings["validation_ds"]["batch_duration"] or train_ds["batch_duration"],
                "shuffle": False,
                "seed": settings["seed"],
                "shard_seed": settings["seed"],
            },
            "optim": optim | {"sched": optim["sched"] | {"max_steps": trainer["max_steps"]}},
        },
        "trainer": {
            **trainer,
            "strategy": "ddp" if trainer["num_nodes"] * trainer["devices"] > 1 else "auto",
            # Steps end the run, and validations are counted over all of it: an epoch may be shorter than the interval.
            "max_epochs": -1,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # Lhotse's samplers do their own
            "accelerator": "auto",
        },
    }
    if settings["spec_augment"] is not None:
        tree["model"]["spec_augment"] = settings["spec_augment"]
    return tree


def _train_data(
    layout: str, entries: Sequence[Mapping[str, Any]], num_shards: Mapping[str, int], patterns: Patterns
) -> dict[str, Any]:
    sources = [_source(layout, entry, num_shards, patterns) for entry in entries]
    if len(sources) == 1:
        return {key: value for key, value in sources[0].items() if key != "type"}
    tagged = [
        source
        | ({"weight": entry["weight"]} if "weight" in entry else {})
        | {"tags": {SOURCE_TAG: "{corpus}/{split}".format(**entry)}}
        for source, entry in zip(sources, entries, strict=True)
    ]
    return {"input_cfg": tagged}


def _source(layout: str, entry: Mapping[str, Any], num_shards: Mapping[str, int], patterns: Patterns) -> dict[str, Any]:
    path = DATA_FILES[layout].format(**entry)
    if layout == "cutset":
        return {"type": "lhotse", "cuts_path": path}
    if layout == "nemo_json":
        return {"type": "nemo", "manifest_filepath": path}
    if own := patterns.get((entry["corpus"], entry["split"])):
        return {
            "type": "nemo_tarred",
            "manifest_filepath": own["manifests"],
            "tarred_audio_filepaths": own["tars"],
        }
    folder, last = path.removesuffix("/ledger.json"), num_shards[entry["corpus"]] - 1
    return {
        "type": "nemo_tarred",
        "manifest_filepath": f"{folder}/sharded_manifests/manifest__OP_0..{last}_CL_.json",
        "tarred_audio_filepaths": f"{folder}/audio__OP_0..{last}_CL_.tar",
    }


def _validation_data(layout: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    paths, names = data_files(layout, entries), [f"{entry['corpus']}_{entry['split']}" for entry in entries]
    key = "cuts_path" if layout == "cutset" else "manifest_filepath"
    if len(paths) == 1:
        return {key: paths[0], "name": names[0]}
    return {key: paths, "name": names}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += _flatten(value, f"{prefix}{key}.")
        else:
            # JSON is YAML, which is what OmegaConf and Hydra read; plain words and paths need no quotes.
            plain = isinstance(value, str) and PLAIN.fullmatch(value)
            lines.append(f"{prefix}{key}={value if plain else json.dumps(value)}")
    return lines
