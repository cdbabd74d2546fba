"""Check the configuration, and fill in its defaults.

Everything here is pure and light: every Snakemake process, each cluster job included, parses the configuration again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nuptse.config_mistakes import meaning_mistakes
from nuptse.errors import UserError
from nuptse.schema_mistakes import schema_mistakes, yaml_mistakes
from nuptse.settings import Config, fill_defaults

# Sections whose blocks an overlay may remove.
REMOVABLE = ("mirrors", "corpora", "models", "experiments")


def load_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Config:
    """Return a checked copy of ``config`` in which every key of the corpora, models and mirrors has a value.

    Args:
        config: the merged configuration as Snakemake hands it over.
        schema: JSON Schema of it, with ``default`` and ``description`` in every property.

    Raises:
        UserError: one sentence per mistake, each with the key, what was found and what to change.
    """
    config = without_removed(config)
    mistakes = list(yaml_mistakes(config)) or schema_mistakes(config, schema)
    filled: Config = {}
    if not mistakes:
        filled = fill_defaults(config, schema, schema)
        mistakes = list(dict.fromkeys(meaning_mistakes(filled, schema)))
    if mistakes:
        raise UserError("The configuration cannot be used:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes))
    return filled


def without_removed(config: Mapping[str, Any]) -> Config:
    """Return ``config`` without the blocks that an overlay removed by giving them as null."""
    return {
        key: {name: block for name, block in value.items() if block is not None}
        if key in REMOVABLE and isinstance(value, Mapping)
        else value
        for key, value in config.items()
    }
