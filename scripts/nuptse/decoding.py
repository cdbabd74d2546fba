"""How a recogniser turns its scores into text: options of NeMo's decoding."""

from __future__ import annotations

import json
from typing import Any

from nuptse.errors import UserError


def parse_decoding(text: str) -> dict[str, Any]:
    """Read the decoding options from JSON."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise UserError(f"--decoding {text!r} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise UserError(f'--decoding {text!r} is no JSON object such as {{"strategy": "greedy_batch"}}')
    return options
