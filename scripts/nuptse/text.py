"""Text profiles: what happens to a transcript before any model sees it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nuptse.errors import UserError
from nuptse.filters import NO_EXPRESSION
from nuptse.numerals import numeral_language, spell_numbers

Step = str | dict[str, Any]
Change = Callable[[str], str]


class Profile:
    """The steps of a text profile, made ready for many transcripts.

    Args:
        steps: see ``STEPS`` and ``_MAKERS``; each is a word, or one key with what it needs.
        language: tag of the transcripts (BCP 47), for ``numbers``.

    Attributes:
        removed: characters that the steps ``keep`` have taken out so far, by how often.
    """

    def __init__(self, steps: Sequence[Step], language: str = "en") -> None:
        self.names = [step if isinstance(step, str) else next(iter(step)) for step in steps]
        self.removed: Counter[str] = Counter()
        self._changes = [self._change(step, language) for step in steps]

    def _change(self, step: Step, language: str) -> Change:
        if step == "numbers":
            return lambda text: spell_numbers(text, language)
        if isinstance(step, str):
            return STEPS[step]
        ((name, wanted),) = step.items()
        return _keep(wanted, self.removed) if name == "keep" else _MAKERS[name](wanted)

    def trace(self, text: str) -> list[str]:
        """Return the transcript after each step; outer spaces are left to :meth:`__call__`."""
        texts = []
        for change in self._changes:
            text = change(text)
            texts.append(text)
        return texts

    def __call__(self, text: str) -> str:
        """Return the transcript after all steps, in order, without outer spaces."""
        for change in self._changes:
            text = change(text)
        return text.strip()


def apply_profile(text: str, steps: Sequence[Step], language: str = "en") -> str:
    """Return one transcript after the steps of a profile.

    >>> apply_profile("Hello,  World’s  end!", ["lower", "strip_punctuation", "collapse_spaces"])
    "hello world's end"
    """
    return Profile(steps, language)(text)


# --- steps that are a word ---------------------------------------------------------------------------------------


def _collapse_spaces(text: str) -> str:
    return " ".join(text.split())


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
    return _collapse_spaces("".join(kept))


def _strip_accents(text: str) -> str:
    """Drop the marks of letters (Unicode Mn): é becomes e, й и; what has no mark of its own, such as ø, stays."""
    marked = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in marked if unicodedata.category(c) != "Mn"))


STEPS: dict[str, Change] = {
    "lower": str.lower,
    "upper": str.upper,
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "strip_accents": _strip_accents,
    "strip_punctuation": _strip_punctuation,
    "collapse_spaces": _collapse_spaces,
}


# --- steps that need something -----------------------------------------------------------------------------------


def _map(table: Mapping[str, str]) -> Change:
    numbers = str.maketrans(dict(table))
    return lambda text: text.translate(numbers)


def _replace(replacements: Mapping[str, str]) -> Change:
    pairs = [(old, replacements[old]) for old in sorted(replacements, key=lambda old: (-len(old), old))]

    def change(text: str) -> str:
        for old, new in pairs:
            text = text.replace(old, new)
        return text

    return change


def _regex(replacements: Mapping[str, str]) -> Change:
    ((pattern, new),) = replacements.items()
    return lambda text: re.sub(pattern, new, text)


def _drop_brackets(pairs: Sequence[str]) -> Change:
    """Drop what stands between brackets, with them; the inner ones first. A bracket without its partner stays."""
    ends = re.escape("".join(pairs))
    pattern = re.compile("|".join(f"{re.escape(pair[0])}[^{ends}]*{re.escape(pair[1])}" for pair in pairs))

    def change(text: str) -> str:
        found = 1
        while found:
            text, found = pattern.subn(" ", text)
        return _collapse_spaces(text)

    return change


def _drop_words(words: Sequence[str]) -> Change:
    dropped = frozenset(words)
    return lambda text: " ".join(word for word in text.split() if word not in dropped)


def _keep(wanted: str, removed: Counter[str]) -> Change:
    alphabet = alphabet_of(wanted)

    def change(text: str) -> str:
        if alphabet.issuperset(text):
            return text
        removed.update(character for character in text if character not in alphabet)
        return "".join(character for character in text if character in alphabet)

    return change


_MAKERS: dict[str, Callable[[Any], Change]] = {
    "map": _map,
    "replace": _replace,
    "regex": _regex,
    "drop_brackets": _drop_brackets,
    "drop_words": _drop_words,
}


def alphabet_of(wanted: str) -> frozenset[str]:
    """Return the characters of an alphabet in which ``a-z`` is a range; a hyphen at the start or end is itself.

    Raises:
        UserError: a range that runs backwards.

    >>> sorted(alphabet_of("a-c' "))
    [' ', "'", 'a', 'b', 'c']
    """
    characters: set[str] = set()
    for first, last, single in re.findall(r"(.)-(.)|(.)", wanted, re.DOTALL):
        if single:
            characters.add(single)
        elif first > last:
            raise UserError(f"the range {first}-{last} runs backwards")
        else:
            characters.update(map(chr, range(ord(first), ord(last) + 1)))
    return frozenset(characters)


# --- mistakes in the configuration -------------------------------------------------------------------------------


def profile_mistakes(key: str, steps: Sequence[Step], language: str) -> Iterator[str]:
    """Yield a sentence for each step that a schema accepts but no transcript would survive."""
    for index, step in enumerate(steps):
        place = f"{key}.text[{index}]"
        if step == "numbers" and numeral_language(language) is None:
            yield (
                f"`{place}` is numbers, but num2words cannot spell numbers in `{key}.language`, {language}:"
                " remove the step and spell them with `replace` or `regex`"
            )
        elif isinstance(step, dict):
            try:
                Profile([step])("")
                alphabet_of(step.get("keep", ""))
            except NO_EXPRESSION as error:
                yield f"`{place}.regex` is no regular expression: {error}"
            except UserError as error:
                yield f"`{place}.keep`: {error}"
