"""Tar shards of NeMo that a user has already, used as they are: checked, and entered in a ledger."""

from __future__ import annotations

import math
import os
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import xxhash

from nuptse.checksums import xxh128_of
from nuptse.errors import UserError, write_atomically
from nuptse.jsonl import row_writer
from nuptse.ledgers import Ledger
from nuptse.shard_ledger import Shard, write_ledger

SHOWN = 3
# What NeMo's reader looks for in the names of files.
_MANIFEST = re.compile(r"manifest[^/]*_(\d+)[^/]*\.json")
_TAR = re.compile(r"audio[^/]*_(\d+)[^/]*\.tar")
# Several rows may share a member of the tar: "x-sub1.wav" is a segment of "x.wav".
_SEGMENT = re.compile(r"^(.+)-sub\d+(\.\w+)$")


class _Row(msgspec.Struct):
    audio_filepath: str
    duration: float
    text: str
    shard_id: int | None = None
    id: str | int | None = None
    offset: float | None = None
    # NeMo passes over a row for which this is true, whatever it is; its audio is in the tar all the same.
    skip: Any = msgspec.field(name="_skipme", default=False)


@dataclass(frozen=True)
class _Manifest:
    """The rows of one shard, and the file that they stand in."""

    path: str
    rows: list[_Row]

    @property
    def seconds(self) -> list[float]:
        """Return the durations of the rows that NeMo trains on."""
        return [row.duration for row in self.rows if not row.skip]


def index_nemo_shards(
    manifests: Sequence[str],
    tars: Sequence[str],
    output_dir: Path,
    cuts: Path,
    ledger: Ledger,
    threads: int,
    **kept: Any,
) -> dict[str, Any]:
    """Check shards that are used as they are; write their ledger, the manifest of all rows, and cuts without audio.

    The cuts are for what needs no audio: duration bins and tokenizers. Rows with ``_skipme`` are in the tars and their
    manifests, but neither in the cuts nor in the counts.

    Args:
        manifests: one for each shard, or one for all, whose rows then have ``shard_id``.
        tars: one for each shard.
        output_dir: gets ``ledger.json`` and ``tarred_audio_manifest.json``.
        cuts: output, ``.jsonl.gz``.
        ledger: of utterances; is filled in.
        threads: tars that are read at a time.
        kept: further entries of the ledger of shards.

    Returns:
        The ledger of shards as it was written.

    Raises:
        UserError: a file is missing or damaged, or a manifest and its tar have not the same utterances, or all
            rows have ``_skipme``.
    """
    rows = _rows_by_shard(manifests)
    paths = _by_number(tars, _TAR)
    if rows.keys() != paths.keys():
        odd = sorted(rows.keys() ^ paths.keys())
        raise UserError(
            f"manifests and tars are not of the same shards: {len(rows)} and {len(paths)}; only one of the two has"
            f" shard {odd[0]}"
        )
    with ThreadPoolExecutor(max(1, threads)) as pool:
        checksums = {path: pool.submit(xxh128_of, path) for path in dict.fromkeys(m.path for m in rows.values())}
        checked = [pool.submit(_check_shard, number, rows[number], paths[number]) for number in sorted(rows)]
        tar_sums = [found.result() for found in checked]
    folder = Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in [*manifests, *tars]]))
    shards = [
        Shard(
            shard_id=number,
            utterances=len(rows[number].seconds),
            duration_s=round(math.fsum(rows[number].seconds), 6),
            tar=os.path.relpath(paths[number], folder),
            tar_bytes=os.path.getsize(paths[number]),
            tar_xxh128=tar_sum,
            manifest=os.path.relpath(rows[number].path, folder),
            manifest_bytes=os.path.getsize(rows[number].path),
            manifest_xxh128=checksums[rows[number].path].result(),
        )
        for number, tar_sum in zip(sorted(rows), tar_sums, strict=True)
    ]
    with write_atomically(output_dir / "tarred_audio_manifest.json") as partial, partial.open("wb") as all_rows:
        for path in checksums:
            with open(path, "rb") as part:
                all_rows.writelines(line if line.endswith(b"\n") else line + b"\n" for line in part)
    _write_cuts(rows, cuts, ledger)
    content = {
        **kept,
        "num_shards": len(shards),
        "utterances": sum(shard["utterances"] for shard in shards),
        "duration_s": round(math.fsum(shard["duration_s"] for shard in shards), 6),
        "tar_bytes": sum(shard["tar_bytes"] for shard in shards),
        "shards": shards,
    }
    write_ledger(output_dir / "ledger.json", folder, content)
    return content


def _by_number(paths: Sequence[str], pattern: re.Pattern[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for path in paths:
        match = pattern.search(path)
        if match is None:
            raise UserError(f"{path}: NeMo finds the number of a shard by {pattern.pattern!r}: rename it")
        if int(match[1]) in found:
            raise UserError(f"{path} and {found[int(match[1])]} are both shard {match[1]}")
        found[int(match[1])] = path
    return found


def _rows_by_shard(manifests: Sequence[str]) -> dict[int, _Manifest]:
    if len(manifests) > 1:
        return {number: _Manifest(path, _rows(path)) for number, path in _by_number(manifests, _MANIFEST).items()}
    groups: dict[int, list[_Row]] = defaultdict(list)
    for number, row in enumerate(_rows(manifests[0]), start=1):
        if row.shard_id is None:
            raise UserError(f"{manifests[0]}, line {number} has no `shard_id`, which one manifest for all shards needs")
        groups[row.shard_id].append(row)
    return {number: _Manifest(manifests[0], rows) for number, rows in groups.items()}


def _rows(manifest: str) -> list[_Row]:
    decoder = msgspec.json.Decoder(_Row)
    rows = []
    try:
        with open(manifest, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    rows.append(decoder.decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise UserError(
                        f"{manifest}, line {number} is no row of NeMo's tarred manifests: {error}"
                    ) from None
    except OSError as error:
        raise UserError(f"cannot read {manifest}: {error.strerror}") from error
    if not rows:
        raise UserError(f"{manifest} is empty")
    return rows


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._checksum = file, xxhash.xxh3_128()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._checksum.update(data)
        return data

    def xxh128(self) -> str:
        while self.read(1 << 20):
            pass
        return self._checksum.hexdigest()


def _check_shard(number: int, manifest: _Manifest, tar_path: str) -> str:
    """Compare the names in a tar with those in its manifest; return the checksum of the tar."""
    try:
        with open(tar_path, "rb") as file:
            hashed = _Hashed(file)
            with tarfile.open(fileobj=hashed, mode="r|", bufsize=1 << 20) as tar:  # type: ignore[call-overload]
                members = Counter(member.name for member in tar if member.isfile())
            checksum = hashed.xxh128()
    except OSError as error:
        raise UserError(f"cannot read {tar_path}: {error.strerror or error}") from error
    except tarfile.TarError as error:
        raise UserError(f"{tar_path} is damaged or no tar file: {error}") from error
    names = {row.audio_filepath for row in manifest.rows}
    wanted = {name if name in members else _SEGMENT.sub(r"\1\2", name) for name in names}
    for what, found in (
        (f"rows of {manifest.path} name audio that {tar_path} lacks", wanted - members.keys()),
        (f"files of {tar_path} have no row in {manifest.path}", members.keys() - wanted),
        (f"names stand twice in {tar_path}", {name for name, count in members.items() if count > 1}),
    ):
        if found:
            shown = ", ".join(sorted(found)[:SHOWN])
            raise UserError(f"shard {number}: {len(found)} {what}, such as {shown}")
    return checksum


def _write_cuts(rows: Mapping[int, _Manifest], cuts: Path, ledger: Ledger) -> None:
    with row_writer(cuts) as write:
        for number in sorted(rows):
            for index, row in enumerate(rows[number].rows):
                ledger.taken.add(row.duration)
                if row.skip:
                    ledger.drop("_skipme", row.duration)
                    continue
                identity = str(row.id if row.id is not None else f"{number}-{index:06}")
                supervision = {
                    "id": identity,
                    "recording_id": row.audio_filepath,
                    "start": 0.0,
                    "duration": row.duration,
                    "channel": 0,
                    "text": row.text,
                }
                write(
                    {
                        "id": identity,
                        "start": 0.0,
                        "duration": row.duration,
                        "channel": 0,
                        "supervisions": [supervision],
                        "type": "MonoCut",
                    }
                )
                ledger.keep(row.duration)
        if not ledger.kept.utterances:
            raise UserError(f"{ledger.corpus}/{ledger.split}: no utterance is left ({ledger})")
    ledger.histogram.sort()
