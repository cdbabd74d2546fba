"""What must hold at the moment a training starts: its utterances and their audio are still there.

NeMo drops an utterance whose audio is missing from its batch without a word, and does not miss the end of a manifest.
All else the doctor has looked at before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from nuptse.errors import UserError, make_again
from nuptse.jsonl import read_rows
from nuptse.shard_ledger import check_shards, read_ledger


class _Source(msgspec.Struct):
    source: str


class _Recording(msgspec.Struct):
    sources: list[_Source]


class _Cut(msgspec.Struct):
    recording: _Recording


class _Row(msgspec.Struct):
    audio_filepath: str


def audio_files(data: Path) -> Iterator[str]:
    """Yield the audio file of each utterance in cuts or a NeMo manifest."""
    if data.suffix == ".gz":
        yield from (cut.recording.sources[0].source for cut in read_rows(data, _Cut))
    else:
        yield from (row.audio_filepath for row in read_rows(data, _Row))


def check_data(name: str, data: Path, counted: int | None = None, root: Path = Path()) -> str:
    """Check that all audio of one corpus and split is there; return a line for the log.

    Args:
        name: ``corpus/split``.
        data: its cuts (``.jsonl.gz``), NeMo manifest (``.json``) or shard ledger (``ledger.json``).
        counted: how many utterances it had for the duration bins or the doctor; None if they did not look.
        root: the folder that this path and those in it are relative to.

    Raises:
        UserError: audio is missing, a shard is not as its ledger says, or its utterances are not as many as counted.
    """
    if data.name == "ledger.json":
        check_shards(root / data)
        found, kind = int(read_ledger(root / data)["utterances"]), " in shards"
    else:
        found, kind = _check_files(name, data, root), ""
    if counted not in (None, found):
        raise UserError(
            f"{name}: {data} has {found} utterances, but {counted} were counted before: a file was cut short between"
            f" two of its lines; {make_again(_manifest(name, data, root))}"
        )
    return f"{name}: {found} utterances{kind}"


def _manifest(name: str, data: Path, root: Path) -> Path:
    """Return the NeMo manifest that shards were made from, if it is there, else ``data``."""
    manifest = Path("data/manifests", f"{name.replace('/', '_nemo_')}.json")
    return manifest if data.name == "ledger.json" and (root / manifest).exists() else data


def _check_files(name: str, data: Path, root: Path) -> int:
    count, missing = 0, []
    for audio in audio_files(root / data):
        count += 1
        if not (root / audio).is_file():
            missing.append(audio)
    if missing:
        raise UserError(
            f"{name}: {len(missing)} of {count} audio files in {data} are missing, such as"
            f" {', '.join(missing[:3])}; put them back, or run again with --forcerun prepare_manifests"
        )
    return count
