"""Which utterances a corpus leaves out on purpose, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

LIMITS = ("duration", "characters_per_second", "words")
# What `re` raises at `(`, at a{99999999999}, at a replacement \g<name> without such a group, and at too many brackets.
NO_EXPRESSION = (re.error, OverflowError, IndexError, RecursionError)
EXPRESSIONS = ("drop_raw_text", "drop_text", "keep_text")


class Filters:
    """The filters of a corpus.

    Args:
        settings: their keys in the configuration; what is null or absent leaves out nothing.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._limits = [(name, settings.get(f"min_{name}"), settings.get(f"max_{name}")) for name in LIMITS]
        self._patterns = {key: re.compile(settings[key]) for key in EXPRESSIONS if settings.get(key)}
        self._languages = {name.lower() for name in settings.get("languages") or ()}
        self._speakers = set(settings.get("speakers") or ())
        self._dropped_speakers = set(settings.get("drop_speakers") or ())

    def reason(self, supervision: Mapping[str, Any], text: str, duration: float) -> str | None:
        """Return why an utterance is left out, or None: the first reason in the order of the documentation.

        Args:
            supervision: as the source gave it.
            text: after the text profile.
            duration: s, within the recording; above 0.
        """
        values = {
            "duration": duration,
            "characters_per_second": len(text) / duration if duration else float("inf"),
            "words": len(text.split()),
        }
        for name, least, most in self._limits:
            if least is not None and values[name] < least:
                return f"below min_{name}"
            if most is not None and values[name] > most:
                return f"above max_{name}"
        if self._languages and str(supervision.get("language") or "").lower() not in self._languages:
            return "not of languages"
        speaker = str(supervision.get("speaker") or "")
        if self._speakers and speaker not in self._speakers:
            return "not of speakers"
        if speaker in self._dropped_speakers:
            return "of drop_speakers"
        return self._reason_in_text(supervision.get("text") or "", text)

    def _reason_in_text(self, raw: str, text: str) -> str | None:
        for key, pattern in self._patterns.items():
            found = pattern.search(raw if key == "drop_raw_text" else text)
            if bool(found) != (key == "keep_text"):
                return f"matches {key}" if found else f"does not match {key}"
        return None


def filter_mistakes(key: str, corpus: Mapping[str, Any], splits: list[str]) -> Iterator[str]:
    """Yield a sentence for each mistake in ``filters`` that the schema cannot see."""
    settings = corpus["filters"]
    for name in LIMITS:
        least, most = settings[f"min_{name}"], settings[f"max_{name}"]
        if least is not None and most is not None and least > most:
            yield f"`{key}.filters.min_{name}` is {least}, above max_{name}, {most}: no utterance would be left"
    for name in EXPRESSIONS:
        try:
            re.compile(settings[name] or "")
        except NO_EXPRESSION as error:
            yield f"`{key}.filters.{name}` is no regular expression: {error}"
    for split in settings["splits"] or ():
        if split not in splits:
            yield f"`{key}.filters.splits` names {split!r}, which is no split of the corpus: it has {', '.join(splits)}"
