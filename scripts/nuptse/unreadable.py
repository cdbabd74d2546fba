"""Say why an audio file cannot be decoded, in the words of the decoder where it has some."""

from __future__ import annotations

from pathlib import Path

import soundfile

# Samples: more are libsndfile's way to say that a header has no length, as in FLAC that was written to a pipe.
ENDLESS = 1 << 40
NO_LENGTH = "its header does not say how long it is: write it again, to a file (`ffmpeg -i IN OUT.flac`)"


def why_unreadable(error: Exception, path: str | Path) -> str:
    """Return the reason that an exception of soundfile or of the operating system gives, in one line, without the path.

    >>> why_unreadable(PermissionError(13, "Permission denied", "a.wav"), "a.wav")
    'Permission denied'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join((error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)).split())
    # "File does not exist" are libsndfile's words for an MP3 file that is none, and of a damaged FLAC file it has none.
    if not words or words.startswith("File does not exist"):
        return f"it is damaged, or no {Path(path).suffix.lower()}"
    return words
