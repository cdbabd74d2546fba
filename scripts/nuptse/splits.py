"""Which split an utterance belongs to: the source's own part, or a keyed hash of who speaks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nuptse.errors import UserError
from nuptse.ledgers import Amount
from nuptse.utterances import ORIGINAL

# Where a supervision says what may not be in two splits.
FIELDS = {"speaker": "speaker", "recording": "recording_id", "utterance": "id"}
KEYS_TO_TRY = 200


def split_names(corpus: Mapping[str, Any]) -> list[str]:
    """Return the splits of a corpus of the configuration: those of the source's parts, then those made by shares."""
    return list(dict.fromkeys([*corpus["splits"], *(corpus["split_by"] or {"shares": {}})["shares"]]))


def parts_of(corpus: Mapping[str, Any], split: str) -> list[str]:
    """Return the source's parts that a split is taken from."""
    if split in corpus["splits"]:
        return [corpus["splits"][split]]
    parts: list[str] = corpus["split_by"]["parts"]
    return parts


def origin_of(corpus: Mapping[str, Any], split: str) -> str:
    """Say in words where a split is taken from."""
    parts = " + ".join(parts_of(corpus, split))
    if split in corpus["splits"]:
        return parts
    unit = corpus["split_by"]["unit"]
    by = unit if isinstance(unit, str) else ", else ".join(unit)
    return f"{corpus['split_by']['shares'][split]:.4g} of {parts} by {by}"


def split_mistakes(key: str, corpus: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each mistake that the schema cannot see."""
    if not split_names(corpus):
        yield f"`{key}` has neither `splits` nor `split_by`: name the source's parts, or say how to make splits"
    if corpus["split_by"] is None:
        return
    shares, parts = corpus["split_by"]["shares"], corpus["split_by"]["parts"]
    if abs(sum(shares.values()) - 1) > 1e-6:
        yield f"`{key}.split_by.shares` add up to {sum(shares.values()):.4g}, not to 1: {_in_words(shares)}"
    for split in shares:
        if split in corpus["splits"]:
            yield f"`{key}.splits.{split}` and `{key}.split_by.shares.{split}` have one name: rename one"
    for split, part in corpus["splits"].items():
        if part in parts:
            yield (
                f"`{key}.splits.{split}` is the part {part!r}, which `{key}.split_by.parts` divides again: its"
                " utterances would be in two splits"
            )


def _in_words(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in sorted(shares.items()))


@dataclass
class Shares:
    """How utterances are dealt out to splits.

    Args:
        unit: what stays together: ``speaker``, ``recording`` or ``utterance``, or several to be tried in turn.
        key: another text deals anew.
        shares: of each split, above 0; they add up to 1.
    """

    unit: str | list[str]
    key: str
    shares: Mapping[str, float]

    @property
    def noun(self) -> str:
        return f"{self.unit}s" if isinstance(self.unit, str) else "units"

    def unit_of(self, supervision: Mapping[str, Any]) -> str | None:
        """Return what a supervision may not be parted from, or None where it does not say."""
        for unit in [self.unit] if isinstance(self.unit, str) else self.unit:
            # The channels of one call are recordings of their own, and belong together all the same.
            whole = (supervision.get("custom") or {}).get(ORIGINAL) if unit == "recording" else None
            if (name := whole or supervision.get(FIELDS[unit])) not in (None, ""):
                return str(name)
        return None

    def split_of(self, unit: str, key: str | None = None) -> str:
        """Return the split of a unit: it depends on the unit, the key and the shares, and on no other data.

        The hash is a number from 0 to 1; the splits, by name, lie beside each other there, each as wide as its share.
        """
        digest = hashlib.blake2b(unit.encode(), key=(key or self.key).encode(), digest_size=8).digest()
        place, edge = int.from_bytes(digest, "big") / 2**64, 0.0
        for split in sorted(self.shares):
            edge += self.shares[split]
            if place < edge:
                return split
        return max(self.shares)  # the edges may add up to a little less than 1


@dataclass
class Dealt:
    """How much fell to each split, and the audio of each unit in seconds."""

    corpus: str
    shares: Shares
    amounts: dict[str, Amount]
    seconds: dict[str, float]

    def check(self, split: str) -> None:
        """Raise a ``UserError`` if nothing fell to the split."""
        if not self.amounts[split].utterances:
            raise UserError("\n".join([*self.lines(), self._advice(f"nothing fell to {split}")]))

    def lines(self) -> list[str]:
        """Return a line for each split: units, utterances, hours, and the share of hours beside the share wanted."""
        units = Counter(map(self.shares.split_of, self.seconds))
        return [
            f"{self.corpus}/{split}: {units[split]} {self.shares.noun}, {amount}, {self._share(split):.1%}"
            f" of the audio; wanted {self.shares.shares[split]:.1%}"
            for split, amount in self.amounts.items()
        ]

    def warnings(self) -> list[str]:
        """Return a warning where a share came out less than half, or more than half as much again, as it was wanted."""
        far = [
            f"{split} has {self._share(split):.1%} of the audio instead of {wanted:.1%}"
            for split, wanted in sorted(self.shares.shares.items())
            if not 0.5 <= self._share(split) / wanted <= 1.5
        ]
        return [self._advice("; ".join(far))] if far else []

    def _share(self, split: str) -> float:
        return self.amounts[split].seconds / (sum(self.seconds.values()) or 1.0)

    def _advice(self, found: str) -> str:
        """Say what came out, why, and which key would deal better, if one does."""
        why = f"{self.corpus}: {found}: {len(self.seconds)} {self.shares.noun} are few for these shares"
        farthest, key = min((self._farthest(key), key) for key in map(str, range(KEYS_TO_TRY)))
        if farthest < self._farthest(self.shares.key):
            return (
                f'{why}; with `corpora.{self.corpus}.split_by.key: "{key}"` none would miss its share by more than'
                f" {farthest:.0%} of it"
            )
        return f"{why}; ask for fewer splits or larger shares"

    def _farthest(self, key: str) -> float:
        """Return by how much the worst split would miss its share, relative to it."""
        total, dealt = sum(self.seconds.values()) or 1.0, dict.fromkeys(self.shares.shares, 0.0)
        for unit, seconds in self.seconds.items():
            dealt[self.shares.split_of(unit, key)] += seconds
        return max(abs(dealt[name] / total / share - 1) for name, share in self.shares.shares.items())


def deal(corpus: str, shares: Shares, supervisions: Iterable[Mapping[str, Any]]) -> Dealt:
    """Deal out the supervisions of a corpus.

    Raises:
        UserError: a supervision without speaker, where speakers are not to be parted.
    """
    dealt = Dealt(corpus, shares, {split: Amount() for split in sorted(shares.shares)}, {})
    lacking, total = [], 0
    for total, row in enumerate(supervisions, start=1):  # noqa: B007 -- the message says how many there are
        unit = shares.unit_of(row)
        if unit is None:
            lacking.append(row["id"])
        else:
            dealt.amounts[shares.split_of(unit)].add(row["duration"])
            dealt.seconds[unit] = dealt.seconds.get(unit, 0.0) + row["duration"]
    if lacking:
        raise UserError(
            f"`corpora.{corpus}.split_by.unit` is {shares.unit}, but {len(lacking)} of {total} utterances"
            f" have none, such as {', '.join(lacking[:3])}: name the speakers in the source, or set `unit: [speaker,"
            " recording]` if nobody speaks in two recordings, or `unit: utterance` if the splits may share voices"
        )
    return dealt
