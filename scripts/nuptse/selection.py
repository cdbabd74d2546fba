"""Which utterances of a corpus make a split, and with which text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nuptse.errors import UserError
from nuptse.filters import Filters
from nuptse.jsonl import read_rows, row_writer
from nuptse.ledgers import Ledger
from nuptse.splits import Dealt, Shares, deal
from nuptse.text import Profile, Step

# A supervision may end this much after its recording: recipes round times to 10 ms or so.
END_TOLERANCE_S = 0.1

Row = dict[str, Any]


@dataclass
class Selection:
    """What a split is made of.

    Args:
        corpus: name of the corpus.
        split: name of the split.
        parts: the source's parts that it is taken from.
        language: written into every supervision.
        text: text profile, see ``nuptse.text``.
        filters: see ``nuptse.filters``.
        shares: how the parts are dealt out; None: they are the split, whole.
    """

    corpus: str
    split: str
    parts: Sequence[str]
    language: str
    text: Sequence[Step]
    filters: Mapping[str, Any] = field(default_factory=dict)
    shares: Shares | None = None


@dataclass
class Tables:
    """The rows of a split: all recordings of its parts by id, its supervisions sorted by id, and what was dealt out."""

    recordings: dict[str, Row]
    supervisions: list[Row]
    unused_recordings: int
    dealt: Dealt | None


def read_tables(recipe_dir: Path, selection: Selection) -> Tables:
    """Return what a source says of one split.

    Raises:
        UserError: unknown part, duplicate ids, a supervision without recording, or one that cannot be dealt out.
    """
    recordings: dict[str, Row] = {}
    supervisions: dict[str, Row] = {}
    for part in selection.parts:
        tables = {kind: recipe_dir / f"{part}_{kind}.jsonl.gz" for kind in ("recordings", "supervisions")}
        if not tables["recordings"].exists():
            parts = sorted(path.name.removesuffix("_recordings.jsonl.gz") for path in recipe_dir.glob("*_recordings.*"))
            key = "split_by.parts" if selection.shares else f"splits.{selection.split}"
            raise UserError(
                f"corpora.{selection.corpus}.{key} is {part!r}, but the recipe found only {', '.join(parts)}"
            )
        _add_by_id(recordings, tables["recordings"])
        for supervision in _add_by_id(supervisions, tables["supervisions"]):
            if supervision["recording_id"] not in recordings:
                raise UserError(
                    f"{tables['supervisions']}: supervision {supervision['id']} belongs to the recording"
                    f" {supervision['recording_id']}, which {tables['recordings'].name} lacks"
                )
    # Sorted: recipes list files in the order of the file system.
    rows = [supervisions[name] for name in sorted(supervisions)]
    unused = len(recordings) - len({row["recording_id"] for row in rows})
    dealt = deal(selection.corpus, selection.shares, rows) if selection.shares else None
    return Tables(recordings, dealt.of(selection.split) if dealt else rows, unused, dealt)


def _add_by_id(rows: dict[str, Row], path: Path) -> list[Row]:
    """Add the rows of a manifest by their ids, and return them."""
    added = list(read_rows(path, dict))
    for row in added:
        if row["id"] in rows:
            raise UserError(f"{path}: the id {row['id']} stands there twice; ids must be unique within a split")
        rows[row["id"]] = row
    return added


def select_utterances(
    recipe_dir: Path, selection: Selection, selected: Path, dropped: Path
) -> tuple[Ledger, Dealt | None]:
    """Write the cuts of one split, sorted by id, one for each supervision that is kept; and what is left out.

    Args:
        recipe_dir: output of ``prepare_manifests``.
        selection: what to take.
        selected: output, ``.jsonl.gz``, Lhotse cuts.
        dropped: output, ``.jsonl.gz``: ``id``, ``reason``, ``duration`` (s) and ``text``, as it came.

    Returns:
        The ledger, and what fell to the splits, if they are made by shares.

    Raises:
        UserError: as ``read_tables``; a recording of several channels; or nothing is left.
    """
    tables = read_tables(recipe_dir, selection)
    ledger = Ledger(selection.corpus, selection.split, unused_recordings=tables.unused_recordings)
    if tables.dealt:
        for split in (name for name in tables.dealt.rows if name != selection.split):
            ledger.other_splits.include(tables.dealt.amount(split))
    profile, filters = Profile(selection.text, selection.language), Filters(selection.filters)
    with ExitStack() as files:
        write_cut, write_dropped = (files.enter_context(row_writer(path)) for path in (selected, dropped))
        for supervision in tables.supervisions:
            recording = tables.recordings[supervision["recording_id"]]
            segment, reason = _segment(supervision, recording, profile, filters, ledger)
            if reason is None:
                write_cut(_cut(segment | {"language": selection.language}, recording))
                ledger.keep(segment["duration"])
            else:
                ledger.drop(reason, segment["duration"])
                text = supervision.get("text") or ""
                write_dropped({"id": segment["id"], "reason": reason, "duration": segment["duration"], "text": text})
        ledger.histogram.sort()
        ledger.removed_characters = dict(sorted(profile.removed.items()))
        if not ledger.kept.utterances:
            raise UserError(f"{ledger.corpus}/{ledger.split}: no utterance is left ({ledger})")
    return ledger, tables.dealt


def _segment(
    supervision: Row, recording: Row, profile: Profile, filters: Filters, ledger: Ledger
) -> tuple[Row, str | None]:
    """Return the supervision as it is trained on, and why it is left out, if it is."""
    duration = supervision["duration"]
    ledger.taken.add(duration)
    text = profile(supervision.get("text") or "")
    start, end = supervision["start"], supervision["start"] + duration
    if not text:
        return supervision, "no transcript"
    if start < 0 or start >= recording["duration"] or end > recording["duration"] + END_TOLERANCE_S:
        return supervision, "outside its recording"
    if end > recording["duration"]:
        ledger.trimmed.add(end - recording["duration"])
        duration = recording["duration"] - start
    channels = [channel for source in recording["sources"] for channel in source["channels"]]
    if len(channels) > 1:
        raise UserError(
            f"recording {recording['id']} has {len(channels)} channels: set `channels` of the"
            f" corpus {ledger.corpus} to mix, split or the number of one"
        )
    return supervision | {"text": text, "duration": duration}, filters.reason(supervision, text, duration)


def _cut(supervision: Row, recording: Row) -> Row:
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


def remarks(ledger: Ledger) -> list[str]:
    """Return warnings of reasons that took more than half of a split, in utterances or in hours."""
    return [
        f"{ledger.corpus}/{ledger.split}: {amount} of {ledger.taken} are left out: {reason}"
        for reason, amount in ledger.dropped.items()
        if amount.utterances > ledger.taken.utterances / 2 or amount.seconds > ledger.taken.seconds / 2
    ]
