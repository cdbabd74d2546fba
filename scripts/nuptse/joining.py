"""Transcripts of whole recordings: the texts of their pieces, joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nuptse.errors import UserError
from nuptse.jsonl import read_rows, write_rows

if TYPE_CHECKING:  # the joining itself needs no NeMo
    from nuptse.transcribing import Publish, Task


class RecordingRow(msgspec.Struct):
    """A line of the list of recordings.

    Attributes:
        row: what the user knows of it; ``audio_filepath`` at least.
        duration: s.
        pieces: how many cuts it became.
    """

    row: dict[str, Any]
    duration: float
    pieces: int


class Piece(msgspec.Struct):
    """A cut of a recording, as far as it matters here; start and duration in s."""

    id: str
    start: float
    duration: float


def publish_recordings(recordings: Path) -> Publish:
    """Return what writes the transcripts of a task whose cuts are the pieces of ``recordings`` (``.jsonl``)."""

    def publish(task: Task, _cuts: object, texts: Mapping[str, str], *_: object) -> None:
        rows = join_pieces(read_rows(recordings, RecordingRow), read_rows(task.cuts, Piece), texts)
        write_rows(task.transcripts, rows)

    return publish


def join_pieces(
    recordings: Iterable[RecordingRow], cuts: Iterable[Piece], texts: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the transcript of each recording: a row of a NeMo manifest with ``pred_text`` and ``segments``.

    Args:
        recordings: in the order of their cuts.
        cuts: the pieces of the first recording, then those of the second, and so on.
        texts: what was heard in each piece, by id.

    Raises:
        UserError: there are more or fewer cuts than the recordings have.
    """
    remaining = iter(cuts)
    for recording in recordings:
        pieces = list(islice(remaining, recording.pieces))
        if len(pieces) < recording.pieces:
            raise UserError(f"{recording.row['audio_filepath']}: its cuts are missing; list the audio again")
        heard = [texts[piece.id] for piece in pieces]
        yield recording.row | {
            "duration": round(recording.duration, 6),
            "pred_text": " ".join(filter(None, heard)),
            "segments": _segments(pieces, heard),
        }
    if next(remaining, None) is not None:
        raise UserError("there are cuts without a recording; list the audio again")


def _segments(pieces: Sequence[Piece], heard: Sequence[str]) -> list[dict[str, Any]]:
    """Return start and end (s, from the start of the recording or of its offset) and text of each piece."""
    origin = pieces[0].start
    return [
        {
            "start": round(piece.start - origin, 6),
            "end": round(piece.start + piece.duration - origin, 6),
            "text": text,
        }
        for piece, text in zip(pieces, heard, strict=True)
    ]
