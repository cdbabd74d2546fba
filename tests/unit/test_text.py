"""What each step of a text profile does to a transcript."""

import pytest

from nuptse.text import apply_profile


@pytest.mark.parametrize(
    ("text", "profile", "expected"),
    [
        ("HELLO World", [], "HELLO World"),
        ("HELLO World", ["lower"], "hello world"),
        ("straße", ["upper"], "STRASSE"),
        ("Hello, world! It’s 'fine'.", ["strip_punctuation"], "Hello world It's fine"),
        ("twenty-one", ["strip_punctuation"], "twenty one"),
        ("a \t b\u00a0 c", ["collapse_spaces"], "a b c"),
        ("ｆｕｌｌ ﬁne", ["nfkc"], "full fine"),
        ("é & co", [{"replace": {"é": "e", "&": "and"}}], "e and co"),
        ("aab", [{"replace": {"a": "1", "aa": "2"}}], "2b"),
        ("[noise] Yes", [{"replace": {"[noise]": ""}}, "lower"], "yes"),
        ("[NOISE] Yes", ["lower", {"replace": {"[noise]": ""}}], "yes"),
        ("  ...  ", ["strip_punctuation"], ""),
    ],
)
def test_profile(text, profile, expected):
    assert apply_profile(text, profile) == expected
