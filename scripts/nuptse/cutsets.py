"""From selected utterances to the Lhotse manifests of a split, and to NeMo's manifest of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nuptse.audio_facts import AudioFacts
from nuptse.audio_problems import PROBLEMS, AudioLimits, errors_of
from nuptse.errors import UserError, make_again
from nuptse.jsonl import read_rows, row_writer
from nuptse.ledgers import Amount, Histogram, Ledger
from nuptse.scratch import ScratchTable, scratch_database


class Rejected(msgspec.Struct):
    """A row of ``<part>_rejected.jsonl.gz``: audio that could not be imported; ``seconds`` is None if nobody knows."""

    id: str
    audio: str
    reason: str
    seconds: float | None = None


def build_cutset(
    selected: Path,
    outputs: Mapping[str, Path],
    ledger: Ledger,
    audio: Path | None = None,
    limits: AudioLimits | None = None,
    rejected: Iterable[Path] = (),
) -> None:
    """Write the cuts of one split, in the order of the selection, and the recordings and supervisions of them.

    Args:
        selected: cuts of ``nuptse.selection``.
        outputs: paths of ``recordings``, ``supervisions``, ``cuts`` and ``quarantine`` (``.jsonl.gz``).
        ledger: that of the selection; goes on to be filled in.
        audio: facts of the audio of each of ``selected``, in their order: utterances whose audio has an error are
            quarantined. None: all of them stay.
        limits: what an error is.
        rejected: what the import has left out; added to the quarantine and to what was taken. A file need not exist.

    Raises:
        UserError: no utterance is left, or ``audio`` belongs to other cuts.
    """
    ledger.kept, ledger.histogram = Amount(), Histogram()
    with (
        scratch_database() as database,
        row_writer(outputs["recordings"]) as write_recording,
        row_writer(outputs["supervisions"]) as write_supervision,
        row_writer(outputs["cuts"]) as write_cut,
        row_writer(outputs["quarantine"]) as quarantine,
    ):
        seen = ScratchTable(database, "recordings")
        for row in (row for path in rejected if path.exists() for row in read_rows(path, Rejected)):
            quarantine(_rejected_row(row))
            ledger.taken.add(row.seconds or 0.0)
            ledger.quarantine(f"not imported: {row.reason}", row.seconds or 0.0)
        for cut, facts in _with_facts(selected, audio):
            codes = errors_of(facts, limits or AudioLimits()) if facts is not None else []
            if facts is not None and codes:
                quarantine(_quarantine_row(cut, facts, codes))
                ledger.quarantine(f"bad audio: {codes[0]}", cut["duration"])
                continue
            if seen.add(cut["recording"]["id"], ""):
                write_recording(cut["recording"])
            write_supervision(cut["supervisions"][0] | {"start": cut["start"]})
            write_cut(cut)
            ledger.keep(cut["duration"])
        if not ledger.kept.utterances:
            raise UserError(f"{ledger.corpus}/{ledger.split}: no utterance is left ({ledger})")
    ledger.histogram.sort()


def _with_facts(selected: Path, audio: Path | None) -> Iterator[tuple[dict[str, Any], AudioFacts | None]]:
    if audio is None:
        yield from ((cut, None) for cut in read_rows(selected, dict))
        return
    try:
        for cut, facts in zip(read_rows(selected, dict), read_rows(audio, AudioFacts), strict=True):
            if cut["id"] != facts.id:
                raise ValueError
            yield cut, facts
    except ValueError:
        raise UserError(f"{audio} is not of the cuts in {selected}: {make_again(audio)}") from None


def _quarantine_row(cut: dict[str, Any], facts: AudioFacts, codes: list[str]) -> dict[str, Any]:
    return {
        "id": cut["id"],
        "audio": facts.audio,
        "start_s": cut["start"],
        "duration_s": cut["duration"],
        "text": cut["supervisions"][0]["text"],
        "problems": codes,
        "found": [PROBLEMS[code].describe(facts) for code in codes],
    }


def _rejected_row(row: Rejected) -> dict[str, Any]:
    known = {"id": row.id, "audio": row.audio, "start_s": None, "duration_s": row.seconds, "text": None}
    return known | {"problems": ["not_imported"], "found": [row.reason]}


def nemo_rows(cuts: Path) -> Iterator[dict[str, Any]]:
    """Yield the row of each cut in NeMo's JSON manifest: the tutorial's fields and the utterance's ``id``.

    A cut that is a segment of a longer recording has an ``offset`` (s) and no ``sampling_rate``: with both, NeMo 3.0
    takes the segment's length for the whole file's and then drops the utterance; without, it reads the file's header.

    Format: https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/asr/datasets.html
    """
    for cut in read_rows(cuts, dict):
        recording, supervision = cut["recording"], cut["supervisions"][0]
        row = {
            "id": cut["id"],
            "audio_filepath": recording["sources"][0]["source"],
            "duration": cut["duration"],
            "text": supervision["text"],
            "lang": supervision["language"],
        }
        whole = cut["start"] == 0 and abs(cut["duration"] - recording["duration"]) < 0.5 / recording["sampling_rate"]
        yield row | ({"sampling_rate": recording["sampling_rate"]} if whole else {"offset": cut["start"]})
