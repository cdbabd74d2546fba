"""The rows of a source, before their audio was looked at, and the ids that they get."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

# Under `custom` of a supervision: the recording that it was part of before each channel became one of its own.
ORIGINAL = "original_recording_id"


# Structs, not dataclasses: there is one for each row, and making a frozen dataclass takes ten times as long.


class Utterance(msgspec.Struct, frozen=True):
    """One row of a source, before its audio was looked at.

    Attributes:
        part: of the source, such as ``train``.
        place: file and line, for messages.
        audio: path of the file.
        text: transcript, as it came; white space is made one space later on.
        name: of the audio, from which ids are made; see :class:`AudioNames`.
        id: of the utterance; "" if the source has none.
        recording: id of the recording; "" if the source has none.
        start: s from the start of the file.
        end: s; None for all that follows.
        channel: number from 0, where the file has several speakers.
        speaker, language: "" if unknown.
        extra: further keys of the supervision.
    """

    part: str
    place: str
    audio: str
    text: str
    name: str
    id: str = ""
    recording: str = ""
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    speaker: str = ""
    language: str = ""
    extra: Mapping[str, Any] | None = None

    @property
    def seconds(self) -> float | None:
        return None if self.end is None else self.end - self.start


class Rejected(msgspec.Struct, frozen=True):
    """An utterance that is left out: by its source, or because of its audio.

    ``seconds`` is None where nothing says how long it is.
    """

    part: str
    id: str
    audio: str
    reason: str
    seconds: float | None = None


class Unused(msgspec.Struct, frozen=True):
    """How many recordings of a part no utterance of it belongs to. Parts may share one list of recordings."""

    part: str
    recordings: int


Row = Utterance | Rejected | Unused


# --- paths ---


def audio_path(path: str, folder: Path) -> str:
    """Return the file that a manifest names, as NeMo finds it: from the working directory, else from ``folder``."""
    return os.path.normpath(path if os.path.isabs(path) or os.path.exists(path) else folder / path)


def portable(path: str, here: str) -> str:
    """Return a path below the folder ``here`` relative to it.

    Of the working directory, with a slash at its end: so manifests are the same in every checkout.
    """
    return os.path.normpath(path).removeprefix(here)


# --- ids ---


class AudioNames:
    """Names of audio files, which ids are made of: paths below the root, or else below the first folder above both.

    No other file is looked at, so that ids stay when the corpus grows.

    Args:
        root: where relative paths start.
        prefix: goes before what lies below it.
        shared: at or above the root; where names of what lies elsewhere start. None: the root.
    """

    def __init__(self, root: Path, prefix: str = "", shared: Path | None = None) -> None:
        above = Path(_full(shared or root))
        self._here, self._root, self._prefix = os.getcwd(), os.path.join(_full(root), ""), prefix
        self._folders = [os.path.join(folder, "") for folder in (above, *above.parents)]

    def name(self, path: str) -> str:
        """Return the name of a path that starts at the root, if it is relative."""
        if not os.path.isabs(path) and ".." not in path:
            return self._prefix + os.path.normpath(path)
        return self.name_of_file(os.path.join(self._root, path))

    def name_of_file(self, path: str) -> str:
        """Return the name of a path that starts at the working directory, if it is relative."""
        full = _full(path, self._here)
        if full.startswith(self._root):
            return self._prefix + full.removeprefix(self._root)
        return next(full.removeprefix(folder) for folder in self._folders if full.startswith(folder))


def names_of_parts(roots: Mapping[str, Path]) -> dict[str, AudioNames]:
    """Return how the audio of each part is named, by the folder that its relative paths start from.

    The same file names may be in the folders of two parts: where a part of several has a folder to itself, the name of
    the part comes first.
    """
    folders = {part: _full(root) for part, root in roots.items()}
    shared, count = Path(os.path.commonpath(folders.values())), Counter(folders.values())
    own = {part for part, folder in folders.items() if len(folders) > 1 and count[folder] == 1}
    return {part: AudioNames(root, f"{part}/" if part in own else "", shared) for part, root in roots.items()}


def _full(path: str | Path, here: str = "") -> str:
    # Not abspath, which asks for the working directory each time. It too leaves two slashes at the start as they are.
    return "/" + os.path.normpath(os.path.join(here or os.getcwd(), path)).lstrip("/")


def utterance_id(row: Utterance, recording: str, whole: bool) -> str:
    """Return the id of a row: its own, that of its recording if it is all of that, or recording and times (ms)."""
    if row.id:
        return row.id
    channel = "" if row.channel is None else f"-c{row.channel}"
    if whole or (not row.start and row.end is None):
        return recording + channel
    end = "" if row.end is None else f"-{round(row.end * 1000):07d}"
    return f"{recording}{channel}-{round(row.start * 1000):07d}{end}"
