"""Digits in a transcript, spelt out as words by num2words."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from nuptse.errors import UserError

# Digits, in groups of three if a separator stands between them, and a fraction; `st`, `nd` … make an English ordinal.
_POINT = re.compile(r"(\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:(\.)(\d+))?(?:(st|nd|rd|th)\b)?")
_COMMA = re.compile(r"(\d{1,3}(?:\.\d{3})+(?!\d)|\d+)(?:(,)(\d+))?")
# Languages that write 1,000.5; the others write 1.000,5.
_POINT_LANGUAGES = ("en", "he", "ja", "ko", "th", "bn", "kn", "te")
_OTHER_NAMES = {"kk": "kz", "nb": "no", "nn": "no"}
_NOT_USED = ("am", "eu")  # num2words 0.5.14 never comes back from some Amharic numbers; its EU is Europe, not Basque
_LONGEST = 15  # digits: longer ones are read out one by one


@cache
def numeral_language(tag: str) -> str | None:
    """Return num2words' name for a language tag (BCP 47), or None where it does not know the language.

    Its files are listed, not imported: the configuration is checked in every Snakemake process.

    >>> numeral_language("pt-BR"), numeral_language("de-CH"), numeral_language("tlh")
    ('pt_BR', 'de', None)
    """
    known = _known_languages()
    primary, _, region = tag.partition("-")
    primary = _OTHER_NAMES.get(primary.lower(), primary.lower())
    return next((name for name in (f"{primary}_{region.upper()}", primary) if name in known), None)


@cache
def _known_languages() -> set[str]:
    spec = importlib.util.find_spec("num2words")
    if spec is None or spec.origin is None:
        return set()
    files = (path.stem.removeprefix("lang_").partition("_") for path in Path(spec.origin).parent.glob("lang_*.py"))
    return {language.lower() + _ + region for language, _, region in files} - set(_NOT_USED)


def spell_numbers(text: str, language: str) -> str:
    """Return ``text`` with its numbers as words, without commas and hyphens: ``1,021`` is one thousand and twenty one.

    Grouped thousands and fractions are read as the language writes them. In English ``21st`` is an ordinal, and a
    number from 1100 to 1999 without a separator a year. A number with a leading zero, or of more than 15 digits, is
    read digit by digit. Signs, units and times are left to other steps: ``10:30`` becomes ``ten:thirty``.

    Raises:
        UserError: num2words cannot read a number in this language.
    """
    name = numeral_language(language)
    if name is None:
        raise UserError(f"the step `numbers` does not know the language {language!r}: see config/README.md")
    pattern = _POINT if name.partition("_")[0] in _POINT_LANGUAGES else _COMMA

    def spell(match: re.Match[str]) -> str:
        words = _words(match, name)
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        return f"{' ' if before.isalnum() else ''}{words}{' ' if after.isalnum() else ''}"

    return pattern.sub(spell, text)


def _words(match: re.Match[str], language: str) -> str:
    whole, point, fraction, *rest = match.groups()
    english, digits = language.startswith("en"), re.sub(r"\D", "", whole)
    if len(digits) > _LONGEST or (len(digits) > 1 and digits.startswith("0")):
        said = " ".join(_say(digit, language) for digit in digits)
        return f"{said}{point or ''}{' '.join(_say(digit, language) for digit in fraction or '')}"
    if point:
        return _say(f"{int(digits)}.{fraction}", language)
    if english and rest and rest[0]:
        return _say(digits, language, "ordinal")
    year = english and len(whole) == 4 and 1100 <= int(digits) <= 1999
    return _say(digits, language, "year" if year else "cardinal")


@cache
def _say(number: str, language: str, to: str = "cardinal") -> str:
    from num2words import num2words

    try:
        words = num2words(number, lang=language, to=to)
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise UserError(
            f"num2words cannot read {number} in {language!r} ({type(error).__name__}): replace it by a step"
            " before `numbers`"
        ) from error
    return " ".join(words.replace(",", " ").replace("-", " ").split())
