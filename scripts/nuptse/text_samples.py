"""What a text profile does to the transcripts of a split: step by step, in numbers and in samples."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nuptse.text import Profile, Step

UNCHANGED, EMPTY = "unchanged", "empty"
SHOWN = 12  # characters of a list on the terminal; the file has all


@dataclass
class Effect:
    """What one step did: to how many utterances, and which characters it took out and put in, by how often."""

    step: Step
    utterances: int = 0
    gone: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)

    def add(self, before: str, after: str) -> None:
        self.utterances += 1
        self.gone += Counter(before)
        self.new += Counter(after)


class _Draw:
    """The ``size`` texts with the smallest hash of their id: a random sample that new data hardly changes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, str, str]] = []

    def offer(self, name: str, text: str) -> None:
        entry = (-int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"), name, text)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def texts(self) -> dict[str, str]:
        return {name: text for _, name, text in self._heap}


def sample_texts(
    supervisions: Iterable[Mapping[str, Any]], steps: Sequence[Step], language: str, size: int
) -> dict[str, Any]:
    """Return what the steps of a profile do to the transcripts of a split.

    Args:
        supervisions: with ``id`` and ``text``.
        steps: the text profile.
        language: tag of the transcripts (BCP 47).
        size: samples at most of each kind: those that a step changes, for each step; those that are left without text;
            and those that nothing changes.

    Returns:
        ``utterances``, ``changed``, ``empty`` (utterances); ``steps``, a list with ``step``, ``utterances`` (that it
        changed), ``gone`` and ``new`` (net, by character); ``characters`` of the result by count; and ``samples``, a
        list with ``id``, ``before``, ``after`` and ``steps`` (``step`` and ``text`` of each that changed it).
    """
    profile = Profile(steps, language)
    effects = [Effect(step) for step in steps]
    draws: dict[Any, _Draw] = {kind: _Draw(size) for kind in (*range(len(steps)), EMPTY, UNCHANGED)}
    counts, characters = Counter[Any](), Counter[str]()
    total = 0
    for total, supervision in enumerate(supervisions, start=1):  # noqa: B007 -- what is returned says how many
        before = supervision.get("text") or ""
        texts = [before, *profile.trace(before)]
        changed = [n for n in range(len(steps)) if texts[n] != texts[n + 1]]
        for number in changed:
            effects[number].add(texts[number], texts[number + 1])
        after = texts[-1].strip()
        kinds = [*changed, *([] if changed else [UNCHANGED]), *([] if after else [EMPTY])]
        for kind in kinds:
            counts[kind] += 1
            draws[kind].offer(supervision["id"], before)
        characters.update(after)
    drawn = {name: text for draw in draws.values() for name, text in draw.texts().items()}
    return {
        "utterances": total,
        "changed": total - counts[UNCHANGED],
        "empty": counts[EMPTY],
        "steps": [_as_row(effect) for effect in effects],
        "characters": _by_count(characters),
        "samples": [_sample(name, drawn[name], profile, steps) for name in sorted(drawn)],
    }


def _sample(name: str, before: str, profile: Profile, steps: Sequence[Step]) -> dict[str, Any]:
    texts = [before, *profile.trace(before)]
    made = [{"step": step, "text": texts[n + 1]} for n, step in enumerate(steps) if texts[n] != texts[n + 1]]
    return {"id": name, "before": before, "after": texts[-1].strip(), "steps": made}


def _as_row(effect: Effect) -> dict[str, Any]:
    both = effect.gone & effect.new
    gone, new = effect.gone - both, effect.new - both
    return {"step": effect.step, "utterances": effect.utterances, "gone": _by_count(gone), "new": _by_count(new)}


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def in_words(report: Mapping[str, Any]) -> str:
    """Return the samples of ``sample_texts`` as text for a terminal."""
    return "\n".join(_lines(report))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{report['corpus']}/{report['split']}: {report['utterances']} utterances; the text profile changes"
        f" {report['changed']}, and leaves {report['empty']} without text"
    )
    for number, row in enumerate(report["steps"], start=1):
        changes = [f"{word} {_listed(row[key])}" for word, key in (("less", "gone"), ("more", "new")) if row[key]]
        yield f"  {number}. {_name(row['step'])}: changes {row['utterances']}" + "".join(f"; {c}" for c in changes)
    yield f"  {len(report['characters'])} characters in the result: {_listed(report['characters'], None)}"
    for sample in report["samples"]:
        lines = [("before", sample["before"]), *((_name(made["step"]), made["text"]) for made in sample["steps"])]
        yield f"  {sample['id']}" + ("" if sample["steps"] else " (unchanged)")
        width = max(len(name) for name, _ in lines)
        yield from (f"    {name:<{width}}  {text}" for name, text in lines)


def _name(step: Step) -> str:
    return step if isinstance(step, str) else next(iter(step))


def _listed(counts: Mapping[str, int], most: int | None = SHOWN) -> str:
    items: Iterable[tuple[str, int]] = list(counts.items())[:most]
    more = len(counts) - (most or len(counts))
    shown = ", ".join(f"{'space' if c == ' ' else c if c.isprintable() else repr(c)[1:-1]} {n}" for c, n in items)
    return shown + (f" and {more} more" if more > 0 else "")
