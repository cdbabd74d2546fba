"""Mistakes of a configuration that only its meaning shows, one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nuptse.filters import filter_mistakes
from nuptse.finding_codes import CODES, parse_acceptance
from nuptse.installed import package_folder
from nuptse.override_mistakes import override_mistakes
from nuptse.schema_mistakes import join_key, suggestion
from nuptse.settings import Config, resolve_experiment, resolve_urls
from nuptse.source_settings import corpus_source, source_paths
from nuptse.splits import split_mistakes, split_names
from nuptse.text import profile_mistakes

# What lies below results/ beside the folders of the experiments.
RESULT_FOLDERS = ("doctor", "figures", "scores", "text_samples", "transcripts")


def meaning_mistakes(config: Config, schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each mistake of a configuration that keeps to its schema and has its defaults."""
    yield from _pipe_mistakes(config)
    yield from _corpus_mistakes(config)
    for name, model in config["models"].items():
        yield from _model_mistakes(f"models.{name}", model, config)
    for name in config["experiments"]:
        settings = resolve_experiment(config, name, schema)
        yield from _experiment_mistakes(name, settings, config)
    yield from _acceptance_mistakes(config)


def _acceptance_mistakes(config: Config) -> Iterator[str]:
    splits = [f"{name}/{split}" for name, corpus in config["corpora"].items() for split in split_names(corpus)]
    subjects = [*splits, *config["experiments"]]
    for index, entry in enumerate(config["doctor"]["accept"]):
        (code, subject), place = parse_acceptance(entry), f"doctor.accept[{index}]"
        if code not in CODES:
            yield f"`{place}` names the finding {code!r}, which does not exist{suggestion(code, list(CODES))}"
        if subject and subject not in subjects:
            yield (
                f"`{place}` is about {subject!r}, which is neither a corpus/split nor an experiment"
                f"{suggestion(subject, subjects)}"
            )


def _pipe_mistakes(node: Any, key: str = "") -> Iterator[str]:
    """NeMo runs a path that starts with ``pipe:`` as a shell command."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _pipe_mistakes(value, join_key(key, name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _pipe_mistakes(value, f"{key}[{index}]")
    elif isinstance(node, str) and "pipe:" in node:
        yield f"`{key}` holds `pipe:`, which NeMo would run as a shell command: name a file instead"


def _corpus_mistakes(config: Config) -> Iterator[str]:
    mirrors, recipes = config["mirrors"], known_recipes()
    owners: dict[str, str] = {}
    for name, corpus in config["corpora"].items():
        key = f"corpora.{name}"
        if recipes and corpus.get("recipe", recipes[0]) not in recipes:
            yield f"`{key}.recipe`: Lhotse has no recipe {corpus['recipe']!r}{suggestion(corpus['recipe'], recipes)}"
        if Path(corpus["recipe_root"]).is_absolute() or ".." in Path(corpus["recipe_root"]).parts:
            yield f"`{key}.recipe_root` is {corpus['recipe_root']!r}: it must lie inside the corpus folder"
        yield from _source_mistakes(key, corpus)
        for archive, source in corpus.get("archives", {}).items():
            yield from _url_mistakes(f"{key}.archives.{archive}.url", source["url"], mirrors)
        if corpus["normalizer"] == "whisper_english" and not corpus["language"].lower().startswith("en"):
            yield f"`{key}.normalizer` is whisper_english, but its language is {corpus['language']}: take `lower`"
        yield from split_mistakes(key, corpus)
        yield from profile_mistakes(key, corpus["text"], corpus["language"])
        yield from filter_mistakes(key, corpus, split_names(corpus))
        for split in split_names(corpus):
            label = f"{name}_{split}"
            if label in owners:
                yield f"`{key}.splits.{split}` and `{owners[label]}` would share the files of {label}: rename one"
            owners[label] = f"{key}.splits.{split}"


def _source_mistakes(key: str, corpus: Config) -> Iterator[str]:
    source = corpus_source(corpus)
    if "archives" in corpus and "folder" in corpus:
        yield f"`{key}` has `archives` and `folder`: give one of them, in which `{source.kind}` lies"
    if source.kind != "recipe":
        for own in ("recipe_root", "recipe_options"):
            if corpus[own] not in (".", {}):
                yield f"`{key}.{own}` belongs to a `recipe`, and this corpus has a `{source.kind}`: remove it"
    for path in source_paths(source):
        if "archives" in corpus and (Path(path).is_absolute() or ".." in Path(path).parts):
            yield f"`{key}.{source.kind}` is {path!r}: it must lie inside the unpacked archives"
    columns = source.options.get("columns", {})
    if source.kind == "table" and source.parts.keys() != {"all"} and columns.get("split") is not None:
        yield f"`{key}.table` has a file for each part and a column `split`: give one of the two"
    for split, part in corpus["splits"].items():
        if not source.knows_its_parts and part not in source.parts:
            yield (
                f"`{key}.splits.{split}` is {part!r}, which `{key}.{source.kind}` lacks"
                f"{suggestion(part, list(source.parts))}"
            )
    if corpus["channels"] == "split" and source.kind != "nemo_shards" and not source.names_channels:
        yield (
            f"`{key}.channels` is split, but `{source.kind}` cannot say on which channel somebody speaks: take mix or"
            " the number of one, or list the utterances in a `table` with a column `channel`"
        )
    if source.kind == "nemo_shards":
        yield from _shard_corpus_mistakes(key, corpus)


def _shard_corpus_mistakes(key: str, corpus: Config) -> Iterator[str]:
    if corpus["text"]:
        yield (
            f"`{key}.text` is {corpus['text']}, but the transcripts of `nemo_shards` are used as they are: set it to"
            " [], or import the audio by another source"
        )
    if corpus["split_by"] is not None:
        yield f"`{key}.split_by` cannot divide `nemo_shards`, which are used as they are: remove it"
    if any(value is not None for value in corpus["filters"].values()):
        yield f"`{key}.filters` cannot leave anything out of `nemo_shards`, which are used as they are: remove them"
    if corpus["on_bad_audio"] == "exclude":
        yield f"`{key}.on_bad_audio` cannot leave anything out of `nemo_shards`, which are used as they are: remove it"
    for own in ("sampling_rate", "channels"):
        if corpus[own] is not None:
            yield f"`{key}.{own}` is {corpus[own]}, but the audio of `nemo_shards` is used as it is: remove it"
    if "archives" in corpus:
        yield f"`{key}` has `archives`, but `nemo_shards` must be there already: unpack them, and name their `folder`"


def known_recipes() -> list[str]:
    """Return the recipes of the installed Lhotse that have a prepare function; empty where it is not installed.

    They are read from the source text, see ``installed``.
    """
    if not (folder := package_folder("lhotse")):
        return []
    return sorted({name for path in folder.glob("recipes/*.py") for name in _PREPARE.findall(path.read_text("utf-8"))})


_PREPARE = re.compile(r"^def prepare_([a-z0-9_]+)\(", re.MULTILINE)


def _url_mistakes(key: str, url: str | list[str], mirrors: Mapping[str, list[str]]) -> Iterator[str]:
    for address in resolve_urls(url, mirrors):
        # `pipe` has its own sentence.
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", address)
        if scheme and scheme[1].lower() not in ("http", "https", "file", "pipe"):
            yield (
                f"`{key}` begins with `{scheme[1]}:`, which is neither http(s):// nor file:// nor a name under"
                f" `mirrors`{suggestion(scheme[1], list(mirrors))}"
            )


def _model_mistakes(key: str, model: Mapping[str, Any], config: Config) -> Iterator[str]:
    if "url" in model:
        yield from _url_mistakes(f"{key}.url", model["url"], config["mirrors"])
        remote = any(address.startswith("http") for address in resolve_urls(model["url"], config["mirrors"]))
        if remote and "sha256" not in model:
            yield f"`{key}` is downloaded but has no `sha256`: a .nemo holds pickled weights, so pin it"
    for made in ("from_scratch", "from_model"):
        if made not in model:
            continue
        texts, train = f"{key}.{made}.tokenizer.train", model[made]["tokenizer"]["train"]
        yield from _data_mistakes(texts, train, config)
        if weighted := [index for index, entry in enumerate(train) if "weight" in entry]:
            yield f"`{texts}[{weighted[0]}]` has a `weight`, but a tokenizer reads each transcript once: remove it"
        for check in ("sha256", "bytes"):
            if check in model:
                yield f"`{key}.{check}` belongs to a file, not to a model that is made `{made}`: remove it"
    if other := model.get("from_model"):
        place, name = f"{key}.from_model.model", other["model"]
        yield from _unknown_model(place, name, config)
        if "from_model" in config["models"].get(name, ()):
            yield f"`{place}` is {name!r}, which is made of another model itself: name that one"
    if scratch := model.get("from_scratch"):
        if scratch["d_model"] % scratch["n_heads"]:
            yield (
                f"`{key}.from_scratch.d_model` is {scratch['d_model']}, which {scratch['n_heads']} heads cannot share:"
                " make it a multiple of `n_heads`"
            )
        if scratch["conv_kernel_size"] % 2 == 0:
            yield f"`{key}.from_scratch.conv_kernel_size` is {scratch['conv_kernel_size']}: it must be odd"
        if (scratch["highfreq"] or 0) > scratch["sample_rate"] / 2:
            yield f"`{key}.from_scratch.highfreq` is {scratch['highfreq']} Hz, above half of `sample_rate`"


def _unknown_model(key: str, name: str, config: Config) -> Iterator[str]:
    if name not in config["models"]:
        yield f"`{key}` is {name!r}, which `models` lacks{suggestion(name, list(config['models']))}"


def _data_mistakes(key: str, entries: list[Mapping[str, Any]], config: Config) -> Iterator[str]:
    corpora = config["corpora"]
    for index, entry in enumerate(entries):
        place, corpus, split = f"{key}[{index}]", entry["corpus"], entry["split"]
        if corpus not in corpora:
            yield f"`{place}` names the corpus {corpus!r}, which `corpora` lacks{suggestion(corpus, list(corpora))}"
        elif split not in (splits := split_names(corpora[corpus])):
            hint = suggestion(split, splits)
            yield f"`{place}` names the split {split!r}, which `corpora.{corpus}.splits` lacks{hint}"
        if any((corpus, split) == (other["corpus"], other["split"]) for other in entries[:index]):
            yield f"`{place}` names {corpus}/{split} for the second time: name it once"


def _plain_audio_mistakes(key: str, entries: list[Mapping[str, Any]], config: Config) -> Iterator[str]:
    for index, entry in enumerate(entries):
        if "nemo_shards" in config["corpora"].get(entry["corpus"], {}):
            yield (
                f"`{key}[{index}]` names {entry['corpus']}/{entry['split']}, whose audio lies in `nemo_shards`: they"
                " can only be trained on, with the layout tarred; import the audio by another source for all else"
            )


def _experiment_mistakes(name: str, settings: Config, config: Config) -> Iterator[str]:
    def key(dotted: str) -> str:
        """Where the user wrote this setting: in the experiment itself, or in ``defaults``."""
        node: Any = config["experiments"][name]
        for part in dotted.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return f"defaults.{dotted}"
            node = node[part]
        return f"experiments.{name}.{dotted}"

    for role in ("train", "validation", "test"):
        yield from _data_mistakes(key(role), settings[role], config)
        if role != "train" or settings["layout"] != "tarred":
            yield from _plain_audio_mistakes(key(role), settings[role], config)
    if name in config["models"]:
        yield f"`experiments.{name}` and `models.{name}` have one name, but results are kept by it: rename one"
    if name in RESULT_FOLDERS:
        yield f"`experiments.{name}` would put its results into results/{name}, a folder of the workflow: rename it"
    yield from _unknown_model(key("model"), settings["model"], config)

    weights = [entry["weight"] for entry in settings["train"] if "weight" in entry]
    if weights and len(weights) < len(settings["train"]):
        yield f"`{key('train')}` gives a weight to some corpora and not to others: give one to each or to none"
    for index, entry in enumerate(settings["train"]):
        if entry.get("weight", 1) <= 0:
            yield (
                f"`{key('train')}[{index}].weight` is {entry['weight']}: a weight must be above 0; to leave the corpus"
                " out, remove the entry"
            )

    trainer, batches = settings["trainer"], settings["train_ds"]
    steps, warmup = trainer["max_steps"], settings["optim"]["sched"]["warmup_steps"]
    if warmup >= steps:
        yield (
            f"`{key('optim.sched.warmup_steps')}` is {warmup}, but `trainer.max_steps` is {steps}: the learning rate"
            " would never reach its peak; lower the one, raise the other, or leave warmup_steps null for a tenth"
        )
    lr, min_lr = settings["optim"]["lr"], settings["optim"]["sched"]["min_lr"]
    if min_lr > lr:
        yield (
            f"`{key('optim.sched.min_lr')}` is {min_lr}, above `optim.lr`, {lr}: the learning rate would rise after its"
            " warm-up, or the training end there; lower the one or raise the other"
        )
    if trainer["val_check_interval"] > steps * trainer["accumulate_grad_batches"]:
        yield (
            f"`{key('trainer.val_check_interval')}` is {trainer['val_check_interval']} batches, more than the whole run"
            f" of {steps} steps: it would never validate; set it to {steps} or less"
        )
    shortest, longest = batches["min_duration"], batches["max_duration"]
    if longest is not None and shortest is not None and shortest >= longest:
        yield (
            f"`{key('train_ds.min_duration')}` is {shortest} s, not below max_duration, {longest} s: no cut would be"
            " left"
        )
    if longest is not None and longest > batches["batch_duration"]:
        yield (
            f"`{key('train_ds.batch_duration')}` is {batches['batch_duration']} s, below max_duration, {longest} s:"
            " raise it"
        )
    several = next((name for name in ("devices", "num_nodes") if trainer[name] > 1), None)
    if several and settings["layout"] == "tarred" and batches["num_workers"] == 0:
        yield (
            f"`{key('train_ds.num_workers')}` is 0, but `trainer.{several}` is {trainer[several]}: processes that read"
            " shards themselves would all train on the same batches; set num_workers to 1 or more"
        )
    for mistake in override_mistakes(settings):
        yield f"`{key('overrides')}` sets {mistake}"
