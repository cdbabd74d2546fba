"""Text profiles: what happens to a transcript before any model sees it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

Step = str | dict[str, Any]


def apply_profile(text: str, profile: Sequence[Step]) -> str:
    """Return ``text`` after the steps of ``profile``, in order.

    Steps: ``lower``, ``upper``, ``nfkc`` (Unicode normal form KC), ``strip_punctuation``, ``collapse_spaces`` and
    ``{"replace": {old: new, ...}}``, which replaces literally, the longest ``old`` first. Outer spaces always go.

    >>> apply_profile("Hello,  World’s  end!", ["lower", "strip_punctuation", "collapse_spaces"])
    "hello world's end"
    """
    for step in profile:
        text = STEPS[step](text) if isinstance(step, str) else _replace(text, step["replace"])
    return text.strip()


def _strip_punctuation(text: str) -> str:
    """Drop punctuation and symbols (Unicode P* and S*), but keep an apostrophe inside a word; ’ becomes '."""
    text = text.replace("\u2019", "'")
    kept = []
    for index, character in enumerate(text):
        if character == "'":
            inside = 0 < index < len(text) - 1 and text[index - 1].isalnum() and text[index + 1].isalnum()
            kept.append("'" if inside else "")
        elif unicodedata.category(character)[0] in "PS":
            kept.append(" ")  # not "": `twenty-one` is two words
        else:
            kept.append(character)
    return " ".join("".join(kept).split())


def _replace(text: str, replacements: dict[str, str]) -> str:
    for old in sorted(replacements, key=len, reverse=True):
        text = text.replace(old, replacements[old])
    return text


STEPS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "strip_punctuation": _strip_punctuation,
    "collapse_spaces": lambda text: " ".join(text.split()),
}
