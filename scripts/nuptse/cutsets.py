"""From selected utterances to the Lhotse manifests of a split, and to NeMo's manifest of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nuptse.jsonl import read_rows, row_writer, write_rows
from nuptse.ledgers import Amount, Histogram, Ledger


def build_cutset(selected: Path, outputs: Mapping[str, Path], ledger: Ledger) -> None:
    """Write the cuts of one split, sorted by id, and the recordings and supervisions that they are made of.

    Args:
        selected: cuts of ``nuptse.selection``.
        outputs: paths of ``recordings``, ``supervisions`` and ``cuts`` (``.jsonl.gz``).
        ledger: that of the selection; goes on to be filled in.
    """
    ledger.kept, ledger.histogram = Amount(), Histogram()
    recordings: dict[str, dict[str, Any]] = {}
    with row_writer(outputs["supervisions"]) as write_supervision, row_writer(outputs["cuts"]) as write_cut:
        for cut in read_rows(selected, dict):
            recordings[cut["recording"]["id"]] = cut["recording"]
            write_supervision(cut["supervisions"][0] | {"start": cut["start"]})
            write_cut(cut)
            ledger.keep(cut["duration"])
    write_rows(outputs["recordings"], (recordings[name] for name in sorted(recordings)))
    ledger.histogram.sort()


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
