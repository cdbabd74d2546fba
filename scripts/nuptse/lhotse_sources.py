"""Rows of an import from Lhotse's own data: recordings with supervisions, cuts, and Shar directories."""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nuptse.converting import Converter
from nuptse.errors import UserError
from nuptse.import_ledger import as_text
from nuptse.jsonl import DAMAGED, open_lines
from nuptse.scratch import ScratchTable, scratch_database
from nuptse.tables import segment
from nuptse.utterances import Rejected, Row, Unused, Utterance, audio_path

# Keys of a supervision that have a place of their own in an Utterance.
_OWN = frozenset({"id", "recording_id", "start", "duration", "channel", "text", "language", "speaker"})


def lhotse_rows(source: str | Mapping[str, str], base: Path, part: str, *, reject_empty: bool = False) -> Iterator[Row]:
    """Yield the supervisions of a pair of Lhotse manifests (``recordings``, ``supervisions``) or of cuts, JSON lines.

    Times are those of the recording. A cut without a supervision is left out and counted; recordings without one are
    counted. Audio must be one file for each recording: commands are never run, addresses never opened. A relative path
    starts at the working directory if there is such a file, else at the folder of the manifest. A supervision without a
    duration is a mistake, or, with ``reject_empty``, left out: nobody can mend what a recipe gives.

    Raises:
        UserError: a line is not as it must be, or a supervision has no recording; names file and line.
    """
    if isinstance(source, str):
        yield from _cut_rows(base / source, part)
        return
    with scratch_database() as database:
        files = base / source["recordings"], base / source["supervisions"]
        yield from _pair_rows(*files, part, database, reject_empty)


def _pair_rows(
    manifest: Path, supervisions: Path, part: str, database: sqlite3.Connection, reject_empty: bool
) -> Iterator[Row]:
    recordings, used = ScratchTable(database, "recordings"), ScratchTable(database, "used")
    unused = 0
    for place, row in _json_lines(manifest):
        recording = _convert(row, _Recording, place)
        path = _audio(recording, manifest, place)
        if recordings.add(recording.id, path):
            unused += 1
        elif (other := recordings.get(recording.id)) != path:
            raise UserError(
                f"{place}: the recording {recording.id} is {as_text(path)}, but {as_text(other)} further up: give each"
                " an id of its own"
            )
    for place, row in _json_lines(supervisions):
        supervision = _convert(row, _Supervision, place)
        audio = recordings.get(supervision.recording_id)
        if audio is None:
            raise UserError(
                f"{place}: the supervision {supervision.id} belongs to the recording {supervision.recording_id}, which"
                f" {manifest} lacks"
            )
        unused -= used.add(supervision.recording_id, "")
        if reject_empty and supervision.duration <= 0:
            yield Rejected(part, supervision.id, audio, "no duration", 0.0)
        else:
            yield _utterance(row, supervision, 0.0, supervision.recording_id, audio, part, place)
    if unused:
        yield Unused(part, unused)


class _File(msgspec.Struct):
    type: str
    source: str


class _Recording(msgspec.Struct):
    id: str
    sources: list[_File]
    transforms: Any = None


class _Supervision(msgspec.Struct):
    id: str
    recording_id: str
    start: float
    duration: float
    channel: int | list[int] = 0
    text: str | None = None
    language: str | None = None
    speaker: str | None = None
    custom: dict[str, Any] | None = None


class _Cut(msgspec.Struct):
    id: str
    type: str
    start: float
    duration: float
    recording: _Recording
    supervisions: list[dict[str, Any]]


def _cut_rows(manifest: Path, part: str) -> Iterator[Row]:
    for place, row in _json_lines(manifest):
        if row.get("type") not in ("MonoCut", "MultiCut"):
            raise UserError(
                f"{place}: a cut of the type {row.get('type')} cannot be imported, only MonoCut and MultiCut"
            )
        if not row.get("recording"):
            raise UserError(f"{place}: the cut {row.get('id')} has no recording")
        cut = _convert(row, _Cut, place)
        audio = _audio(cut.recording, manifest, place)
        if not cut.supervisions:
            segment(cut.start, None, cut.duration, place)
            yield Rejected(part, cut.id, audio, "a cut without a supervision", cut.duration)
        for own in cut.supervisions:
            supervision = _convert(own, _Supervision, place)
            yield _utterance(own, supervision, cut.start, cut.recording.id, audio, part, place)


def _utterance(
    row: Mapping[str, Any], found: _Supervision, offset: float, recording: str, audio: str, part: str, place: str
) -> Utterance:
    # Relative to a cut a supervision may begin before it, but not before its recording.
    start, end = segment(round(offset + found.start, 8), None, found.duration, place)
    return Utterance(
        part=part,
        place=place,
        audio=audio,
        text=found.text or "",
        name="",
        id=found.id,
        recording=recording,
        start=start,
        end=None if end is None else round(end, 8),
        channel=found.channel if isinstance(found.channel, int) else None,
        speaker=found.speaker or "",
        language=found.language or "",
        extra={key: value for key, value in row.items() if key not in _OWN},
    )


def _audio(recording: _Recording, manifest: Path, place: str) -> str:
    kinds = [file.type for file in recording.sources]
    if kinds != ["file"]:
        raise UserError(
            f"{place}: the audio of the recording {recording.id} is {' and '.join(kinds) or 'nothing'}, expected one"
            " file: commands are not run and addresses not opened"
        )
    if recording.transforms:
        raise UserError(f"{place}: the recording {recording.id} has transforms: write its audio to a file first")
    return audio_path(recording.sources[0].source, manifest.parent)


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    try:
        with open_lines(path) as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{path}, line {number}"
                try:
                    yield place, decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise UserError(
                        f"{place} is no Lhotse manifest of JSON lines: {error}; `lhotse copy` writes one (.jsonl.gz)"
                    ) from None
    except (*DAMAGED, OSError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _convert(row: Any, kind: Any, place: str) -> Any:
    try:
        return msgspec.convert(row, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"{place} is no {kind.__name__.strip('_').lower()} of Lhotse: {error}") from None


# --- Shar ---

# What Lhotse raises where the files of a Shar directory do not fit each other.
_OF_SHAR = (AssertionError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError, tarfile.TarError)


def shar_rows(folder: Path, part: str, converter: Converter) -> Iterator[Row]:
    """Yield the supervisions of a Shar directory, whose audio is unpacked from its tars once, as it is.

    Later steps check, transcribe and shard single files, and a training on shards has the layout ``tarred``. A cut of a
    Shar directory is a recording of its own.

    Raises:
        UserError: the folder is no Shar directory, or holds no audio.
    """
    from lhotse import CutSet

    if not any(folder.glob("cuts.*.jsonl*")):
        raise UserError(f"{folder} is no Lhotse Shar directory: it has no cuts.000000.jsonl.gz")
    if not any(folder.glob("recording.*.tar")):
        raise UserError(f"{folder} has no recording.000000.tar: without audio nothing can be imported")
    place = str(folder)
    try:
        for cut in CutSet.from_shar(in_dir=folder):
            recording = getattr(cut, "recording", None)
            sources = recording.sources if recording is not None else []
            if [source.type for source in sources] != ["memory"]:
                raise UserError(f"{place}: the cut {cut.id} has no audio in a tar of its own")
            audio = converter.unpack(cut.id, sources[0].source)
            if not cut.supervisions:
                yield Rejected(part, cut.id, audio, "a cut without a supervision", cut.duration)
            for own in cut.supervisions:
                row = own.to_dict()
                supervision = _convert(row, _Supervision, place)
                yield _utterance(row, supervision, cut.start, cut.id, audio, part, f"{place}: {cut.id}")
    except (*DAMAGED, *_OF_SHAR) as error:
        raise UserError(f"{folder} cannot be read as a Lhotse Shar directory: {error}") from error
