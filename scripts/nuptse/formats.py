"""Numbers as people read them: percent, durations, hours, memory. Every text has no-break spaces before its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"  # where there is no number


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in percent.

    >>> percent(0.66384), percent(None)
    ('66.4\\xa0%', '–')
    """
    return f"{100 * share:.{digits}f}{SPACE}%" if share is not None and math.isfinite(share) else NONE


def span(low: float | None, high: float | None, digits: int = 1) -> str:
    """Return an interval of shares in percent, the unit once, or nothing where there is none.

    >>> span(0.5247, 0.8423)
    '52.5 to 84.2'
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{signless(100 * low, digits)} to {signless(100 * high, digits)}"


def points(difference: float | None, digits: int = 1) -> str:
    """Return a difference of shares in percentage points, with its sign.

    >>> points(-0.3399)
    '−34.0'
    """
    if difference is None or not math.isfinite(difference):
        return NONE
    text = f"{100 * difference:+.{digits}f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def signless(value: float, digits: int) -> str:
    """Return a number with a true minus sign, and no minus before zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "" if float(text) == 0 else MINUS)


def hours(seconds: float | None) -> str:
    """Return an amount of audio in hours, or in minutes where that is under a tenth of an hour.

    >>> hours(4176), hours(176.7)
    ('1.16\\xa0h', '2.9\\xa0min')
    """
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 360:
        return f"{seconds / 60:.1f}{SPACE}min"
    value = seconds / 3600
    return f"{value:,.{2 if value < 100 else 0}f}{SPACE}h"


def duration(seconds: float | None) -> str:
    """Return a span of time with its two largest units.

    >>> duration(0.348), duration(57.2), duration(312), duration(7500)
    ('0.35\\xa0s', '57\\xa0s', '5\\xa0min 12\\xa0s', '2\\xa0h 05\\xa0min')
    """
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 10:
        return f"{seconds:.2g}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60:02d}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{SPACE}h {minutes % 60:02d}{SPACE}min"


def seconds_apart(limits: Sequence[tuple[float, float]]) -> list[str]:
    """Return ranges in seconds, with the fewest decimals of one to three that keep them apart.

    >>> seconds_apart([(0.9, 1.2), (1.3, 2.0)]), seconds_apart([(1.0, 1.009), (1.01, 1.019)])
    (['0.9–1.2\\xa0s', '1.3–2.0\\xa0s'], ['1.00–1.01\\xa0s', '1.01–1.02\\xa0s'])
    """
    tried = [[f"{low:.{digits}f}–{high:.{digits}f}{SPACE}s" for low, high in limits] for digits in (1, 2, 3)]
    return next((texts for texts in tried if len(set(texts)) == len(texts)), tried[-1])


def memory(size: float | None) -> str:
    """Return bytes in MB or GB, of 10^6 and 10^9.

    >>> memory(1_755_000_000), memory(5_340_000)
    ('1.8\\xa0GB', '5\\xa0MB')
    """
    if size is None or not math.isfinite(size):
        return NONE
    return f"{size / 1e9:.1f}{SPACE}GB" if size >= 1e9 else f"{size / 1e6:.0f}{SPACE}MB"


def count(number: float | None) -> str:
    """Return a number of things, thousands apart.

    >>> count(12345.0), count(33.333)
    ('12,345', '33.3')
    """
    if number is None or not math.isfinite(number):
        return NONE
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def times(factor: float | None) -> str:
    """Return how many times as fast, two significant digits.

    >>> times(427.3), times(2.345), times(0.5)
    ('430×', '2.3×', '0.50×')
    """
    if factor is None or not math.isfinite(factor) or factor <= 0:
        return NONE
    digits = 1 - math.floor(math.log10(factor))
    return f"{round(factor, digits):,.{max(digits, 0)}f}×"
