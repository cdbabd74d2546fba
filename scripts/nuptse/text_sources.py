"""Rows of an import from plain files: audio with transcripts beside it, NeMo manifests, Kaldi data directories."""

from __future__ import annotations

import math
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nuptse.audio_sources import OTHER_SUFFIXES, READABLE_SUFFIXES
from nuptse.errors import UserError
from nuptse.folder_state import folders_below
from nuptse.jsonl import raw_lines
from nuptse.scratch import ScratchTable, scratch_database
from nuptse.tables import segment
from nuptse.utterances import AudioNames, Rejected, Row, Unused, Utterance, audio_path

AUDIO = READABLE_SUFFIXES | OTHER_SUFFIXES


# --- a folder ---


def folder_rows(folder: Path, options: Mapping[str, Any], part: str, names: AudioNames) -> Iterator[Row]:
    """Yield each audio file of a folder, at any depth, with the text file of its name: ``a.wav`` and ``a.txt``.

    Args:
        folder: its root.
        options: ``text_suffix`` of the transcripts; ``speaker``: ``parent`` takes the name of the folder of each file.
        part: of all.
        names: of the audio.

    Raises:
        UserError: two audio files share a transcript, one is not UTF-8, or there is none at all.
    """
    suffix = options.get("text_suffix", ".txt")
    first, paired = "", False
    # Folder by folder: a text lies beside its audio, and what is kept of a folder is forgotten after it.
    for root, found in folders_below(folder):
        audio: dict[str, list[str]] = defaultdict(list)
        texts = {}
        for path in (os.path.join(root, name) for name in found):
            stem, ending = os.path.splitext(path)
            if ending.lower() in AUDIO:
                audio[stem].append(path)
                first = first or path
            elif path.endswith(suffix):
                texts[path.removesuffix(suffix)] = path
        paired = paired or bool(audio.keys() & texts.keys())
        yield from _paired(audio, texts, options, part, names)
    if first and not paired:
        raise UserError(
            f"{folder} has audio, such as {first}, but beside none of it a transcript of the same name that ends with"
            f" {suffix}: set `text_suffix`"
        )


def _paired(
    audio: Mapping[str, list[str]], texts: Mapping[str, str], options: Mapping[str, Any], part: str, names: AudioNames
) -> Iterator[Row]:
    """Yield the rows of one folder; ``audio`` and ``texts``: paths by what is before the suffix."""
    for stem, paths in audio.items():
        if len(paths) > 1 and stem in texts:
            raise UserError(f"{texts[stem]} stands beside {' and '.join(paths)}: which of them does it belong to?")
        for path in paths:
            name = names.name_of_file(path)
            if stem not in texts:
                suffix = options.get("text_suffix", ".txt")
                yield Rejected(part, os.path.splitext(name)[0], path, f"no transcript ({suffix})")
                continue
            speaker = os.path.basename(os.path.dirname(path)) if options.get("speaker") == "parent" else ""
            yield Utterance(part, path, os.path.normpath(path), _text(texts[stem]), name, speaker=speaker)
    for stem, path in texts.items():
        if stem not in audio:
            yield Rejected(part, names.name_of_file(stem), path, "a transcript without audio")


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from None


# --- a NeMo manifest ---


class _NemoRow(msgspec.Struct):
    audio_filepath: str
    text: str | None = None
    duration: float | None = None
    offset: float | None = None
    id: str | int | None = None
    speaker: str | int | None = None
    lang: str | None = None
    language: str | None = None
    skip: bool = msgspec.field(name="_skipme", default=False)


def nemo_rows(manifest: Path, part: str, names: AudioNames) -> Iterator[Row]:
    """Yield the rows of a NeMo manifest, one JSON object a line.

    A relative path starts at the working directory if there is such a file, else at the folder of the manifest, as in
    NeMo. A row with ``_skipme`` is left out, as in NeMo.

    Raises:
        UserError: a line is no row of such a manifest; names file and line.
    """
    decoder, folder = msgspec.json.Decoder(_NemoRow), manifest.parent
    for number, line in enumerate(raw_lines(manifest), start=1):
        place = f"{manifest}, line {number}"
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{place} is no row of a NeMo manifest: {error}") from None
        if not (0 <= (row.offset or 0) < math.inf and 0 <= (row.duration or 0) < math.inf):
            raise UserError(f"{place}: offset is {row.offset} and duration {row.duration}, expected seconds")
        audio = audio_path(row.audio_filepath, folder)
        if row.skip:
            yield Rejected(part, str(row.id or ""), audio, "_skipme", row.duration)
            continue
        if row.text is None:
            raise UserError(f"{place} has no `text`")
        start, end = segment(row.offset, None, row.duration, place)
        yield Utterance(
            part=part,
            place=place,
            audio=audio,
            text=row.text,
            name=names.name_of_file(audio),
            id=_as_id(row.id),
            start=start,
            end=end,
            speaker=_as_id(row.speaker),
            language=row.lang or row.language or "",
        )


def _as_id(value: str | int | None) -> str:
    return "" if value is None else str(value)


# --- a Kaldi data directory ---


def kaldi_rows(folder: Path, part: str) -> Iterator[Row]:
    """Yield the utterances of a Kaldi data directory: ``wav.scp``, ``text``, ``segments``, ``utt2spk``, ``utt2lang``.

    The same utterances as Lhotse's ``load_kaldi_data_dir``. That one is not used: it wants one sampling rate for all,
    takes durations in ms, leaves out what it cannot read with a warning, and makes commands of what ends with ``|``.
    Relative paths start at the working directory, as in Kaldi, or else at the folder. Recordings without a segment are
    counted.

    Format: https://kaldi-asr.org/doc/data_prep.html

    Raises:
        UserError: ``wav.scp`` names a command, or a line cannot be used; names file and line.
    """
    with scratch_database() as database:
        yield from _kaldi_rows(folder, part, database)


def _kaldi_rows(folder: Path, part: str, database: sqlite3.Connection) -> Iterator[Row]:
    recordings, texts, speakers, languages, segments, used = (
        ScratchTable(database, name) for name in ("recordings", "texts", "speakers", "languages", "segments", "used")
    )
    unused = 0
    for place, name, path in _mapping(folder / "wav.scp", recordings, needed=True):
        if path.endswith("|") or path.startswith("|"):
            raise UserError(
                f"{place}: the recording {name} is the output of a shell command ({path}), and commands out of data"
                " are not run: write its audio to a file, for example with `wav-copy`, and name that"
            )
        if not path:
            raise UserError(f"{place}: the recording {name} has no path")
        recordings[name] = audio_path(path, folder)
        unused += 1
    _read(folder / "text", texts, needed=True)
    _read(folder / "utt2spk", speakers)
    _read(folder / "utt2lang", languages)
    for place, name, recording, start, end in _segments(folder, recordings, segments):
        audio, text = recordings.get(recording), texts.get(name)
        if audio is None:
            raise UserError(f"{place}: the utterance {name} belongs to the recording {recording}, which wav.scp lacks")
        unused -= used.add(recording, "")
        if text is None:
            yield Rejected(part, name, audio, "no transcript (text)", None if end is None else end - start)
            continue
        yield Utterance(
            part=part,
            place=place,
            audio=audio,
            text=text,
            name="",
            id=name,
            recording=recording,
            start=start,
            end=end,
            speaker=speakers.get(name) or "",
            language=languages.get(name) or "",
        )
    for name in texts.names_without(segments):
        yield Rejected(part, name, "", "a transcript without audio")
    if unused:
        yield Unused(part, unused)


def _read(path: Path, table: ScratchTable, needed: bool = False) -> None:
    for _ in _mapping(path, table, needed):
        pass


def _segments(
    folder: Path, recordings: ScratchTable, segments: ScratchTable
) -> Iterator[tuple[str, str, str, float, float | None]]:
    """Yield (place, utterance, recording, start, end); an end of -1 is that of the recording. Fill in ``segments``."""
    if not (folder / "segments").is_file():
        for name, _ in recordings:
            segments.add(name, "")
            yield f"{folder / 'wav.scp'}: {name}", name, name, 0.0, None
        return
    for place, name, rest in _mapping(folder / "segments", segments):
        try:
            recording, *times = rest.split()
            start, end = map(float, times)
        except ValueError:
            raise UserError(
                f"{place} is {name!r}, {rest!r}: expected utterance, recording, start and end (s)"
            ) from None
        yield (place, name, recording, *segment(start, None if end == -1 else end, None, place))


def _mapping(path: Path, table: ScratchTable, needed: bool = False) -> Iterator[tuple[str, str, str]]:
    """Enter first word and rest of each line into a table, and yield (place, first word, the rest)."""
    if not path.is_file():
        if needed:
            raise UserError(f"{path.parent} has no {path.name}: a Kaldi data directory needs one")
        return
    for number, line in enumerate(raw_lines(path), start=1):
        place = f"{path}, line {number}"
        try:
            name, _, rest = line.decode("utf-8").strip().replace("\t", " ", 1).partition(" ")
        except UnicodeDecodeError as error:
            raise UserError(f"{place} is not UTF-8: {error}") from None
        if not name:
            raise UserError(f"{place} is empty")
        rest = rest.strip()
        if not table.add(name, rest):
            raise UserError(f"{place}: {name} stands there twice")
        yield place, name, rest
