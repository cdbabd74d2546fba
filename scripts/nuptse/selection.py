"""Which utterances of a corpus make a split, and with which text."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from nuptse.errors import UserError
from nuptse.filters import Filters
from nuptse.import_ledger import unused_recordings
from nuptse.jsonl import read_lines, row_writer
from nuptse.ledgers import Ledger
from nuptse.scratch import scratch_database
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


class Tables:
    """What a source says of one split, in a database: the recordings of its parts, and its supervisions.

    Args:
        database: empty; gets all rows of the parts as they stand in the manifests.
        recipe_dir: output of ``prepare_manifests``.
        selection: names the parts and how they are dealt out.

    Raises:
        UserError: unknown part, one id for two recordings or two supervisions, a supervision without recording, or one
            that cannot be dealt out.
    """

    def __init__(self, database: sqlite3.Connection, recipe_dir: Path, selection: Selection) -> None:
        self._database, self._selection = database, selection
        for kind in ("recordings", "supervisions"):
            database.execute(f"CREATE TABLE {kind} (id TEXT PRIMARY KEY, recording TEXT, part TEXT, row BLOB)")
        for part in selection.parts:
            if not (recipe_dir / f"{part}_recordings.jsonl.gz").exists():
                raise UserError(_no_such_part(part, recipe_dir, selection))
            self._fill("recordings", part, recipe_dir)
            self._fill("supervisions", part, recipe_dir)
        self._check_recordings(recipe_dir)
        self._left_by_the_import = unused_recordings(recipe_dir, selection.parts)
        self.dealt = deal(selection.corpus, selection.shares, self._supervisions()) if selection.shares else None
        if self.dealt:
            self.dealt.check(selection.split)

    @property
    def unused_recordings(self) -> int:
        query = "SELECT (SELECT count(*) FROM recordings) - (SELECT count(DISTINCT recording) FROM supervisions)"
        number: int = self._database.execute(query).fetchone()[0]
        return number + self._left_by_the_import

    def rows(self) -> Iterator[tuple[Row, Recording]]:
        """Yield the supervisions of the split, in the order of a hash of their ids, each with its recording.

        A manifest is read from its start, through a window of a few thousand cuts. Sorted by id it would give one
        speaker after the other; like this, whatever part of it is read is a random sample of all.
        """
        decode, shares = msgspec.json.Decoder(Row).decode, self._selection.shares
        self._database.create_function("place", 1, _place, deterministic=True)
        for line, recording in self._database.execute(
            "SELECT s.row, r.row FROM supervisions AS s JOIN recordings AS r ON r.id = s.recording"
            " ORDER BY place(s.id), s.id"
        ):
            row = decode(line)
            if shares is None or shares.split_of(str(shares.unit_of(row))) == self._selection.split:
                yield row, _recording(recording)

    def _supervisions(self) -> Iterator[Row]:
        lines = self._database.execute("SELECT row FROM supervisions ORDER BY id")
        return map(msgspec.json.Decoder(Row).decode, (line for (line,) in lines))

    def _fill(self, kind: str, part: str, recipe_dir: Path) -> None:
        path = recipe_dir / f"{part}_{kind}.jsonl.gz"
        for row, line in read_lines(path, _Ids):
            values = (row.id, row.recording_id, part, line.rstrip(b"\n"))
            try:
                self._database.execute(f"INSERT INTO {kind} VALUES (?, ?, ?, ?)", values)
            except sqlite3.IntegrityError:
                # Utterances of one recording may belong to several parts, each of which lists it.
                query = f"SELECT part, row FROM {kind} WHERE id = ?"
                other, known = self._database.execute(query, (row.id,)).fetchone()
                if kind == "recordings" and known == values[-1]:
                    continue
                raise UserError(
                    f"{path}: the id {row.id} stands there twice; ids must be unique within a split"
                    if other == part
                    else f"{path}: the id {row.id} stands in {other}_{kind}.jsonl.gz too; a split is made of both"
                    f" parts ({other}, {part}): give what differs an id of its own"
                ) from None

    def _check_recordings(self, recipe_dir: Path) -> None:
        lost = self._database.execute(
            "SELECT id, part, recording FROM supervisions WHERE recording NOT IN (SELECT id FROM recordings) LIMIT 1"
        ).fetchone()
        if lost:
            name, part, recording = lost
            raise UserError(
                f"{recipe_dir / part}_supervisions.jsonl.gz: supervision {name} belongs to the recording {recording},"
                f" which {part}_recordings.jsonl.gz lacks"
            )


def _place(name: str) -> bytes:
    return xxhash.xxh3_64_digest(name.encode())


class Source(msgspec.Struct):
    channels: list[int]


class Recording(msgspec.Struct):
    """What matters here of a recording in Lhotse's JSON form, and that form itself, as it stood in the manifest."""

    id: str
    duration: float
    sources: list[Source]
    row: msgspec.Raw = msgspec.Raw()


_decode_recording = msgspec.json.Decoder(Recording).decode


def _recording(line: bytes) -> Recording:
    recording = _decode_recording(line)
    recording.row = msgspec.Raw(line)
    return recording


class _Ids(msgspec.Struct):
    id: str
    recording_id: str = ""


def _no_such_part(part: str, recipe_dir: Path, selection: Selection) -> str:
    parts = sorted(path.name.removesuffix("_recordings.jsonl.gz") for path in recipe_dir.glob("*_recordings.*"))
    key = "split_by.parts" if selection.shares else f"splits.{selection.split}"
    return f"corpora.{selection.corpus}.{key} is {part!r}, but the recipe found only {', '.join(parts)}"


def select_utterances(
    recipe_dir: Path, selection: Selection, selected: Path, dropped: Path
) -> tuple[Ledger, Dealt | None]:
    """Write the cuts of one split, one for each supervision that is kept, shuffled; and what is left out.

    Args:
        recipe_dir: output of ``prepare_manifests``.
        selection: what to take.
        selected: output, ``.jsonl.gz``, Lhotse cuts.
        dropped: output, ``.jsonl.gz``: ``id``, ``reason``, ``duration`` (s) and ``text``, as it came.

    Returns:
        The ledger, and what fell to the splits, if they are made by shares.

    Raises:
        UserError: as ``Tables``; a recording of several channels; or nothing is left.
    """
    profile, filters = Profile(selection.text, selection.language), Filters(selection.filters)
    with ExitStack() as stack:
        write_cut, write_dropped = (stack.enter_context(row_writer(path)) for path in (selected, dropped))
        tables = Tables(stack.enter_context(scratch_database()), recipe_dir, selection)
        ledger = Ledger(selection.corpus, selection.split, unused_recordings=tables.unused_recordings)
        for split, amount in (tables.dealt.amounts if tables.dealt else {}).items():
            if split != selection.split:
                ledger.other_splits.include(amount)
        for supervision, recording in tables.rows():
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
    supervision: Row, recording: Recording, profile: Profile, filters: Filters, ledger: Ledger
) -> tuple[Row, str | None]:
    """Return the supervision as it is trained on, and why it is left out, if it is."""
    duration = supervision["duration"]
    ledger.taken.add(duration)
    text = profile(supervision.get("text") or "")
    start, end = supervision["start"], supervision["start"] + duration
    if not text:
        return supervision, "no transcript"
    if duration <= 0:  # as some recipes have them; nothing that follows could read such a cut
        return supervision, "no duration"
    if start < 0 or start >= recording.duration or end > recording.duration + END_TOLERANCE_S:
        return supervision, "outside its recording"
    if end > recording.duration:
        ledger.trimmed.add(end - recording.duration)
        duration = recording.duration - start
    channels = [channel for source in recording.sources for channel in source.channels]
    if len(channels) > 1:
        raise UserError(
            f"recording {recording.id} has {len(channels)} channels: set `channels` of the"
            f" corpus {ledger.corpus} to mix, split or the number of one"
        )
    return supervision | {"text": text, "duration": duration}, filters.reason(supervision, text, duration)


def _cut(supervision: Row, recording: Recording) -> Row:
    """Return the MonoCut of one supervision, in Lhotse's JSON form; the supervision's start is relative to the cut."""
    return {
        "id": supervision["id"],
        "start": supervision["start"],
        "duration": supervision["duration"],
        "channel": recording.sources[0].channels[0],
        "supervisions": [supervision | {"start": 0.0}],
        "recording": recording.row,
        "type": "MonoCut",
    }
