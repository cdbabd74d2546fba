"""What a checked configuration says: the settings of an experiment, and the defaults of the schema.

Standard library only: every Snakemake process, each cluster job included, parses the configuration again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]


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
    """Return where a base model comes from: ``pretrained``, ``url``, ``from_scratch`` or ``from_model``."""
    return next(source for source in ("pretrained", "url", "from_scratch", "from_model") if source in model)


def made_of(name: str, models: Mapping[str, Config]) -> list[str]:
    """Return a base model and the one that it is made of, if it is, which comes first."""
    return [*([models[name]["from_model"]["model"]] if "from_model" in models[name] else []), name]


def own_tokenizer(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how the tokenizer of a base model is trained; None if the model comes with one."""
    made: Mapping[str, Any] = model.get("from_scratch") or model.get("from_model") or {}
    return made.get("tokenizer")


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
