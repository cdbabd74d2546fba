"""The account of an import, and whether the audio that it listed is still as it was.

Standard library only, because Snakemake reads it when it parses the rules.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nuptse.errors import write_atomically

LEDGER = "ledger.json"
FILES = "files.jsonl"
# A quarter of a second on a local disk, some seconds on a network file system.
MOST_LOOKS = 50_000


@dataclass
class LeftOut:
    """Utterances that were left out for one reason; ``seconds`` adds up the durations that are known."""

    utterances: int = 0
    seconds: float = 0.0
    unknown_duration: int = 0

    def add(self, seconds: float | None) -> None:
        self.utterances += 1
        self.seconds += seconds or 0.0
        self.unknown_duration += seconds is None


@dataclass
class PartAccount:
    """What became of the rows of one part: ``rows`` = ``supervisions`` + all of ``left_out``, in utterances.

    ``unused_recordings`` have no utterance in this part, and so come neither in nor out.
    """

    rows: int = 0
    supervisions: int = 0
    seconds: float = 0.0
    recordings: int = 0
    recording_seconds: float = 0.0
    unused_recordings: int = 0
    left_out: dict[str, LeftOut] = field(default_factory=dict)

    def leave_out(self, reason: str, seconds: float | None) -> None:
        self.left_out.setdefault(reason, LeftOut()).add(seconds)

    def __str__(self) -> str:
        known = self.seconds + sum(left.seconds for left in self.left_out.values())
        left = "; ".join(
            f"left out, {reason}: {amount.utterances} utterances, {amount.seconds / 3600:.3f} h"
            + (f" (duration unknown: {amount.unknown_duration})" if amount.unknown_duration else "")
            for reason, amount in sorted(self.left_out.items())
        )
        return (
            f"in: {self.rows} utterances, {known / 3600:.3f} h; out: {self.supervisions} utterances,"
            f" {self.seconds / 3600:.3f} h, of {self.recordings} recordings, {self.recording_seconds / 3600:.3f} h;"
            f" {left or 'left out: 0'}"
            + (f"; recordings without an utterance: {self.unused_recordings}" if self.unused_recordings else "")
        )


@dataclass
class Account:
    """What an import made of its source.

    Attributes:
        corpus: its name.
        source: kind of the source, such as ``table``.
        parts: by name.
        converted: FLAC files that were made of audio which could not be used as it is.
        unpacked: audio files that were taken out of a container.
        changes: what :func:`changes_since` has found so far.
    """

    corpus: str
    source: str
    parts: dict[str, PartAccount] = field(default_factory=dict)
    converted: int = 0
    unpacked: int = 0
    changes: list[str] = field(default_factory=list)

    def part(self, name: str) -> PartAccount:
        return self.parts.setdefault(name, PartAccount())

    def __str__(self) -> str:
        lines = [f"{self.corpus}/{name}: {part}" for name, part in sorted(self.parts.items())]
        lines.append(f"{self.corpus}: converted to FLAC: {self.converted}; unpacked: {self.unpacked}")
        return "\n".join(lines)


def write_account(account: Account, files: Iterable[tuple[str, int]], folder: Path) -> None:
    """Write the account, and the audio files that it speaks of, sorted, with their sizes as of ``size_of``."""
    count = 0
    with write_atomically(folder / FILES) as partial, partial.open("w", encoding="utf-8") as lines:
        for count, (path, size) in enumerate(files, start=1):  # noqa: B007 -- the ledger says how many there are
            lines.write(f"[{json.dumps(path)}, {size}]\n")  # a list of both takes four times as long
    content = asdict(account) | {"files": count}
    content["parts"] = {name: asdict(part) for name, part in sorted(account.parts.items())}
    with write_atomically(folder / LEDGER) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def unused_recordings(folder: Path, parts: Iterable[str]) -> int:
    """Return how many recordings of these parts have no utterance, as their import counted; 0 without an account."""
    path = folder / LEDGER
    found = json.loads(path.read_bytes())["parts"] if path.is_file() else {}
    return sum(found[part].get("unused_recordings", 0) for part in parts if part in found)


def changes_since(folder: Path) -> list[str]:
    """Return the changes that the audio of an import has had and has, one text for each.

    Snakemake looks at none of these files. As a param this list makes it see that one is gone, there again or of
    another size. The next import keeps the list in its account, so that the param stays as it is from then on.
    Of many files only every so manyth is looked at: each look is a question to the file system at every start.
    """
    try:
        ledger = json.loads((folder / LEDGER).read_bytes())
        entries: list[str] = list(ledger["changes"])
        with (folder / FILES).open(encoding="utf-8") as lines:
            looked_at = map(json.loads, islice(lines, 0, None, math.ceil(ledger["files"] / MOST_LOOKS) or 1))
            changed = [(path, now) for path, size in looked_at if (now := size_of(path)) != size]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # not imported yet
    if changed:
        digest = hashlib.blake2b(json.dumps(changed).encode(), digest_size=8).hexdigest()
        entries.append(f"{len(entries) + 1}: {len(changed)} audio files, {digest}")
    return entries


def size_of(path: str) -> int:
    """Return the size of a file, bytes; -1: it is not there."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return -1


def as_text(value: Any) -> str:
    """Return a name fit for a message or a JSON file: bytes that are not text, and control characters, are escaped."""
    text = str(value).encode(errors="backslashreplace").decode()
    return text if text.isprintable() else repr(text)
