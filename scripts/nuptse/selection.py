"""Which utterances of a corpus make a split, and with which text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nuptse.errors import UserError
from nuptse.jsonl import read_rows, row_writer
from nuptse.ledgers import Ledger
from nuptse.text import Step, apply_profile

# A supervision may end this much after its recording: recipes round times to 10 ms or so.
END_TOLERANCE_S = 0.1


def select_utterances(
    recipe_dir: Path, part: str, selected: Path, profile: Sequence[Step], language: str, ledger: Ledger
) -> None:
    """Write the cuts of one split, sorted by id: one for each supervision that is kept.

    Args:
        recipe_dir: output of ``prepare_manifests``.
        part: the recipe's name of the split.
        selected: output, ``.jsonl.gz``.
        profile: text profile, see ``nuptse.text``.
        language: written into every supervision.
        ledger: is filled in.

    Raises:
        UserError: unknown part, duplicate ids, a supervision without recording, a recording of several channels, or
            nothing left.
    """
    sources = {kind: recipe_dir / f"{part}_{kind}.jsonl.gz" for kind in ("recordings", "supervisions")}
    if not sources["recordings"].exists():
        parts = sorted(path.name.removesuffix("_recordings.jsonl.gz") for path in recipe_dir.glob("*_recordings.*"))
        raise UserError(
            f"corpora.{ledger.corpus}.splits.{ledger.split} is {part!r}, but the recipe found only {', '.join(parts)}"
        )
    recordings = _by_id(sources["recordings"])
    used: set[str] = set()
    with row_writer(selected) as write:
        for supervision in _by_id(sources["supervisions"]).values():
            recording = recordings.get(supervision["recording_id"])
            if recording is None:
                raise UserError(
                    f"{sources['supervisions']}: supervision {supervision['id']} belongs to the recording"
                    f" {supervision['recording_id']}, which {sources['recordings'].name} lacks"
                )
            used.add(recording["id"])
            segment = _segment(supervision, recording, profile, language, ledger)
            if segment is not None:
                write(_cut(segment, recording))
        ledger.unused_recordings = len(recordings) - len(used)
        ledger.histogram.sort()
        if not ledger.kept.utterances:
            raise UserError(f"{ledger.corpus}/{ledger.split}: no utterance is left ({ledger})")


def _by_id(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a manifest by id, sorted: recipes list files in the order of the file system."""
    rows: dict[str, dict[str, Any]] = {}
    for row in read_rows(path, dict):
        if row["id"] in rows:
            raise UserError(f"{path}: the id {row['id']} stands there twice; ids must be unique within a split")
        rows[row["id"]] = row
    return dict(sorted(rows.items()))


def _segment(
    supervision: dict[str, Any],
    recording: dict[str, Any],
    profile: Sequence[Step],
    language: str,
    ledger: Ledger,
) -> dict[str, Any] | None:
    """Return the supervision as it is trained on, or None after entering in the ledger why it is left out."""
    duration = supervision["duration"]
    ledger.taken.add(duration)
    text = apply_profile(supervision.get("text") or "", profile)
    start, end = supervision["start"], supervision["start"] + duration
    if not text:
        ledger.drop("no transcript", duration)
        return None
    if start < 0 or start >= recording["duration"] or end > recording["duration"] + END_TOLERANCE_S:
        ledger.drop("outside its recording", duration)
        return None
    if end > recording["duration"]:
        ledger.trimmed.add(end - recording["duration"])
        duration = recording["duration"] - start
    channels = [channel for source in recording["sources"] for channel in source["channels"]]
    if len(channels) > 1:
        raise UserError(
            f"recording {recording['id']} has {len(channels)} channels: split it into files of one channel each"
            " before it is used here"
        )
    ledger.keep(duration)
    return supervision | {"text": text, "language": language, "duration": duration}


def _cut(supervision: dict[str, Any], recording: dict[str, Any]) -> dict[str, Any]:
    """Return the MonoCut of one supervision, in Lhotse's JSON form; the supervision's start is relative to the cut."""
    return {
        "id": supervision["id"],
        "start": supervision["start"],
        "duration": supervision["duration"],
        "channel": recording["sources"][0]["channels"][0],
        "supervisions": [supervision | {"start": 0.0}],
        "recording": recording,
        "type": "MonoCut",
    }
