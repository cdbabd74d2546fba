"""The ledger of a group of tar shards or of a whole folder: which files belong together, and how large they are.

Standard library only, because Snakemake reads ledgers when it parses the rules.
"""

import json
import math
import os
from pathlib import Path
from typing import Any, TypedDict

from nuptse.checksums import xxh128_of
from nuptse.errors import UserError, make_again, write_atomically


class Shard(TypedDict):
    """One shard in a ledger; ``tar`` and ``manifest`` are relative to the folder of the shards."""

    shard_id: int
    utterances: int
    duration_s: float
    tar: str
    tar_bytes: int
    tar_xxh128: str
    manifest: str
    manifest_bytes: int
    manifest_xxh128: str


# --- Which shards one job writes ---


def num_groups(num_shards: int, shards_per_job: int) -> int:
    """Return how many jobs write ``num_shards`` shards, ``shards_per_job`` each, the last one fewer."""
    if num_shards < 1 or shards_per_job < 1:
        raise UserError(f"num_shards is {num_shards} and shards_per_job is {shards_per_job}; set both to 1 or more")
    return math.ceil(num_shards / shards_per_job)


def group_shards(group: int, shards_per_job: int, num_shards: int) -> range:
    """Return the ids of the shards that job ``group`` (from 0) writes."""
    groups = num_groups(num_shards, shards_per_job)
    if not 0 <= group < groups:
        raise UserError(f"there is no group {group}: {num_shards} shards make groups 0 to {groups - 1}")
    return range(group * shards_per_job, min((group + 1) * shards_per_job, num_shards))


# --- The file ---


def write_ledger(ledger: Path, output_dir: Path, content: dict[str, Any]) -> None:
    """Write ``content`` and where the folder of the shards is, as JSON."""
    # Relative to the ledger, so that the folder can be moved or mounted elsewhere.
    folder = os.path.relpath(output_dir, ledger.parent)
    with write_atomically(ledger) as temporary:
        temporary.write_text(json.dumps({"folder": folder, **content}, indent=1) + "\n", "utf-8")


def read_ledger(ledger: Path) -> dict[str, Any]:
    """Read the ledger of a group or of a whole folder.

    Raises:
        UserError: it is missing, or not a ledger.
    """
    try:
        content = json.loads(ledger.read_bytes())
        if not isinstance(content, dict) or not isinstance(content.get("folder"), str):
            raise ValueError("it has no folder")
        if not isinstance(content.get("shards"), list) or not all(map(_is_shard, content["shards"])):
            raise ValueError("it has no shards")
    except OSError as error:
        raise UserError(f"cannot read {ledger}: {error.strerror}; run the workflow again") from error
    except ValueError as error:
        raise UserError(f"{ledger} is not a ledger of shards ({error}); {make_again(ledger)}") from error
    return content


def _is_shard(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(kind), str) for kind in ("tar", "manifest"))


def lost_shards(ledger: Path) -> list[str]:
    """Return the files of a ledger that are missing or have another size, relative to their folder.

    Nothing is read but the sizes, two per shard.
    """
    content = read_ledger(ledger)
    # Strings, not paths: Snakemake asks for every shard each time it starts, and Path takes four times as long.
    folder = os.path.join(ledger.parent, content["folder"])
    lost = []
    for shard in content["shards"]:
        for kind in ("tar", "manifest"):
            try:
                size = os.stat(os.path.join(folder, shard[kind])).st_size
            except (OSError, ValueError):  # a name with a null byte
                size = -1
            if size != shard.get(f"{kind}_bytes"):
                lost.append(shard[kind])
    return lost


def repairs(ledger: Path) -> list[str]:
    """Return the repairs that the shards of a group have had and need, such as "1: audio_3.tar".

    Snakemake sees only the ledger of a group, so it would not notice that a shard was deleted. As a
    param of the rule, this list does: it changes when a shard is lost, which makes the rule run
    again. The run keeps the list in the new ledger, so that the param stays as it is from then on.
    """
    if not ledger.exists():
        return []
    entries = list(read_ledger(ledger).get("repairs", []))
    if lost := lost_shards(ledger):
        entries.append(f"{len(entries) + 1}: {', '.join(lost)}")
    return entries


def check_shards(ledger: Path, full: bool = False) -> None:
    """Check that all files of a ledger are there, before a training that needs them.

    Args:
        ledger: of a group or of a whole folder.
        full: also read the files and compare their checksums, not only their sizes.

    Raises:
        UserError: a file is missing, has another size or (``full``) other bytes.
    """
    content = read_ledger(ledger)
    folder = ledger.parent / content["folder"]
    if lost := lost_shards(ledger):
        names = ", ".join(str(folder / name) for name in lost[:5])
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise UserError(
            f"{names}{more}: missing or not of the size in {ledger}; "
            "run the workflow again, which writes lost shards anew"
        )
    for shard in content["shards"] if full else []:
        for kind in ("tar", "manifest"):
            if xxh128_of(folder / shard[kind]) != shard[f"{kind}_xxh128"]:
                raise UserError(
                    f"{folder / shard[kind]}: other bytes than in {ledger}; "
                    "delete it and run the workflow again, which writes lost shards anew"
                )
