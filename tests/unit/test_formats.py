import math

import pytest

from nuptse import formats


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (formats.percent, 0.66384, "66.4 %"),
        (formats.percent, 1.29167, "129.2 %"),
        (formats.percent, None, "–"),
        (formats.percent, math.nan, "–"),
        (formats.points, -0.33988, "−34.0"),
        (formats.points, 0.0255, "+2.5"),
        (formats.points, -0.0001, "0.0"),
        (formats.points, math.nan, "–"),
        (formats.hours, 176.7, "2.9 min"),
        (formats.hours, 4176, "1.16 h"),
        (formats.hours, 3_456_000, "960 h"),
        (formats.hours, 36_000_000, "10,000 h"),
        (formats.duration, 0.348, "0.35 s"),
        (formats.duration, 57.2, "57 s"),
        (formats.duration, 312, "5 min 12 s"),
        (formats.duration, 3599.7, "1 h 00 min"),
        (formats.duration, 7500, "2 h 05 min"),
        (formats.duration, None, "–"),
        (formats.memory, 1_755_000_000, "1.8 GB"),
        (formats.memory, 5_340_000, "5 MB"),
        (formats.count, 12345.0, "12,345"),
        (formats.count, 33.333, "33.3"),
        (formats.count, None, "–"),
        (formats.times, 427.3, "430×"),
        (formats.times, 2.345, "2.3×"),
        (formats.times, 0.5, "0.50×"),
        (formats.times, 0.0, "–"),
    ],
)
def test_numbers_as_people_read_them(function, value, text):
    assert function(value).replace(formats.SPACE, " ") == text


def test_an_interval_has_its_unit_once_and_may_be_missing():
    assert formats.span(0.5247, 0.8423) == "52.5 to 84.2"
    assert formats.span(-0.05, 0.01) == "−5.0 to 1.0"
    assert formats.span(math.nan, 0.1) == formats.span(None, None) == ""
