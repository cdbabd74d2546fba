"""Audio that a user names: a folder, an audio file, a NeMo manifest or Lhotse cuts."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nuptse.errors import UserError
from nuptse.folder_state import OWN_AUDIO_SUFFIXES, files_below
from nuptse.jsonl import DAMAGED, open_lines

# What libsndfile decodes. Other audio is left out with a hint.
READABLE_SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split())
OTHER_SUFFIXES = OWN_AUDIO_SUFFIXES - READABLE_SUFFIXES


@dataclass(frozen=True)
class Source:
    """Audio that the user named.

    Attributes:
        row: what is known of it, to be part of its transcript; ``audio_filepath`` is as the user wrote it.
        path: where the file lies.
        start: s from the start of the file.
        duration: s; None for all that follows.
        channels: those to average; None for all, none where the file lacks one of them.
    """

    row: Mapping[str, Any]
    path: Path
    start: float = 0.0
    duration: float | None = None
    channels: tuple[int, ...] | None = None


def find_sources(audio: Path) -> Iterator[Source]:
    """Yield what is below a folder, sorted by name, or in a manifest, in its order.

    Raises:
        UserError: a line of the manifest is no JSON, or neither a NeMo row nor a Lhotse cut.
    """
    if audio.is_dir():
        yield from (Source({"audio_filepath": path}, Path(path)) for path in files_below(audio))
    elif audio.suffix.lower() in READABLE_SUFFIXES | OTHER_SUFFIXES:
        yield Source({"audio_filepath": str(audio)}, audio)
    else:
        yield from _manifest_sources(audio)


class _NemoRow(msgspec.Struct):
    audio_filepath: str
    offset: float | None = None
    duration: float | None = None


class _File(msgspec.Struct):
    source: str
    type: str
    channels: list[int]


class _CutRecording(msgspec.Struct):
    sources: list[_File]
    transforms: Any = None


class _CutRow(msgspec.Struct):
    id: str
    start: float
    duration: float
    recording: _CutRecording
    channel: int | list[int] = 0
    supervisions: list[dict[str, Any]] = []


def _manifest_sources(manifest: Path) -> Iterator[Source]:
    try:
        with open_lines(manifest) as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                try:
                    row = msgspec.json.decode(line)
                    is_cut = isinstance(row, dict) and "recording" in row
                    yield _from_cut(row) if is_cut else _from_nemo(row, manifest)
                except (msgspec.DecodeError, msgspec.ValidationError) as error:
                    raise UserError(
                        f"`audio`: {manifest}, line {number} is neither a row of a NeMo manifest with `audio_filepath`"
                        f" nor a Lhotse cut: {error}"
                    ) from None
    except DAMAGED as error:
        raise UserError(f"`audio`: {manifest} cannot be unpacked: {error}") from None


def _from_nemo(row: Any, manifest: Path) -> Source:
    found = msgspec.convert(row, _NemoRow)
    path = Path(found.audio_filepath)
    if not path.is_absolute() and not path.exists():  # as NeMo does
        path = manifest.parent / path
    return Source(row, path, found.offset or 0.0, found.duration)


def _from_cut(row: Any) -> Source:
    found = msgspec.convert(row, _CutRow)
    files = found.recording.sources
    # Lhotse would run a source of the type `command` in a shell, and has loaders for the others that we do not decode.
    if len(files) != 1 or files[0].type != "file" or found.recording.transforms:
        raise msgspec.ValidationError("its recording is not one plain audio file")
    text = " ".join(text for supervision in found.supervisions if (text := supervision.get("text")))
    known: dict[str, Any] = {"id": found.id, "audio_filepath": files[0].source}
    known |= ({"offset": found.start} if found.start else {}) | ({"text": text} if found.supervisions else {})
    wanted = [found.channel] if isinstance(found.channel, int) else found.channel
    # The mean of fewer is another signal: without one of them the cut is left out.
    has_all = set(wanted) <= set(files[0].channels)
    channels = tuple(map(files[0].channels.index, wanted)) if has_all else ()
    return Source(known, Path(files[0].source), found.start, found.duration, channels)
