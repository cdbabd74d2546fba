"""The plan of tar shards: which utterance goes into which, see ``shard_planning``; and the file that keeps it.

The file has one line of JSON, filled up with spaces, and then the arrays of ``_ARRAYS`` one after the other, in the
byte order of the machine. It is mapped into memory, so that a job which writes a few shards of a large corpus reads
only their part; and no NumPy is needed, whose import takes longer than a small shard.
"""

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any, Literal, NamedTuple

import xxhash

from nuptse.errors import UserError, make_again, write_atomically

_CHECKSUM_BYTES = 16


class ShardPlan(NamedTuple):
    """The utterances of a manifest in shard order: shard by shard, and by hash within a shard.

    Attributes:
        starts: the rank at which each shard starts, and N; int64, (S + 1,), with 1 <= S <= N.
        rows: for each shard, the checksum of its lines, see ``RowsHash``; bytes, (16 S,).
        offsets: for each rank, the byte at which its line starts in the manifest; int64, (N,).
        keys: for each rank, the first half of the hash of its id; uint64, (N,).
        seed: key of the hash that gave the order.
        duration_s: sum of all durations, in seconds.
        manifest_bytes: size of the manifest that was planned.
        manifest_sha256: its checksum, hexadecimal.
        kept: how many utterances stand where an earlier plan had put them; not saved.
    """

    starts: memoryview
    rows: memoryview
    offsets: memoryview
    keys: memoryview
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
        return self.offsets[self.starts[shard_id] : self.starts[shard_id + 1]].tolist()

    def checksum(self, shard_id: int) -> bytes:
        """Return that of the lines of one shard."""
        return bytes(self.rows[shard_id * _CHECKSUM_BYTES : (shard_id + 1) * _CHECKSUM_BYTES])

    def identity(self) -> dict[str, int | str]:
        """Return what tells the ledgers of this plan from those of another."""
        return {
            "num_shards": self.num_shards,
            "seed": self.seed,
            "source_sha256": self.manifest_sha256,
            "rows_sha256": hashlib.sha256(self.rows).hexdigest(),
        }


class RowsHash:
    """The checksum of the lines of a shard, in shard order: that of the checksums of the lines, 16 bytes each."""

    def __init__(self) -> None:
        self._checksum = xxhash.xxh3_128()

    @staticmethod
    def of_line(line: bytes) -> bytes:
        return xxhash.xxh3_128_digest(line)

    def update(self, of_lines: bytes) -> None:
        """Append a checksum of a line, or several."""
        self._checksum.update(of_lines)

    def digest(self) -> bytes:
        return self._checksum.digest()


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


# With their types, as ``struct`` names them.
_ARRAYS: dict[str, Literal["q", "B", "Q"]] = {"starts": "q", "rows": "B", "offsets": "q", "keys": "Q"}
_HEADER = ("seed", "duration_s", "manifest_bytes", "manifest_sha256")


def save_plan(plan: ShardPlan, path: Path) -> None:
    """Write ``plan``; equal plans give equal bytes."""
    sizes = {"utterances": plan.utterances, "num_shards": plan.num_shards}
    header = json.dumps(sizes | {name: getattr(plan, name) for name in _HEADER})
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(f"{header:<{64 * (len(header) // 64 + 1) - 1}}\n".encode())  # the arrays start at a multiple of 64
        for name in _ARRAYS:
            file.write(getattr(plan, name))


def load_plan(path: Path) -> ShardPlan:
    """Read a plan that ``save_plan`` wrote.

    Raises:
        UserError: the file cannot be read or is not a plan.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 10)
            header = json.loads(line)
            utterances, num_shards = int(header["utterances"]), int(header["num_shards"])
            lengths = (num_shards + 1, num_shards * _CHECKSUM_BYTES, utterances, utterances)
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        fields: dict[str, Any] = {name: header[name] for name in _HEADER}
        start = len(line)
        for (name, kind), length in zip(_ARRAYS.items(), lengths, strict=True):
            end = start + length * (1 if kind == "B" else 8)
            fields[name] = content[start:end].cast(kind)
            start = end
        if start != len(content):
            raise ValueError(f"it has {len(content)} bytes, {start} expected")
        return ShardPlan(**fields)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a shard plan ({error}); {make_again(path)}") from error
