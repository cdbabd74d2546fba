"""Whether tar shards are what their ledger and manifests say, before a training reads them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nuptse.checksums import xxh128_of
from nuptse.errors import UserError, make_again
from nuptse.findings import ERROR, Example, Finding
from nuptse.jsonl import read_rows
from nuptse.shard_ledger import Shard, lost_shards, read_ledger

# Up to so many bytes all shards are read and their checksums compared; above, sizes and names are.
HASHED_BYTES = 500_000_000
EXAMPLES = 3


class _Row(msgspec.Struct):
    audio_filepath: str


def shard_findings(name: str, ledger: Path) -> Iterator[Finding]:
    """Yield a finding if shards are missing or damaged, or hold other utterances than their manifests list.

    Args:
        name: ``corpus/split``.
        ledger: of the whole folder of shards.
    """
    content = read_ledger(ledger)
    try:
        msgspec.convert(content["shards"], list[Shard])
    except msgspec.ValidationError as error:
        raise UserError(f"{ledger} is not a ledger of shards ({error}); {make_again(ledger)}") from None
    folder = ledger.parent / content["folder"]
    lost = set(lost_shards(ledger))
    ours = content["folder"] == "."  # others were compared with their manifests when their ledger was written
    hashed = content.get("tar_bytes", 0) <= HASHED_BYTES
    damaged: dict[str, str] = {}
    for shard in content["shards"]:
        for kind in ("tar", "manifest"):
            if shard[kind] in lost:
                damaged[shard[kind]] = "missing, or not of the size in the ledger"
            elif (hashed or kind == "manifest") and xxh128_of(folder / shard[kind]) != shard[f"{kind}_xxh128"]:
                damaged[shard[kind]] = "other bytes than in the ledger"
        if not ours or {shard["tar"], shard["manifest"]} & damaged.keys():
            continue
        if reason := _other_members(folder / shard["tar"], folder / shard["manifest"], shard["utterances"]):
            damaged[shard["tar"]] = reason
    if damaged:
        files = ", ".join(str(folder / file) for file in list(damaged)[:5])
        more = f" and {len(damaged) - 5} more (the report names some)" if len(damaged) > 5 else ""
        yield Finding(
            code="damaged_shards",
            severity=ERROR,
            subject=name,
            message="shards are not as their ledger says: audio would be missing, or have a wrong transcript",
            remedy=f"delete {files}{more}, and run again: lost shards are written anew"
            if ours
            else f"put {files}{more} back",
            count=len(damaged),
            of=2 * len(content["shards"]),
            share_of_hours=_share(content["shards"], damaged),
            examples=[Example(file, str(ledger), why) for file, why in list(damaged.items())[:EXAMPLES]],
        )


def _other_members(tar: Path, manifest: Path, utterances: int) -> str:
    """Return how the members of a tar differ from the rows of its manifest; nothing if they do not."""
    try:
        with tarfile.open(tar, "r:") as archive:
            members = [member.name for member in archive]
    except (tarfile.TarError, OSError) as error:
        return f"it is no tar: {error}"
    try:
        rows = [row.audio_filepath for row in read_rows(manifest, _Row)]
    except UserError as error:
        return str(error)
    if len(members) != utterances:
        return f"{len(members)} members, but {utterances} utterances in the ledger"
    for member, row in zip(members, rows, strict=False):
        if member != row:
            return f"member {member} stands where the manifest has {row}"
    return "" if len(members) == len(rows) else f"{len(members)} members, but {len(rows)} rows in the manifest"


def _share(shards: list[dict[str, object]], damaged: dict[str, str]) -> float:
    seconds = [(float(str(s["duration_s"])), s["tar"] in damaged or s["manifest"] in damaged) for s in shards]
    return round(sum(part for part, bad in seconds if bad) / max(1e-9, sum(part for part, _ in seconds)), 6)
