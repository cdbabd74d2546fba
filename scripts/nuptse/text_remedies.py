"""Which further steps of a text profile make transcripts readable for a tokenizer: tried out, not guessed."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nuptse.base_model import Tokenizer
from nuptse.numerals import numeral_language
from nuptse.text import Profile, Step
from nuptse.text_measures import unknown_among

TRIED_TEXTS = 2000
# Steps that are tried alone and together, the mildest first.
STEPS: tuple[tuple[str, ...], ...] = (
    ("nfc",),
    ("nfkc",),
    ("lower",),
    ("upper",),
    ("numbers",),
    ("strip_accents",),
    ("strip_punctuation",),
    ("numbers", "lower"),
    ("lower", "strip_punctuation"),
    ("upper", "strip_punctuation"),
    ("nfkc", "numbers", "lower", "strip_punctuation"),
    ("nfkc", "numbers", "upper", "strip_punctuation"),
    ("nfkc", "numbers", "lower", "strip_accents", "strip_punctuation"),
)
# Typographic characters and what stands for them on a typewriter.
PLAIN = {"’": "'", "‘": "'", "ʼ": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."}
PLAIN |= {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d"}
DROPPED = "'’‘ʼ"  # a word can do without its apostrophe, while other punctuation parts words


@dataclass(frozen=True)
class TextRemedy:
    """Steps to append to a text profile, and the share of characters that stay unknown with them."""

    steps: list[Step]
    left: float


def find_remedy(texts: Sequence[str], tokenizer: Tokenizer, language: str) -> TextRemedy | None:
    """Return the fewest further steps that leave the fewest unknown characters; None if none halves them.

    Args:
        texts: transcripts with unknown characters, after the profile as it is.
        tokenizer: of the base model.
        language: tag of the transcripts.
    """
    texts = list(texts[:TRIED_TEXTS])
    before, _ = _unknown(texts, tokenizer)
    best: TextRemedy | None = None
    for steps in _candidates(texts, tokenizer, language):
        left, written = _unknown(_changed(texts, steps, language), tokenizer)
        # Steps that leave nothing of the texts would know all of them.
        if written and left < before / 2 and (best is None or left < best.left):
            best = TextRemedy(steps, left)
    return best


def _candidates(texts: Sequence[str], tokenizer: Tokenizer, language: str) -> Iterator[list[Step]]:
    """Yield the steps alone, then each with replacements for what it leaves unknown."""
    has_digits = any(character.isdigit() for text in texts for character in text)
    for names in ((), *STEPS):
        if "numbers" in names and (numeral_language(language) is None or not has_digits):
            names = tuple(name for name in names if name != "numbers")
        steps: list[Step] = list(names)
        if steps:
            yield steps
        if table := _replacements(set("".join(_changed(texts, steps, language))), tokenizer):
            yield [*steps, {"map": table}]


def _changed(texts: Sequence[str], steps: Sequence[Step], language: str) -> list[str]:
    profile = Profile(steps, language)
    return [profile(text) for text in texts]


def _replacements(characters: set[str], tokenizer: Tokenizer) -> dict[str, str]:
    """Return a known text for each unknown character that has one: its typewriter form, or the letter without marks."""
    found = {}
    for character in sorted(unknown_among(characters, tokenizer)):
        bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        for other in (PLAIN.get(character), bare, "" if character in DROPPED else None):
            if other is not None and other != character and not unknown_among(set(other), tokenizer):
                found[character] = other
                break
    return found


def _unknown(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[float, int]:
    """Return the share of the characters that are unknown, and how many there are."""
    counts = Counter("".join(texts))
    counts.pop(" ", None)
    unknown = unknown_among(set(counts), tokenizer)
    total = counts.total()
    return sum(counts[character] for character in unknown) / max(1, total), total
