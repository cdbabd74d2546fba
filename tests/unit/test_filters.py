"""Each filter leaves out what it should, and says why."""

import pytest

from nuptse.filters import Filters

UTTERANCE = {"speaker": "anna", "language": "English", "text": "Yes [noise], no"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, None),
        ({"min_duration": 2.0, "max_duration": 2.0}, None),
        ({"min_duration": 2.1}, "below min_duration"),
        ({"max_duration": 1.9}, "above max_duration"),
        ({"min_characters_per_second": 3.0, "max_characters_per_second": 3.0}, None),
        ({"min_characters_per_second": 3.1}, "below min_characters_per_second"),
        ({"max_characters_per_second": 2.9}, "above max_characters_per_second"),
        ({"min_words": 2, "max_words": 2}, None),
        ({"min_words": 3}, "below min_words"),
        ({"max_words": 1}, "above max_words"),
        ({"languages": ["ENGLISH"]}, None),
        ({"languages": ["he"]}, "not of languages"),
        ({"speakers": ["anna"]}, None),
        ({"speakers": ["ben"]}, "not of speakers"),
        ({"drop_speakers": ["anna"]}, "of drop_speakers"),
        ({"drop_raw_text": "noise"}, "matches drop_raw_text"),
        ({"drop_text": "noise"}, None),
        ({"drop_text": r"\bno$"}, "matches drop_text"),
        ({"keep_text": "^[a-z ]+$"}, None),
        ({"keep_text": "^[a-y]+$"}, "does not match keep_text"),
        ({"min_duration": 3, "max_words": 1}, "below min_duration"),
    ],
)
def test_filter(settings, reason):
    assert Filters(settings).reason(UTTERANCE, "yes no", 2.0) == reason


def test_what_the_source_does_not_say_is_not_wanted():
    assert Filters({"languages": ["en"]}).reason({}, "yes", 1.0) == "not of languages"
    assert Filters({"speakers": ["anna"]}).reason({"speaker": None}, "yes", 1.0) == "not of speakers"
