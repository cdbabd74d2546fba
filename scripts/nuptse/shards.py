"""Tar shards in the layout of NeMo's ``convert_to_tarred_audio_dataset.py``.

``DIR/audio_{i}.tar`` holds the audio of shard i and ``DIR/sharded_manifests/manifest_{i}.json`` its
rows, in the same order. See ``shard_ledger`` and ``shard_index`` for the files that are about all shards.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nuptse.errors import UserError, flush_to_disk
from nuptse.shard_ledger import Shard, write_ledger
from nuptse.shard_members import FORMS, encode, is_of_form, member_name
from nuptse.shard_plan import RowsHash, ShardPlan, line_number
from nuptse.shard_records import (
    aside,
    has_record,
    made_from,
    publish,
    record_name,
    state_at,
    state_of,
    write_record,
    written_before,
)
from nuptse.shard_tar import HashedFile, TarFile


@dataclass(frozen=True)
class ShardJob:
    """One shard to write, for this process or another.

    Attributes:
        manifest: NeMo manifest; relative audio paths start at the working directory.
        lines: where the lines of its utterances start in the manifest, in bytes, in shard order.
        rows: checksum of these lines, see ``RowsHash``.
        shard_id: i, from 0.
        output_dir: folder of the shards; must exist with its ``sharded_manifests`` and ``ledger/shards``.
        code: what tells the code that writes shards from another, see ``code_state``.
        form: in which all audio is written, see ``shard_members.FORMS``; None: files as they are, segments as FLAC.
    """

    manifest: Path
    lines: Sequence[int]
    rows: bytes
    shard_id: int
    output_dir: Path
    code: str
    form: str | None = None

    @property
    def made_by(self) -> str:
        return f"{self.code} {self.form}" if self.form else self.code


def _names(shard_id: int) -> tuple[str, str]:
    return f"audio_{shard_id}.tar", f"sharded_manifests/manifest_{shard_id}.json"


def make_shard(job: ShardJob) -> tuple[Shard, bool]:
    """Return the row of a shard, and whether it stands aside to get its name; write it if it is not there unchanged.

    The bytes depend on the rows and their audio only.

    Raises:
        UserError: an utterance cannot be read (file and line are named), the disk is full, or the manifest is not, byte
            for byte, the one that was planned.
    """
    if has_record(job.output_dir, job.shard_id):
        origin = made_from(job.made_by, job.rows, _audio_states(job))
        shard, is_aside = written_before(job.output_dir, job.shard_id, origin)
        if shard is not None:
            return shard, is_aside
    return _write_shard(job), True


def _planned_rows(job: ShardJob) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield where each line of a shard starts, and its row."""
    checksum = RowsHash()
    try:
        with job.manifest.open("rb", buffering=0) as manifest:
            for start in job.lines:
                line = _line(manifest.fileno(), start)
                checksum.update(checksum.of_line(line))
                yield start, _ROWS.decode(line)
    except msgspec.DecodeError:
        raise _changed(job.manifest) from None  # it had been decoded when it was planned
    except OSError as error:
        raise UserError(f"cannot read {job.manifest}: {error.strerror}") from error
    if checksum.digest() != job.rows:
        raise _changed(job.manifest)


_ROWS = msgspec.json.Decoder(dict[str, Any])


def _line(descriptor: int, start: int) -> bytes:
    line, size = b"", 1 << 10  # most lines are shorter
    while True:
        part = os.pread(descriptor, size, start + len(line))
        end = part.find(b"\n")
        if end >= 0 or not part:
            return line + part[: end + 1]
        line, size = line + part, 1 << 16


def _changed(manifest: Path) -> UserError:
    # Snakemake may take the plan for newer: where a plan fails, it puts the last one back.
    return UserError(f"{manifest} has changed since its shards were planned; run again with --forcerun plan_shards")


def _audio_states(job: ShardJob) -> Iterator[bytes]:
    last, state = None, b""
    for _, row in _planned_rows(job):
        audio = row.get("audio_filepath")
        if audio != last:  # the segments of a recording mostly follow each other
            last, state = audio, state_at(str(audio))
        yield state


def _write_shard(job: ShardJob) -> Shard:
    """Write a shard and its record aside."""
    tar_name, manifest_name = _names(job.shard_id)
    durations, states = [], []
    with (
        TarFile(aside(job.output_dir / tar_name)) as tar,
        HashedFile(aside(job.output_dir / manifest_name)) as rows,
    ):
        for start, row in _planned_rows(job):
            try:
                member, state = _add_member(tar, row, job)
                rows.write(msgspec.json.encode(member) + b"\n")
            except UserError as error:
                raise UserError(f"{_place(job.manifest, start)}: {error}") from error
            except (OSError, ValueError) as error:
                place = _place(job.manifest, start)
                raise UserError(f"{place}: cannot copy it to {tar_name}: {error}") from error
            durations.append(row["duration"])
            states.append(state)
    for name in (tar_name, manifest_name):
        flush_to_disk(aside(job.output_dir / name))
    shard = Shard(
        shard_id=job.shard_id,
        utterances=len(job.lines),
        duration_s=round(math.fsum(durations), 6),
        tar=tar_name,
        tar_bytes=tar.size,
        tar_xxh128=tar.xxh128(),
        manifest=manifest_name,
        manifest_bytes=rows.size,
        manifest_xxh128=rows.xxh128(),
    )
    write_record(job.output_dir, shard, made_from(job.made_by, job.rows, states))
    return shard


def _add_member(tar: TarFile, row: dict[str, Any], job: ShardJob) -> tuple[dict[str, Any], bytes]:
    """Append the audio of a row to a tar; return the row of the shard's manifest, and the state of the audio file.

    A segment becomes a recording of its own. NeMo could cut it on reading, but returns all of the
    recording where that is less than 0.2 s longer than the segment.
    """
    audio, offset_s = row["audio_filepath"], row.get("offset")
    if offset_s is None and (job.form is None or is_of_form(audio, job.form)):
        name = member_name(row["id"], audio)
        try:
            descriptor = os.open(audio, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"cannot read {audio}: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if status.st_size == 0:
                raise UserError(f"{audio} is empty")
            tar.add_file(name, descriptor, status.st_size)
        finally:
            os.close(descriptor)
        return {**row, "audio_filepath": name, "shard_id": job.shard_id}, state_of(status)
    state = state_at(audio)  # before it is read: a change meanwhile is seen the next time
    form = job.form or "flac"
    content, rate = encode(audio, offset_s, row["duration"], form)
    name = member_name(row["id"], f"audio{FORMS[form]}")
    tar.add(name, content)
    member = {key: value for key, value in row.items() if key != "offset"}
    return {**member, "audio_filepath": name, "sampling_rate": rate, "shard_id": job.shard_id}, state


def _clear(output_dir: Path, shard_ids: Sequence[int]) -> None:
    for shard_id in shard_ids:
        for name in (*_names(shard_id), record_name(shard_id)):
            aside(output_dir / name).unlink(missing_ok=True)


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
    code: str = "",
    form: str | None = None,
) -> tuple[list[Shard], int]:
    """Write some shards of a plan and, last, the ledger which proves that all of them are complete.

    A shard that is there and was made from the same rows, audio files and code is left as it is. The others get their
    names together, when the last of them has been written.

    Args:
        manifest: the manifest that was planned.
        plan: its plan.
        shard_ids: ids of the shards to write.
        output_dir: folder of the shards; made if it does not exist.
        ledger: the ledger of this group, JSON.
        repairs: kept in the ledger; see ``repairs``.
        workers: number of processes; with 1, no other process is started.
        code: what tells the code that writes shards from another, see ``code_state``.
        form: of all audio, see ``ShardJob``.

    Returns:
        The rows of the ledger, and how many of the shards were there before.

    Raises:
        UserError: as ``make_shard``; then files of an earlier run are as they were.
    """
    # Each shard compares its own lines; a million of all lines would take each job a second.
    if manifest.exists() and manifest.stat().st_size != plan.manifest_bytes:
        raise _changed(manifest)
    for folder in ("sharded_manifests", "ledger/shards"):
        (output_dir / folder).mkdir(parents=True, exist_ok=True)
    jobs = [ShardJob(manifest, plan.lines(i), plan.checksum(i), i, output_dir, code, form) for i in shard_ids]
    try:
        if workers <= 1 or len(jobs) == 1:
            made = list(map(make_shard, jobs))
        else:
            from nuptse.workers import in_parallel  # Only jobs with several workers pay for the import.

            made = sorted(in_parallel(make_shard, jobs, min(workers, len(jobs))), key=lambda one: one[0]["shard_id"])
    except Exception:  # whoever presses Ctrl-C goes on later with the shards that are finished, as after a kill
        _clear(output_dir, shard_ids)
        raise
    # An old ledger must not vouch for files that are being replaced.
    ledger.unlink(missing_ok=True)
    for shard, is_aside in made:
        if is_aside:
            publish(output_dir, shard)
    shards = [shard for shard, _ in made]
    write_ledger(ledger, output_dir, plan.identity() | {"repairs": list(repairs), "shards": shards})
    return shards, sum(not is_aside for _, is_aside in made)
