"""Tell a WAV file that was cut off from a whole one: libsndfile reads both without a word."""

from __future__ import annotations

import struct
from pathlib import Path

# Programs that write to a pipe cannot come back to fill the length in, and write one of the largest numbers.
_UNKNOWN = 0x7FFF0000


def promised_share(path: str) -> float:
    """Return how much audio the header of a WAV file promises, as a multiple of what is there; 1 if nothing lacks.

    Format: https://learn.microsoft.com/windows/win32/xaudio2/resource-interchange-file-format--riff-
    """
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        if file.read(4) != b"RIFF":
            return 1.0
        position = 12
        while position + 8 <= size:
            file.seek(position)
            name, length = struct.unpack("<4sI", file.read(8))
            position += 8
            if name == b"data":
                there = size - position
                return length / there if there < length < _UNKNOWN and there else 1.0
            position += length + length % 2  # chunks begin at even places
    return 1.0
