"""What each shard was made from, so that it is written again only if that changed.

``DIR/ledger/shards/{i}.json`` is the record of shard i: its row in the ledger, and ``made_from``. While a group is
being written, its finished shards stand aside with their records: a killed job goes on with the next shard.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from nuptse.errors import refused_by_the_disk
from nuptse.shard_ledger import Shard


def record_name(shard_id: int) -> str:
    """Return the name of the record of a shard, relative to the folder of the shards."""
    return f"ledger/shards/{shard_id}.json"


def aside(path: Path) -> Path:
    """Name a file until its whole group is written. A later attempt overwrites what a killed one left."""
    return path.with_name(path.name + ".part")


def state_of(audio: os.stat_result) -> bytes:
    """Return what changes with an audio file, without reading it: its size and time."""
    return b"%d %d" % (audio.st_size, audio.st_mtime_ns)


def state_at(audio: str) -> bytes:
    """Return the state of the file of this name; one that is missing has none."""
    try:
        return state_of(os.stat(audio))
    except OSError:
        return b"missing"


def made_from(code: str, rows: bytes, states: Iterable[bytes]) -> str:
    """Return what a shard is made from, hexadecimal: our code, the checksum of its lines, and its audio files."""
    checksum = hashlib.blake2b(f"{code}\n{rows.hex()}".encode(), digest_size=16)
    for state in states:
        checksum.update(b"\n" + state)
    return checksum.hexdigest()


def code_state(files: Iterable[Path]) -> str:
    """Return the checksum of some source files: shards that other code wrote are not kept."""
    checksum = hashlib.blake2b(digest_size=16)
    for file in files:
        checksum.update(file.read_bytes())
    return checksum.hexdigest()


def has_record(output_dir: Path, shard_id: int) -> bool:
    """Return whether a shard was ever written here."""
    record = output_dir / record_name(shard_id)
    return record.exists() or aside(record).exists()


def written_before(output_dir: Path, shard_id: int, origin: str) -> tuple[Shard | None, bool]:
    """Return the row of a shard that was made from the same and is still there, and whether it stands aside."""
    record = output_dir / record_name(shard_id)
    for path in (record, aside(record)):
        content = _read(path)
        if content is not None and content.pop("made_from", None) == origin:
            shard, is_aside = cast(Shard, content), path != record
            sizes = {shard["tar"]: shard["tar_bytes"], shard["manifest"]: shard["manifest_bytes"]}
            if all(_has_size(output_dir / name, size, is_aside) for name, size in sizes.items()):
                return shard, is_aside
    return None, False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # none, or a write that was cut short: the shard is written again
    return content if isinstance(content, dict) else None


def _has_size(path: Path, size: int, is_aside: bool) -> bool:
    try:
        return (aside(path) if is_aside else path).stat().st_size == size
    except OSError:
        return False


def write_record(output_dir: Path, shard: Shard, origin: str) -> None:
    """Write the record of a shard that stands aside, beside it."""
    path = aside(output_dir / record_name(shard["shard_id"]))
    with refused_by_the_disk(path):
        path.write_text(json.dumps({**shard, "made_from": origin}) + "\n", "utf-8")


def publish(output_dir: Path, shard: Shard) -> None:
    """Give a shard that stands aside, and its record, their names."""
    record = output_dir / record_name(shard["shard_id"])
    # The old record must not vouch for files that are being replaced.
    record.unlink(missing_ok=True)
    for path in (output_dir / shard["tar"], output_dir / shard["manifest"], record):
        aside(path).replace(path)
