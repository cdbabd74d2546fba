"""Tar shards of NeMo that a user has already, used as they are: checked, and entered in a ledger."""

from __future__ import annotations

import math
import os
import re
import tarfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
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


class _SkippedRow(msgspec.Struct):
    """What NeMo looks at in a row that it passes over, and the duration, if it has one."""

    audio_filepath: str
    shard_id: int | None = None
    duration: Any = None
    skip: Any = msgspec.field(name="_skipme", default=False)


@dataclass(frozen=True)
class _Manifest:
    """The rows of one shard, and the file that they stand in, with its checksum."""

    path: str
    rows: list[_Row]
    xxh128: str


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
    sources, paths = _manifests_by_shard(manifests), _by_number(tars, _TAR)
    if sources.keys() != paths.keys():
        odd = sorted(sources.keys() ^ paths.keys())
        raise UserError(
            f"manifests and tars are not of the same shards: {len(sources)} and {len(paths)}; only one of the two has"
            f" shard {odd[0]}"
        )
    folder = Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in [*manifests, *tars]]))

    def check(number: int) -> tuple[list[_Row], Shard]:
        manifest = sources[number]()
        return manifest.rows, _check_shard(number, manifest, paths[number], folder)

    shards: list[Shard] = []
    with row_writer(cuts) as write:
        for rows, shard in _in_order(check, sorted(sources), threads):
            _write_cuts(shard["shard_id"], rows, write, ledger)
            shards.append(shard)
        if not ledger.kept.utterances:
            raise UserError(f"{ledger.corpus}/{ledger.split}: no utterance is left ({ledger})")
    ledger.histogram.sort()
    with write_atomically(output_dir / "tarred_audio_manifest.json") as unfinished, unfinished.open("wb") as all_rows:
        for path in manifests:
            with open(path, "rb") as part:
                all_rows.writelines(line if line.endswith(b"\n") else line + b"\n" for line in part)
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


def _in_order(
    check: Callable[[int], tuple[list[_Row], Shard]], numbers: Iterable[int], threads: int
) -> Iterator[tuple[list[_Row], Shard]]:
    """Yield what is found in each shard; the rows of a few shards are in memory at a time."""
    numbers = iter(numbers)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            waiting = deque(pool.submit(check, number) for number in islice(numbers, threads + 1))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(check, number) for number in islice(numbers, 1))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _manifests_by_shard(manifests: Sequence[str]) -> dict[int, Callable[[], _Manifest]]:
    """Return what reads the manifest of each shard; one manifest of all is read at once: its order is any."""
    if len(manifests) > 1:
        return {number: partial(_read, path) for number, path in _by_number(manifests, _MANIFEST).items()}
    whole = _read(manifests[0])
    groups: dict[int, list[_Row]] = defaultdict(list)
    for number, row in enumerate(whole.rows, start=1):
        if row.shard_id is None:
            raise UserError(f"{whole.path}, line {number} has no `shard_id`, which one manifest for all shards needs")
        groups[row.shard_id].append(row)
    return {number: partial(replace, whole, rows=rows) for number, rows in groups.items()}


def _read(manifest: str) -> _Manifest:
    return _Manifest(manifest, _rows(manifest), xxh128_of(manifest))


def _rows(manifest: str) -> list[_Row]:
    decoder = msgspec.json.Decoder(_Row)
    rows = []
    try:
        with open(manifest, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    rows.append(decoder.decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    if (skipped := _skipped_row(line)) is None:
                        raise UserError(
                            f"{manifest}, line {number} is no row of NeMo's tarred manifests: {error}"
                        ) from None
                    rows.append(skipped)
    except OSError as error:
        raise UserError(f"cannot read {manifest}: {error.strerror}") from error
    if not rows:
        raise UserError(f"{manifest} is empty")
    return rows


def _skipped_row(line: bytes) -> _Row | None:
    """Return a row with ``_skipme`` that lacks what others need; it lasts 0 s if nobody knows. None: it is another."""
    try:
        row = msgspec.json.decode(line, type=_SkippedRow)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    known = isinstance(row.duration, int | float)
    return _Row(row.audio_filepath, row.duration if known else 0.0, "", row.shard_id, skip=True) if row.skip else None


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


def _check_shard(number: int, manifest: _Manifest, tar_path: str, folder: Path) -> Shard:
    """Compare the names in a tar with those in its manifest; return the entry of the ledger, whose folder is given."""
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
    seconds = [row.duration for row in manifest.rows if not row.skip]
    return Shard(
        shard_id=number,
        utterances=len(seconds),
        duration_s=round(math.fsum(seconds), 6),
        tar=os.path.relpath(tar_path, folder),
        tar_bytes=os.path.getsize(tar_path),
        tar_xxh128=checksum,
        manifest=os.path.relpath(manifest.path, folder),
        manifest_bytes=os.path.getsize(manifest.path),
        manifest_xxh128=manifest.xxh128,
    )


def _write_cuts(shard: int, rows: Sequence[_Row], write: Callable[[Any], Any], ledger: Ledger) -> None:
    for index, row in enumerate(rows):
        ledger.taken.add(row.duration)
        if row.skip:
            ledger.drop("_skipme", row.duration)
            continue
        identity = str(row.id if row.id is not None else f"{shard}-{index:06}")
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
