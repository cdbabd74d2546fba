"""Tar shards in the layout of NeMo's ``convert_to_tarred_audio_dataset.py``.

``DIR/audio_{i}.tar`` holds the audio of shard i and ``DIR/sharded_manifests/manifest_{i}.json`` its
rows, in the same order. See ``shard_ledger`` and ``shard_index`` for the files that are about all shards.
"""

import hashlib
import io
import json
import math
import os
import re
import tarfile
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from nuptse.errors import UserError, flush_to_disk
from nuptse.shard_ledger import Shard, write_ledger
from nuptse.shard_plan import ShardPlan, line_number
from nuptse.workers import worker_processes

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


# --- Names and rows ---


def member_name(utterance_id: str, audio: str) -> str:
    """Return the name of an utterance inside its tar: its id, percent-encoded, and the extension.

    Different ids have different names. NeMo's converter makes names from paths instead, where
    ``a/b/x`` and ``a_b/x`` become one name and one utterance gets the audio of the other.

    Args:
        utterance_id: unique within the corpus; any text.
        audio: path of the audio file; its extension is kept in lower case.
    """
    # Readers take "x-sub1.wav" for a segment of the member "x.wav", and WebDataset splits names at
    # the first ".", so neither may come out of an id.
    name = quote(utterance_id, safe="").replace(".", "%2E").replace("~", "%7E")
    name = re.sub(r"-(?=sub\d+$)", "%2D", name)
    if len(name) > 200:
        # "%-" never comes out of quote(), so a shortened name cannot equal another id's full one.
        name = f"{name[:160]}%-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"
    extension = Path(audio).suffix.lower()
    return name + extension if re.fullmatch(r"\.[a-z0-9]+", extension) else name


# What FLAC can hold of each libsndfile subtype: (type to read, subtype to write). Anything else has
# 16 bits or less.
_SEGMENT_FORMATS = {
    "PCM_24": ("int32", "PCM_24"),
    "PCM_32": ("int32", "PCM_24"),
    "FLOAT": ("float64", "PCM_24"),
    "DOUBLE": ("float64", "PCM_24"),
    "MPEG_LAYER_III": ("float32", "PCM_16"),
    "OPUS": ("float32", "PCM_16"),
    "VORBIS": ("float32", "PCM_16"),
}


def cut_segment(audio: str, offset_s: float, duration_s: float) -> tuple[bytes, int]:
    """Cut a segment out of a recording.

    Args:
        audio: path of the recording, of any format that libsndfile reads.
        offset_s: start of the segment, in seconds.
        duration_s: its length, in seconds.

    Returns:
        The samples as a FLAC file, and their rate in Hz. 16-bit and 24-bit samples are unchanged.

    Raises:
        UserError: the recording cannot be read or ends before the segment does.
    """
    import soundfile  # Only jobs that cut pay for the import.

    try:
        with soundfile.SoundFile(audio) as recording:
            rate = recording.samplerate
            start, frames = round(offset_s * rate), round(duration_s * rate)
            # Start and length are rounded separately, so their sum may be one sample too long.
            if frames < 1 or start + frames > recording.frames + 1:
                raise UserError(
                    f"{audio} has {recording.frames / rate} s, which has no segment of {duration_s} s at {offset_s} s"
                )
            read_as, subtype = _SEGMENT_FORMATS.get(recording.subtype, ("int16", "PCM_16"))
            recording.seek(start)
            samples = recording.read(frames, dtype=read_as, always_2d=True)
        if len(samples) < frames - 1:
            raise UserError(f"{audio} is cut short: no audio after {(start + len(samples)) / rate} s")
        flac = io.BytesIO()
        # Level 0 has integer arithmetic only: higher ones round as the CPU does, and their bytes
        # (never the samples) may differ between machines. It costs a few per cent of size.
        soundfile.write(flac, samples, rate, format="FLAC", subtype=subtype, compression_level=0)
    except soundfile.SoundFileError as error:
        raise UserError(f"cannot read {audio}: {error}") from error
    return flac.getvalue(), rate


def _open_member(row: dict[str, Any], shard_id: int) -> tuple[dict[str, Any], BinaryIO, int]:
    """Return the row of the shard's manifest, the audio of its member and its size in bytes.

    A segment becomes a recording of its own. NeMo could cut it on reading, but returns all of the
    recording where that is less than 0.2 s longer than the segment.
    """
    audio, offset_s = row["audio_filepath"], row.get("offset")
    if offset_s is None:
        try:
            file = Path(audio).open("rb")  # noqa: SIM115 -- the caller closes it
        except OSError as error:
            raise UserError(f"cannot read {audio}: {error.strerror}") from error
        member = {**row, "audio_filepath": member_name(row["id"], audio), "shard_id": shard_id}
        return member, file, os.fstat(file.fileno()).st_size
    flac, rate = cut_segment(audio, offset_s, row["duration"])
    member = {key: value for key, value in row.items() if key != "offset"}
    member["audio_filepath"] = member_name(row["id"], "segment.flac")
    return {**member, "sampling_rate": rate, "shard_id": shard_id}, io.BytesIO(flac), len(flac)


# --- Writing ---


class _HashedFile(io.BufferedWriter):
    """Hashes and counts what is written, so that no shard has to be read again."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self._checksum = hashlib.sha256()
        self.size = 0

    def write(self, data: "ReadableBuffer", /) -> int:
        self._checksum.update(data)
        written = super().write(data)
        self.size += written
        return written

    def sha256(self) -> str:
        return self._checksum.hexdigest()


def _names(shard_id: int) -> tuple[str, str]:
    return f"audio_{shard_id}.tar", f"sharded_manifests/manifest_{shard_id}.json"


def _aside(path: Path) -> Path:
    """Name a file while it is being written. A later attempt overwrites what a killed one left."""
    return path.with_name(path.name + ".part")


def write_shard(manifest: Path, lines: Sequence[int], shard_id: int, output_dir: Path) -> Shard:
    """Write one shard aside, under names that end in ``.part``.

    The bytes depend on the rows and their audio only: tar headers bear no date, user or group.

    Args:
        manifest: NeMo manifest; relative audio paths start at the working directory.
        lines: where the lines of its utterances start in the manifest, in bytes, in shard order.
        shard_id: i, from 0.
        output_dir: folder of the shards; must exist with its ``sharded_manifests``.

    Raises:
        UserError: an utterance cannot be read (file and line are named), or the disk is full.
    """
    tar_name, manifest_name = _names(shard_id)
    durations = []
    with (
        manifest.open("rb") as source,
        _HashedFile(_aside(output_dir / tar_name)) as tar_file,
        _HashedFile(_aside(output_dir / manifest_name)) as manifest_file,
        tarfile.TarFile(fileobj=tar_file, mode="w", format=tarfile.PAX_FORMAT, copybufsize=1 << 20) as tar,
    ):
        for start in lines:
            source.seek(start)
            try:
                row = json.loads(source.readline())
                member, audio, size = _open_member(row, shard_id)
                text = json.dumps(member, ensure_ascii=False, separators=(",", ":")).encode()
                with audio:
                    if size == 0:
                        raise UserError(f"{row['audio_filepath']} is empty")
                    # A new TarInfo has date, user and group 0, no names and mode 0644.
                    header = tarfile.TarInfo(member["audio_filepath"])
                    header.size = size
                    tar.addfile(header, audio)
            except UserError as error:
                raise UserError(f"{_place(manifest, start)}: {error}") from error
            except (OSError, ValueError) as error:
                raise UserError(f"{_place(manifest, start)}: cannot copy it to {tar_name}: {error}") from error
            # The list of members would grow with the shard, and only readers need it.
            tar.members.clear()  # type: ignore[attr-defined]
            manifest_file.write(text + b"\n")
            durations.append(row["duration"])
    for name in (tar_name, manifest_name):
        flush_to_disk(_aside(output_dir / name))
    return Shard(
        shard_id=shard_id,
        utterances=len(lines),
        duration_s=round(math.fsum(durations), 6),
        tar=tar_name,
        tar_bytes=tar_file.size,
        tar_sha256=tar_file.sha256(),
        manifest=manifest_name,
        manifest_bytes=manifest_file.size,
        manifest_sha256=manifest_file.sha256(),
    )


def _place(manifest: Path, start: int) -> str:
    return f"{manifest}:{line_number(manifest, start)}"


def write_group(
    manifest: Path,
    plan: ShardPlan,
    shard_ids: Sequence[int],
    output_dir: Path,
    ledger: Path,
    repairs: Sequence[str] = (),
    workers: int = 1,
) -> list[Shard]:
    """Write some shards of a plan and, last, the ledger which proves that all of them are complete.

    The shards get their names together, when the last of them has been written.

    Args:
        manifest: the manifest that was planned; see ``require_unchanged``.
        plan: its plan.
        shard_ids: ids of the shards to write.
        output_dir: folder of the shards; made if it does not exist.
        ledger: the ledger of this group, JSON.
        repairs: kept in the ledger; see ``repairs``.
        workers: number of processes; with 1, no other process is started.

    Returns:
        The rows of the ledger.

    Raises:
        UserError: as ``write_shard``; then files of an earlier run are as they were.
    """
    (output_dir / "sharded_manifests").mkdir(parents=True, exist_ok=True)
    lines = [plan.lines(shard_id) for shard_id in shard_ids]
    jobs = (repeat(manifest), lines, shard_ids, repeat(output_dir))
    try:
        if workers <= 1 or len(lines) == 1:
            shards = list(map(write_shard, *jobs))
        else:
            shards = _write_in_parallel(jobs, min(workers, len(lines)))
    except BaseException:
        for shard_id in shard_ids:
            for name in _names(shard_id):
                _aside(output_dir / name).unlink(missing_ok=True)
        raise
    # An old ledger must not vouch for files that are being replaced.
    ledger.unlink(missing_ok=True)
    for shard in shards:
        for name in (shard["tar"], shard["manifest"]):
            _aside(output_dir / name).replace(output_dir / name)
    content = plan.identity() | {"repairs": list(repairs), "shards": shards}
    write_ledger(ledger, output_dir, content)
    return shards


def _write_in_parallel(jobs: tuple[Iterable[Any], ...], workers: int) -> list[Shard]:
    with worker_processes(workers) as pool:
        return list(pool.map(write_shard, *jobs))
