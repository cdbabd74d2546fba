"""Check the configuration, fill in its defaults and answer questions about it.

Everything here is pure and light: every Snakemake process, each cluster job included, parses the configuration again.
"""

from __future__ import annotations

import copy
import difflib
import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema

from nuptse.errors import UserError
from nuptse.filters import filter_mistakes
from nuptse.finding_codes import CODES, parse_acceptance
from nuptse.source_settings import corpus_source, source_paths
from nuptse.splits import split_mistakes, split_names
from nuptse.text import profile_mistakes

Config = dict[str, Any]

# Options that Nuptse derives from its own keys: set there, they are checked and part of the plan.
RESERVED_OVERRIDES = re.compile(
    r"(trainer\.(max_steps|max_epochs|val_check_interval|limit_train_batches|accumulate_grad_batches|devices|num_nodes|strategy)"
    r"|model\.(train_ds|validation_ds)\.(manifest_filepath|tarred_audio_filepaths|cuts_path|input_cfg|batch_duration"
    r"|batch_size|num_buckets|bucket_duration_bins|min_duration|max_duration|name)"
    r"|model\.optim\.(lr|name|sched\.(max_steps|warmup_steps)))="
)


def load_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Config:
    """Return a checked copy of ``config`` in which every key of the corpora, models and mirrors has a value.

    Args:
        config: the merged configuration as Snakemake hands it over.
        schema: JSON Schema of it, with ``default`` and ``description`` in every property.

    Raises:
        UserError: one sentence per mistake, each with the key, what was found and what to change.
    """
    config = without_removed(config)
    mistakes = list(_yaml_mistakes(config)) or schema_mistakes(config, schema)
    filled: Config = {}
    if not mistakes:
        filled = fill_defaults(config, schema, schema)
        mistakes = list(dict.fromkeys(_meaning_mistakes(filled, schema)))
    if mistakes:
        raise UserError("The configuration cannot be used:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes))
    return filled


def without_removed(config: Mapping[str, Any]) -> Config:
    """Return ``config`` without the blocks that an overlay removed by giving them as null."""
    sections = ("mirrors", "corpora", "models", "experiments")
    return {
        key: {name: block for name, block in value.items() if block is not None}
        if key in sections and isinstance(value, Mapping)
        else value
        for key, value in config.items()
    }


def resolve_experiment(config: Config, name: str, schema: Mapping[str, Any]) -> Config:
    """Return the settings of one experiment: its own keys over ``defaults`` over the schema's defaults.

    Mappings are merged key by key, lists are replaced, as Snakemake merges configuration files.
    """
    own = _merge(config["defaults"], config["experiments"][name])
    settings: Config = fill_defaults(own, schema["$defs"]["settings"], schema)
    schedule, steps = settings["optim"]["sched"], settings["trainer"]["max_steps"]
    if schedule["warmup_steps"] is None:
        schedule["warmup_steps"] = steps // 10
    return settings


def resolve_urls(url: str | list[str], mirrors: Mapping[str, list[str]]) -> list[str]:
    """Return the addresses to try in turn for ``url``, with ``mirror:path`` spelt out for every mirror.

    >>> resolve_urls("openslr:31/a.tar.gz", {"openslr": ["https://a.org/resources/", "mirror"]})
    ['https://a.org/resources/31/a.tar.gz', 'mirror/31/a.tar.gz']
    """
    addresses = []
    for entry in [url] if isinstance(url, str) else url:
        prefix, colon, path = entry.partition(":")
        if colon and not path.startswith("//") and prefix in mirrors:
            addresses += [f"{mirror.rstrip('/')}/{path.lstrip('/')}" for mirror in mirrors[prefix]]
        else:
            addresses.append(entry)
    return addresses


def model_source(model: Mapping[str, Any]) -> str:
    """Return where a base model comes from: ``pretrained``, ``url`` or ``from_scratch``."""
    return next(source for source in ("pretrained", "url", "from_scratch") if source in model)


def fill_defaults(value: Any, node: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """Return a copy of ``value`` with the defaults of schema ``node`` wherever a key is absent.

    ``defaults`` and ``experiments`` are left as they are: theirs are filled after they were merged.
    """
    node = _flatten(node, schema)
    if isinstance(value, Mapping):
        # In the order of the schema: Snakemake puts the keys of an overlay first, and the order is part of params.
        filled: Config = {}
        for key, child in node.get("properties", {}).items():
            flat = _flatten(child, schema)
            if key in value or "default" in flat:
                item = copy.deepcopy(value[key] if key in value else flat["default"])
                later = node is schema and key in ("defaults", "experiments")
                filled[key] = item if later else fill_defaults(item, child, schema)
        rest = node.get("additionalProperties")
        for key, item in value.items():
            if key not in filled:
                filled[key] = fill_defaults(item, rest, schema) if isinstance(rest, Mapping) else copy.deepcopy(item)
        return filled
    if isinstance(value, list) and "items" in node:
        return [fill_defaults(item, node["items"], schema) for item in value]
    return value


def _flatten(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``node`` with its ``$ref`` and ``allOf`` references folded in; its own keys win."""
    references = [node] if "$ref" in node else [part for part in node.get("allOf", []) if "$ref" in part]
    merged: dict[str, Any] = {}
    for part in references:
        merged |= _flatten(schema["$defs"][part["$ref"].removeprefix("#/$defs/")], schema)
    return merged | dict(node) if references else node


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Config:
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


# --- mistakes that the schema sees -------------------------------------------------------------------------------


def _yaml_mistakes(node: Any, key: str = "") -> Iterator[str]:
    """What YAML can say and JSON cannot: keys that are not text, and numbers that are none."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if isinstance(name, str):
                yield from _yaml_mistakes(value, _join(key, name))
            else:
                where = f"`{key}`" if key else "the configuration"
                yield f"{where} has the key {name!r}, which is not text: write it in quotes"
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _yaml_mistakes(value, f"{key}[{index}]")
    elif isinstance(node, float) and not math.isfinite(node):
        yield f"`{key}` is {node}: give a number, or null where there is no limit"


def schema_mistakes(config: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each place where ``config`` breaks ``schema``."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(config)
    in_order = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    # What is no block at all needs no word about the keys that it lacks.
    told = [error for error in in_order if not (_chooses_a_key(error) and not isinstance(error.instance, Mapping))]
    return list(dict.fromkeys(map(_sentence, told)))


def _chooses_a_key(error: jsonschema.ValidationError) -> bool:
    return error.validator == "oneOf" and all("required" in option for option in error.schema["oneOf"])


def _sentence(error: jsonschema.ValidationError) -> str:
    key = _key(error.absolute_path)
    where = f"`{key}`" if key else "the configuration"
    wanted = error.schema
    if error.validator == "additionalProperties":
        allowed = list(wanted.get("properties", {}))
        unknown = [name for name in error.instance if name not in allowed]
        return "; ".join(
            f"`{_join(key, name)}` is not a key that exists{_suggestion(str(name), allowed)}" for name in unknown
        )
    if error.validator == "required":
        missing = [name for name in wanted["required"] if name not in error.instance]
        return f"{where} lacks " + ", ".join(f"`{name}`" for name in missing)
    if _chooses_a_key(error):
        choices = [option["required"][0] for option in wanted["oneOf"]]
        given = [f"`{name}`" for name in choices if name in error.instance]
        found = f"has {' and '.join(given)}" if given else "has none"
        return f"{where} {found} of " + ", ".join(f"`{name}`" for name in choices) + ": give exactly one"
    if "propertyNames" in error.absolute_schema_path:
        return f"{error.instance!r} in {where} cannot be a name: begin with a letter or digit, then also `_` and `-`"
    found = f"{where} is {error.instance!r}"
    description = " ".join(wanted.get("description", "").split())
    purpose = f" ({description.rstrip('.')})" if description else ""
    if error.validator == "enum":
        return f"{found}, expected one of {', '.join(map(str, wanted['enum']))}{purpose}"
    if error.validator == "type":
        return f"{found}, expected {_type_name(wanted['type'])}{purpose}{_number_hint(error.instance)}"
    limits = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "more than {}",
        "exclusiveMaximum": "less than {}",
        "minItems": "at least {} entries",
        "minProperties": "at least {} entries",
        "minLength": "at least {} character",
        "maxLength": "at most {} characters",
        "pattern": "text of the form {}",
    }
    if error.validator in limits:
        return f"{found}, expected {limits[error.validator].format(error.validator_value)}{purpose}"
    if error.validator == "oneOf":
        return f"{found}, which has none of the forms that are allowed here{purpose}; see config/README.md"
    return f"{where}: {error.message}"


def _key(path: Any) -> str:
    key = ""
    for part in path:
        key = f"{key}[{part}]" if isinstance(part, int) else _join(key, part)
    return key


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    return "; known are " + ", ".join(f"`{item}`" for item in known) if known else ""


def _type_name(types: str | list[str]) -> str:
    words = {"integer": "a whole number", "number": "a number", "string": "text", "array": "a list"}
    words |= {"object": "a block of keys", "boolean": "true or false", "null": "null"}
    return " or ".join(words[name] for name in ([types] if isinstance(types, str) else types))


def _number_hint(value: object) -> str:
    """YAML 1.1 reads ``1e-4`` as text: a float needs a dot and a signed exponent."""
    if not isinstance(value, str):
        return ""
    try:
        return f"; write it as {float(value)!r}" if "e" not in value.lower() else f"; YAML wants {float(value):.1e}"
    except ValueError:
        return ""


# --- mistakes that only the meaning shows ------------------------------------------------------------------------


def _meaning_mistakes(config: Config, schema: Mapping[str, Any]) -> Iterator[str]:
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
            yield f"`{place}` names the finding {code!r}, which does not exist{_suggestion(code, list(CODES))}"
        if subject and subject not in subjects:
            yield (
                f"`{place}` is about {subject!r}, which is neither a corpus/split nor an experiment"
                f"{_suggestion(subject, subjects)}"
            )


def _pipe_mistakes(node: Any, key: str = "") -> Iterator[str]:
    """NeMo runs a path that starts with ``pipe:`` as a shell command."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _pipe_mistakes(value, _join(key, name))
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
            yield f"`{key}.recipe`: Lhotse has no recipe {corpus['recipe']!r}{_suggestion(corpus['recipe'], recipes)}"
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
                f"{_suggestion(part, list(source.parts))}"
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

    They are read from the source text, since importing Lhotse would cost seconds in every Snakemake process.
    """
    spec = importlib.util.find_spec("lhotse")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "recipes"
    return sorted({name for path in folder.glob("*.py") for name in _PREPARE.findall(path.read_text("utf-8"))})


_PREPARE = re.compile(r"^def prepare_([a-z0-9_]+)\(", re.MULTILINE)


def _url_mistakes(key: str, url: str | list[str], mirrors: Mapping[str, list[str]]) -> Iterator[str]:
    for address in resolve_urls(url, mirrors):
        # `pipe` has its own sentence.
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", address)
        if scheme and scheme[1].lower() not in ("http", "https", "file", "pipe"):
            yield (
                f"`{key}` begins with `{scheme[1]}:`, which is neither http(s):// nor file:// nor a name under"
                f" `mirrors`{_suggestion(scheme[1], list(mirrors))}"
            )


def _model_mistakes(key: str, model: Mapping[str, Any], config: Config) -> Iterator[str]:
    if "url" in model:
        yield from _url_mistakes(f"{key}.url", model["url"], config["mirrors"])
        remote = any(address.startswith("http") for address in resolve_urls(model["url"], config["mirrors"]))
        if remote and "sha256" not in model:
            yield f"`{key}` is downloaded but has no `sha256`: a .nemo holds pickled weights, so pin it"
    elif "sha256" in model and "from_scratch" in model:
        yield f"`{key}.sha256` belongs to a file, not to a model that is made `from_scratch`: remove it"
    if scratch := model.get("from_scratch"):
        yield from _data_mistakes(f"{key}.from_scratch.tokenizer.train", scratch["tokenizer"]["train"], config)
        if scratch["d_model"] % scratch["n_heads"]:
            yield (
                f"`{key}.from_scratch.d_model` is {scratch['d_model']}, which {scratch['n_heads']} heads cannot share:"
                " make it a multiple of `n_heads`"
            )
        if scratch["conv_kernel_size"] % 2 == 0:
            yield f"`{key}.from_scratch.conv_kernel_size` is {scratch['conv_kernel_size']}: it must be odd"
        if (scratch["highfreq"] or 0) > scratch["sample_rate"] / 2:
            yield f"`{key}.from_scratch.highfreq` is {scratch['highfreq']} Hz, above half of `sample_rate`"


def _data_mistakes(key: str, entries: list[Mapping[str, Any]], config: Config) -> Iterator[str]:
    corpora = config["corpora"]
    for index, entry in enumerate(entries):
        place, corpus, split = f"{key}[{index}]", entry["corpus"], entry["split"]
        if corpus not in corpora:
            yield f"`{place}` names the corpus {corpus!r}, which `corpora` lacks{_suggestion(corpus, list(corpora))}"
        elif split not in (splits := split_names(corpora[corpus])):
            hint = _suggestion(split, splits)
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
    if settings["model"] not in config["models"]:
        known = list(config["models"])
        yield f"`{key('model')}` is {settings['model']!r}, which `models` lacks{_suggestion(settings['model'], known)}"

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
    for override in settings["overrides"]:
        if reserved := RESERVED_OVERRIDES.match(override):
            yield f"`{key('overrides')}` sets `{reserved[1]}`, which has a key of its own: set it there"
