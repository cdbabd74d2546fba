"""From a corpus folder to Lhotse manifests, a CutSet and a NeMo JSON manifest for each split."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nuptse.errors import UserError
from nuptse.folder_state import is_audio
from nuptse.jsonl import read_rows, row_writer, write_rows
from nuptse.text import Step, apply_profile

# A supervision may end this much after its recording: recipes round times to 10 ms or so.
END_TOLERANCE_S = 0.1


@dataclass
class Amount:
    """Utterances and their audio in seconds."""

    utterances: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.utterances += 1
        self.seconds += seconds

    def __str__(self) -> str:
        return f"{self.utterances} utterances, {self.seconds / 3600:.3f} h"


@dataclass
class Histogram:
    """How many utterances have a duration in ``[bin * width_s, (bin + 1) * width_s)``, by bin."""

    width_s: float = 0.1
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, seconds: float) -> None:
        # Rounded to 1 ns first: 0.3 / 0.1 is 2.9999999999999996.
        number = int(round(seconds / self.width_s, 9))
        self.counts[number] = self.counts.get(number, 0) + 1

    def sort(self) -> None:
        self.counts = dict(sorted(self.counts.items()))


@dataclass
class Ledger:
    """What became of every supervision of a split: ``taken`` = ``kept`` + all of ``dropped``, in utterances.

    In seconds ``trimmed`` comes in addition: what stood beyond the end of a recording. ``histogram`` is of ``kept``.
    """

    corpus: str
    split: str
    taken: Amount = field(default_factory=Amount)
    kept: Amount = field(default_factory=Amount)
    dropped: dict[str, Amount] = field(default_factory=dict)
    trimmed: Amount = field(default_factory=Amount)
    unused_recordings: int = 0
    histogram: Histogram = field(default_factory=Histogram)

    def keep(self, seconds: float) -> None:
        self.kept.add(seconds)
        self.histogram.add(seconds)

    def drop(self, reason: str, seconds: float) -> None:
        self.dropped.setdefault(reason, Amount()).add(seconds)

    def __str__(self) -> str:
        dropped = "; ".join(f"dropped, {reason}: {amount}" for reason, amount in self.dropped.items()) or "dropped: 0"
        return f"{self.corpus}/{self.split}: in: {self.taken}; out: {self.kept}; {dropped}"


def prepare_recipe(recipe: str, corpus_dir: Path, options: Mapping[str, Any], output_dir: Path, num_jobs: int) -> str:
    """Run a Lhotse recipe and write ``<part>_recordings.jsonl.gz`` and ``<part>_supervisions.jsonl.gz`` for each part.

    Args:
        recipe: ``librispeech`` stands for ``lhotse.recipes.prepare_librispeech``.
        corpus_dir: what the recipe gets as its first argument.
        options: its further keyword arguments.
        output_dir: must exist; gets two files for each part.
        num_jobs: passed on where the recipe takes it.

    Returns:
        One line for each part: recordings, supervisions, and audio files of ``corpus_dir`` that the recipe left out.

    Raises:
        UserError: the recipe refuses the folder or an option, or finds nothing in it.
    """
    prepare = getattr(importlib.import_module("lhotse.recipes"), f"prepare_{recipe}", None)
    if prepare is None:
        raise UserError(f"Lhotse has no recipe {recipe!r}: see `lhotse prepare --help` for their names")
    accepted = inspect.signature(prepare).parameters
    for option in options:
        if option not in accepted:
            raise UserError(
                f"recipe_options.{option} is no argument of prepare_{recipe}; it takes {', '.join(accepted)}"
            )
    arguments = dict(options)
    if "num_jobs" in accepted:
        arguments.setdefault("num_jobs", num_jobs)
    _, *others = (name for name, parameter in accepted.items() if parameter.default is parameter.empty)
    if lacking := [name for name in others if name not in arguments and name != "output_dir"]:
        raise UserError(f"prepare_{recipe} also needs {', '.join(lacking)}: give them under recipe_options")
    if not corpus_dir.is_dir():
        raise UserError(f"{corpus_dir} is no folder: set recipe_root to the folder that the recipe {recipe!r} expects")
    with TemporaryDirectory(dir=output_dir) as scratch:
        if "output_dir" in others:  # some recipes write their manifests whether asked to or not
            arguments.setdefault("output_dir", scratch)
        try:
            manifests = prepare(corpus_dir, **arguments)
        except (AssertionError, ValueError, OSError, KeyError) as error:  # how recipes refuse a corpus
            reason = str(error) or "it is not laid out as the recipe expects"
            raise UserError(f"the recipe {recipe!r} cannot read {corpus_dir}: {reason}") from error
        return write_parts(recipe, manifests, corpus_dir, output_dir)


def write_parts(recipe: str, manifests: Mapping[str, Any], corpus_dir: Path, output_dir: Path) -> str:
    """Write what a recipe returned; see ``prepare_recipe``."""
    report, used = [], 0
    for part, tables in flatten_parts(manifests).items():
        recordings, supervisions = tables["recordings"], tables["supervisions"]
        write_rows(output_dir / f"{part}_recordings.jsonl.gz", (_portable(r.to_dict()) for r in recordings))
        write_rows(output_dir / f"{part}_supervisions.jsonl.gz", (s.to_dict() for s in supervisions))
        used += len(recordings)
        report.append(f"{part}: {len(recordings)} recordings, {len(supervisions)} supervisions")
    if not used:
        raise UserError(
            f"the recipe {recipe!r} found no recording in {corpus_dir}: check recipe_root and recipe_options"
        )
    on_disk = sum(is_audio(path.name) for path in corpus_dir.rglob("*"))
    report.append(
        f"{corpus_dir}: {on_disk} audio files, {used} in the recipe's manifests, {max(0, on_disk - used)} not"
    )
    return "\n".join(report)


def flatten_parts(manifests: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    """Return ``{part: {"recordings": ..., "supervisions": ...}}`` for any nesting that recipes return.

    Nested names are joined by a dot (``en.train``); a recipe that returns one pair only has the part ``all``.
    """
    if "recordings" in manifests:
        return {prefix or "all": manifests}
    parts: dict[str, Mapping[str, Any]] = {}
    for name, value in manifests.items():
        parts |= flatten_parts(value, f"{prefix}.{name}" if prefix else str(name))
    return parts


def _portable(recording: dict[str, Any]) -> dict[str, Any]:
    """Write paths below the working directory relative to it, so that manifests are the same in every checkout."""
    here = Path.cwd()
    for source in recording["sources"]:
        if source["type"] == "file" and Path(source["source"]).is_absolute():
            path = Path(os.path.normpath(source["source"]))
            source["source"] = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return recording


def build_cutset(
    recipe_dir: Path, part: str, outputs: Mapping[str, Path], profile: Sequence[Step], language: str, ledger: Ledger
) -> None:
    """Write the recordings, supervisions and cuts of one split, sorted by id: one cut for each supervision.

    Args:
        recipe_dir: output of ``prepare_recipe``.
        part: the recipe's name of the split.
        outputs: paths of ``recordings``, ``supervisions`` and ``cuts`` (``.jsonl.gz``).
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
    with row_writer(outputs["supervisions"]) as write_supervision, row_writer(outputs["cuts"]) as write_cut:
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
                write_supervision(segment)
                write_cut(_cut(segment, recording))
    write_rows(outputs["recordings"], (row for row in recordings.values() if row["id"] in used))
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
