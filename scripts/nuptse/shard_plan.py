"""Which utterance goes into which shard: decided once, before any audio is read.

The order is a keyed hash of the utterance id, so a plan depends on the ids, the seed and the number
of shards only: not on the order of the manifest, the machine or a random number generator. A corpus
that grew is the exception: what was planned before stays in its shard, see ``shard_growth``.
"""

import hashlib
import zipfile
from array import array
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from nuptse.errors import UserError, make_again, write_atomically
from nuptse.jsonl import raw_lines
from nuptse.shard_growth import extended_shards


class _Row(msgspec.Struct):
    """The keys without which an utterance cannot be put into a shard; others are passed through."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    audio_filepath: Annotated[str, msgspec.Meta(min_length=1)]
    duration: Annotated[float, msgspec.Meta(gt=0)]
    offset: Annotated[float, msgspec.Meta(ge=0)] | None = None


@dataclass(frozen=True)
class ShardPlan:
    """The utterances of a manifest in shard order: shard by shard, and by hash within a shard.

    Attributes:
        offsets: for each rank, the byte at which its line starts in the manifest; int64, (N,).
        keys: for each rank, the first half of the hash of its id; uint64, (N,).
        starts: the rank at which each shard starts, and N; int64, (S + 1,), with 1 <= S <= N.
        rows: for each shard, the checksum of its lines; uint8, (S, 16), see ``RowsHash``.
        seed: key of the hash that gave the order.
        duration_s: sum of all durations, in seconds.
        manifest_bytes: size of the manifest that was planned.
        manifest_sha256: its checksum, hexadecimal.
        kept: how many utterances stand where an earlier plan had put them; not saved.
    """

    offsets: np.ndarray
    keys: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    seed: int
    duration_s: float
    manifest_bytes: int
    manifest_sha256: str
    kept: int = 0

    @property
    def num_shards(self) -> int:
        """S, the number of shards, each of which has an utterance."""
        return len(self.starts) - 1

    @property
    def utterances(self) -> int:
        """Number of utterances, all of which are in some shard."""
        return len(self.offsets)

    def lines(self, shard_id: int) -> list[int]:
        """Return where the lines of one shard start in the manifest, in bytes, in shard order."""
        if not 0 <= shard_id < self.num_shards:
            raise ValueError(f"shard {shard_id} is not one of 0..{self.num_shards - 1}")
        offsets: list[int] = self.offsets[self.starts[shard_id] : self.starts[shard_id + 1]].tolist()
        return offsets

    def identity(self) -> dict[str, int | str]:
        """Return what tells the ledgers of this plan from those of another."""
        return {
            "num_shards": self.num_shards,
            "seed": self.seed,
            "source_sha256": self.manifest_sha256,
            "rows_sha256": hashlib.sha256(self.rows.tobytes()).hexdigest(),
        }


class RowsHash:
    """The checksum of the lines of a shard, in shard order: that of the checksums of the lines, 16 bytes each."""

    def __init__(self) -> None:
        self._checksum = hashlib.blake2b(digest_size=16)

    @staticmethod
    def of_line(line: bytes) -> bytes:
        return hashlib.blake2b(line, digest_size=16).digest()

    def update(self, of_lines: bytes) -> None:
        """Append a checksum of a line, or several."""
        self._checksum.update(of_lines)

    def digest(self) -> bytes:
        return self._checksum.digest()


def shard_ranks(utterances: int, num_shards: int, shard_id: int) -> range:
    """Return the ranks that shard ``shard_id`` holds.

    The shards follow each other without a gap, so none of the ``utterances`` is dropped, and the
    sizes of any two differ by one at most.
    """
    first = shard_id * utterances // num_shards
    return range(first, (shard_id + 1) * utterances // num_shards)


def plan_shards(manifest: Path, num_shards: int, seed: int, before: ShardPlan | None = None) -> ShardPlan:
    """Spread the utterances of a NeMo manifest over ``num_shards`` shards.

    The manifest is read once, line by line; about 150 bytes of memory are used per utterance.

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
        shards, kept = extended_shards(keys, before.keys, before.starts, num_shards)
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
        offsets=np.frombuffer(offsets, dtype=np.int64)[order],
        keys=keys,
        starts=starts,
        rows=_hash_rows(np.frombuffer(of_lines, dtype="V16")[order], starts),
        seed=seed,
        duration_s=duration_s,
        manifest_bytes=end,
        manifest_sha256=checksum.hexdigest(),
        kept=kept,
    )


def _hash_rows(of_lines: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the checksum of each shard, (S, 16), from those of all lines in shard order."""
    rows = bytearray()
    for start, end in pairwise(starts.tolist()):
        checksum = RowsHash()
        checksum.update(of_lines[start:end].tobytes())
        rows += checksum.digest()
    return np.frombuffer(rows, dtype=np.uint8).reshape(-1, 16)


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


def line_at(manifest: Path, offset: int) -> bytes:
    """Return the line that starts at byte ``offset``."""
    with manifest.open("rb") as file:
        file.seek(offset)
        return file.readline()


def line_number(manifest: Path, offset: int) -> int:
    """Return the number, from 1, of the line that starts at byte ``offset``.

    It is counted only when an error has to be reported, so plans need not store it.
    """
    newlines = 0
    with manifest.open("rb") as file:
        while offset > 0 and (chunk := file.read(min(offset, 1 << 20))):
            newlines += chunk.count(b"\n")
            offset -= len(chunk)
    return newlines + 1


def save_plan(plan: ShardPlan, path: Path) -> None:
    """Write ``plan`` as NPZ; equal plans give equal bytes, because NumPy fixes the zip's dates."""
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        # A file object, because numpy appends ".npz" to a name that ends otherwise.
        np.savez(
            file,
            offsets=plan.offsets,
            keys=plan.keys,
            starts=plan.starts,
            rows=plan.rows,
            seed=np.array(str(plan.seed)),
            duration_s=np.float64(plan.duration_s),
            manifest_bytes=np.int64(plan.manifest_bytes),
            manifest_sha256=np.array(plan.manifest_sha256),
        )


def load_plan(path: Path) -> ShardPlan:
    """Read a plan that ``save_plan`` wrote.

    Raises:
        UserError: the file cannot be read or is not a plan.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return ShardPlan(
                offsets=arrays["offsets"],
                keys=arrays["keys"],
                starts=arrays["starts"],
                rows=arrays["rows"],
                seed=int(str(arrays["seed"])),
                duration_s=float(arrays["duration_s"]),
                manifest_bytes=int(arrays["manifest_bytes"]),
                manifest_sha256=str(arrays["manifest_sha256"]),
            )
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a shard plan ({error}); {make_again(path)}") from error
