"""How a recogniser turns its scores into text: options of NeMo's decoding, and the files that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nuptse.errors import UserError

# `ngram_lm_model`, `kenlm_path`, `lexicon_path`, `boost_path`, `arpa_lm_path`, `model_path`, `key_phrases_file` …
_FILE_KEY = re.compile(r"(_path|_file|_lm_model)$")


def parse_decoding(text: str) -> dict[str, Any]:
    """Read the decoding options from JSON."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise UserError(f"--decoding {text!r} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise UserError(f'--decoding {text!r} is no JSON object such as {{"strategy": "greedy_batch"}}')
    return options


def decoding_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files that decoding options name, such as a language model, by the dotted key of each; sorted.

    >>> decoding_files({"strategy": "beam_batch", "beam": {"ngram_lm_model": "lm.arpa", "kenlm_path": None}})
    {'beam.ngram_lm_model': PosixPath('lm.arpa')}
    """
    return dict(sorted(_files(options, "")))


def _files(options: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Path]]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _files(value, f"{prefix}{key}.")
        elif isinstance(value, str) and value and _FILE_KEY.search(key):
            yield f"{prefix}{key}", Path(value)
