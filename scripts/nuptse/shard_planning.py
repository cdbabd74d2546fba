"""Decide which utterance goes into which shard, before any audio is read.

The order is a keyed hash of the utterance id, so a plan depends on the ids, the seed and the number
of shards only: not on the order of the manifest, the machine or a random number generator. A corpus
that grew is the exception: what was planned before stays in its shard, see ``shard_growth``.
"""

import hashlib
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from nuptse.errors import UserError, make_again
from nuptse.jsonl import raw_lines
from nuptse.shard_growth import extended_shards
from nuptse.shard_plan import RowsHash, ShardPlan, line_at, line_number


class _Row(msgspec.Struct):
    """The keys without which an utterance cannot be put into a shard; others are passed through."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    audio_filepath: Annotated[str, msgspec.Meta(min_length=1)]
    duration: Annotated[float, msgspec.Meta(gt=0)]
    offset: Annotated[float, msgspec.Meta(ge=0)] | None = None


def shard_ranks(utterances: int, num_shards: int, shard_id: int) -> range:
    """Return the ranks that shard ``shard_id`` holds.

    The shards follow each other without a gap, so none of the ``utterances`` is dropped, and the
    sizes of any two differ by one at most.
    """
    first = shard_id * utterances // num_shards
    return range(first, (shard_id + 1) * utterances // num_shards)


def plan_shards(manifest: Path, num_shards: int, seed: int, before: ShardPlan | None = None) -> ShardPlan:
    """Spread the utterances of a NeMo manifest over ``num_shards`` shards.

    The manifest is read once, line by line; about 80 bytes of memory are used per utterance.

    Args:
        manifest: NeMo manifest, uncompressed JSONL, one utterance a line with a unique ``id``.
        num_shards: S; at least 1 and at most the number of utterances.
        seed: any integer; another seed gives another order.
        before: an earlier plan of this corpus, whose shards are kept as far as ``extended_shards`` can.

    Raises:
        UserError: the manifest cannot be read, a line is malformed, an id occurs twice, or there
            are fewer utterances than shards.
    """
    if num_shards < 1:
        raise UserError(f"num_shards is {num_shards}; set num_shards to 1 or more")
    checksum = hashlib.sha256()
    key = hashlib.blake2b(key=str(seed).encode(), digest_size=16)
    hashes, of_lines, offsets = bytearray(), bytearray(), array("q")
    duration_s, end = 0.0, 0
    for number, line in enumerate(raw_lines(manifest), start=1):
        checksum.update(line)
        start, end = end, end + len(line)
        if line.isspace():
            continue
        row = _decode(line, manifest, number)
        hashed = key.copy()
        hashed.update(row.id.encode())
        hashes += hashed.digest()
        of_lines += RowsHash.of_line(line)
        offsets.append(start)
        duration_s += row.duration
    if len(offsets) < num_shards:
        raise UserError(_too_few(manifest, len(offsets), num_shards))
    order, keys = _hash_order(hashes, offsets, manifest)
    shards, kept = None, 0
    if before is not None and before.seed == seed:
        shards, kept = extended_shards(keys, np.asarray(before.keys), np.asarray(before.starts), num_shards)
    if shards is None:
        starts = np.array(
            [shard_ranks(len(order), num_shards, shard).start for shard in range(num_shards)] + [len(order)]
        )
        kept = 0
    else:
        in_shards = np.argsort(shards, kind="stable")
        order, keys = order[in_shards], keys[in_shards]
        starts = np.concatenate([[0], np.cumsum(np.bincount(shards, minlength=num_shards))])
    return ShardPlan(
        starts=starts.data,
        rows=memoryview(_hash_rows(np.frombuffer(of_lines, dtype="V16")[order], starts)),
        offsets=np.frombuffer(offsets, dtype=np.int64)[order].data,
        keys=keys.data,
        seed=seed,
        duration_s=duration_s,
        manifest_bytes=end,
        manifest_sha256=checksum.hexdigest(),
        kept=kept,
    )


def _hash_rows(of_lines: np.ndarray, starts: np.ndarray) -> bytearray:
    """Return the checksums of all shards, from those of all lines in shard order."""
    rows = bytearray()
    for start, end in pairwise(starts.tolist()):
        checksum = RowsHash()
        checksum.update(of_lines[start:end].tobytes())
        rows += checksum.digest()
    return rows


def _decode(line: bytes, manifest: Path, number: int) -> _Row:
    try:
        return _ROWS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{manifest}:{number}: not a NeMo manifest row: {error}; {make_again(manifest)}") from error


_ROWS = msgspec.json.Decoder(_Row)


def _too_few(manifest: Path, utterances: int, num_shards: int) -> str:
    if utterances == 0:
        return f"{manifest} has no utterances, so there is nothing to put into shards"
    return (
        f"num_shards is {num_shards} but {manifest} has only {utterances} utterances; "
        f"set num_shards to {utterances} or less"
    )


def _hash_order(hashes: bytearray, offsets: "array[int]", manifest: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of the 16-byte hashes, and their first halves in that order; equal hashes mean equal ids."""
    # Big-endian halves: comparing them as numbers is comparing the hashes as bytes.
    halves = np.frombuffer(hashes, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    halves = halves[order]
    same = (halves[1:] == halves[:-1]).all(axis=1)
    if same.any():
        twice = int(same.argmax())
        first, second = sorted(offsets[rank] for rank in order[twice : twice + 2])
        utterance = _decode(line_at(manifest, second), manifest, 0).id
        raise UserError(
            f"{manifest}: id {utterance!r} is on line {line_number(manifest, first)} and again on "
            f"line {line_number(manifest, second)}; every utterance needs an id of its own"
        )
    return order, halves[:, 0].copy()
