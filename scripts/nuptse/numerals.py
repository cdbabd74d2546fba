"""Digits in a transcript, spelt out as words by num2words."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache

from nuptse.errors import UserError
from nuptse.installed import package_folder

# By the decimal separator: groups of three, or as in India of two before the last three, and a fraction. U+066B and
# U+066C are the Arabic point and comma; `_` stands for a space or an apostrophe between groups.
_NUMBERS = {
    ".": re.compile(r"([1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d\d)+,\d{3}|[\d_]+)(?:\.(\d+))?"),
    ",": re.compile(r"([1-9]\d{0,2}(?:\.\d{3})+|[\d_]+)(?:,(\d+))?"),
}
# In Switzerland neither parts groups: money and most texts have a point, the federal offices a comma.
_SWISS_NUMBER = re.compile(r"([\d_]+)(?:[.,](\d+))?")
# Who writes 1,000.5, after the Unicode CLDR; all others write 1.000,5 or 1 000,5.
_POINT_LANGUAGES = frozenset({"bn", "cy", "en", "fa", "he", "ja", "kn", "ko", "te", "th"})
_SPANISH_POINT = frozenset({"419", "BZ", "CU", "DO", "GT", "HN", "MX", "NI", "PA", "PE", "PR", "SV", "US"})
_ARABIC_COMMA = frozenset({"DZ", "LB", "LY", "MA", "MR", "TN"})
# Spaces that never part two words, and so part groups in every language: U+00A0, thin ones U+2009 and U+202F.
_FIXED_SPACES = "\u00a0\u2009\u202f"
# Who parts groups by one of these, after the CLDR, and so by a plain space where a keyboard or `nfkc` made it one.
_SPACE_LANGUAGES = frozenset(
    {"be", "cs", "eo", "fi", "fr", "hu", "kk", "lt", "lv", "nb", "nn", "no", "pl", "ru", "sk", "sv", "tg", "uk"}
)
_SWISS = frozenset({"CH", "LI"})
# What is said between a whole and its fraction, where num2words has another form or another word.
_POINT_WORDS = {
    "ar": "فاصلة",
    "ca": "coma",
    "es": "coma",
    "fa": "ممیز",
    "hu": "egész",
    "ru": "целых",
    "tr": "virgül",
    "vi": "phẩy",
}
_TENTHS = frozenset({"hu", "ru"})  # `zwei ganze fünf zehntel`, and not digit by digit
_OTHER_NAMES = {"kk": "kz", "nb": "no", "nn": "no"}
_NOT_USED = ("am", "eu")  # num2words 0.5.14 never comes back from some Amharic numbers; its EU is Europe, not Basque
_REMEDY = "replace it by a step before `numbers`"
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
    if not (folder := package_folder("num2words")):
        return set()
    files = (path.stem.removeprefix("lang_").partition("_") for path in folder.glob("lang_*.py"))
    return {language.lower() + _ + region for language, _, region in files} - set(_NOT_USED)


def spell_numbers(text: str, language: str) -> str:
    """Return ``text`` with its numbers as words, without commas and hyphens: ``1,021`` is one thousand and twenty one.

    Separators are read as the language and region of ``language`` write them, and a fraction digit by digit, as it
    stands. What cannot be one number there is read as several, and what stands between them stays: in
    English ``2,5`` becomes ``two,five``. Where a space parts groups, two numbers such as ``7 123`` are read as one. In
    English ``21st`` is an ordinal, and a number from 1100 to 1999 without a separator a year. A number with a leading
    zero, or of more than 15 digits, is read digit by digit. Signs, units and times are left to other steps: ``10:30``
    becomes ``ten:thirty``.

    Raises:
        UserError: num2words cannot read a number in this language.
    """
    name = numeral_language(language)
    if name is None:
        raise UserError(f"the step `numbers` does not know the language {language!r}: see config/README.md")
    mark, chains, number = _decimal_separator(language), _chains(language), _number(language)

    def spell(match: re.Match[str]) -> str:
        chain, suffix = match.groups(default="")
        ordinal = bool(suffix) and name.startswith("en") and mark not in chain
        if found := number.fullmatch(_plain(chain, mark)):
            words = _words(found, mark, name, ordinal)
        else:
            words = re.sub(r"[^.,\u066b\u066c]+", lambda part: _whole(_plain(part[0], mark), name), chain)
        left = "" if found and ordinal else suffix
        before, after = text[: match.start()][-1:], (left + text[match.end() :])[:1]
        return f"{' ' if before.isalnum() else ''}{words}{' ' if after.isalnum() else ''}{left}"

    return chains.sub(spell, text)


def _decimal_separator(tag: str) -> str:
    primary, regions = _language_and_regions(tag)
    if primary == "es":
        return "." if regions & _SPANISH_POINT else ","
    if primary == "ar":
        return "," if regions & _ARABIC_COMMA else "."
    if primary in ("de", "it"):
        return "." if regions & _SWISS else ","
    return "." if primary in _POINT_LANGUAGES else ","


@cache
def _chains(tag: str) -> re.Pattern[str]:
    """Return what finds digits with separators between them, and the ``st``, ``nd`` … that makes an English ordinal.

    They are a number if they stand as one is written, else one number after the other.
    """
    primary, regions = _language_and_regions(tag)
    spaced = (
        primary in _SPACE_LANGUAGES
        or (primary == "es" and "CR" in regions)
        or (primary == "pt" and regions and "BR" not in regions)
    )
    groups = rf"[1-9]\d{{0,2}}(?:[{_FIXED_SPACES}{' ' if spaced else ''}]\d{{3}})+(?!\d)"
    # Not after a letter, nor in the minutes of a time: `10h30 100` and `10:30 100` hold no 30 100.
    whole = rf"(?<![^\W_])(?<!\d:){groups}"
    if regions & _SWISS:
        whole += r"|[1-9]\d{0,2}(?:['\u2019]\d{3})+(?!\d)"
    return re.compile(rf"((?:{whole}|\d+)(?:[.,\u066b\u066c]\d+)*)((?i:st|nd|rd|th)\b)?")


def _number(tag: str) -> re.Pattern[str]:
    primary, regions = _language_and_regions(tag)
    return _SWISS_NUMBER if primary in ("de", "fr", "it") and regions & _SWISS else _NUMBERS[_decimal_separator(tag)]


def _language_and_regions(tag: str) -> tuple[str, set[str]]:
    primary, *rest = tag.split("-")
    return primary.lower(), {subtag.upper() for subtag in rest}


def _plain(chain: str, mark: str) -> str:
    """Return a chain in ASCII: the digits of any script, and what stands between them as the language writes it."""
    ascii_marks = {"\u066b": mark, "\u066c": "," if mark == "." else "."}
    return "".join(str(int(c)) if c.isdecimal() else ascii_marks.get(c, c if c in ",." else "_") for c in chain)


def _words(match: re.Match[str], mark: str, language: str, ordinal: bool) -> str:
    written, fraction = match.groups()
    whole = re.sub(r"\D", "", written)
    if fraction is None:
        return _whole(written, language, ordinal)
    if language in _TENTHS and not _is_code(whole):
        said = _say(f"{whole}.{fraction}", language)
        if said != _say(whole, language):  # in Hungarian num2words forgets `,0`
            return said
    point = _point(language, mark)
    gap = " " if point.startswith(" ") else ""
    return f"{_whole(whole, language, year=False)}{point}{gap.join(_say(digit, language) for digit in fraction)}"


def _whole(written: str, language: str, ordinal: bool = False, year: bool = True) -> str:
    digits = re.sub(r"\D", "", written)
    if _is_code(digits):
        return " ".join(_say(digit, language) for digit in digits)
    if ordinal:
        return _say(digits, language, "ordinal")
    year = year and language.startswith("en") and len(written) == 4 and 1100 <= int(digits) <= 1999
    return _say(digits, language, "year" if year else "cardinal")


def _is_code(digits: str) -> bool:
    return len(digits) > _LONGEST or (len(digits) > 1 and digits.startswith("0"))


@cache
def _point(language: str, mark: str) -> str:
    """Return what is said between a whole and its fraction, with the spaces around it; Spanish has a word for each."""
    primary = language.partition("_")[0]
    if primary in _POINT_WORDS and (primary, mark) != ("es", "."):
        return f" {_POINT_WORDS[primary]} "
    said = _converted(0.1, language, "cardinal")
    zero, one = _say("0", language), _say("1", language)
    if not (said.startswith(zero) and said.endswith(one) and len(said) > len(zero + one)):
        raise UserError(f"num2words has no word for the decimal separator in {language!r}: {_REMEDY}")
    return said[len(zero) : len(said) - len(one)]


@cache
def _say(number: str, language: str, to: str = "cardinal") -> str:
    # num2words does not read a text in every language, and of a Decimal only the whole in some.
    return _converted(Decimal(number) if "." in number else int(number), language, to)


def _converted(number: int | float | Decimal, language: str, to: str) -> str:
    from num2words import num2words

    try:
        words = num2words(number, lang=language, to=to)
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise UserError(
            f"num2words cannot read {number} in {language!r} ({type(error).__name__}): {_REMEDY}"
        ) from error
    return " ".join(words.replace(",", " ").replace("-", " ").split())
