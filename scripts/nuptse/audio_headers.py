"""What the header of an audio file says, or why the file cannot be used."""

from __future__ import annotations

import os

import msgspec
import soundfile

from nuptse.audio_sources import OTHER_SUFFIXES
from nuptse.unreadable import ENDLESS, NO_LENGTH, why_unreadable


class Header(msgspec.Struct, frozen=True):
    """Of one audio file.

    Attributes:
        sampling_rate: Hz.
        num_samples: of each channel.
        channels: their number.
        subtype: encoding of the samples, in the words of libsndfile.
    """

    sampling_rate: int
    num_samples: int
    channels: int
    subtype: str

    @property
    def duration(self) -> float:
        return self.num_samples / self.sampling_rate


def read_header(path: str) -> Header | str:
    """Return the header of an audio file, or the reason why the file cannot be used. Samples are not decoded."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    try:
        if not os.path.getsize(path):
            return "empty"
        with soundfile.SoundFile(path) as file:
            header = Header(file.samplerate, file.frames, file.channels, file.subtype)
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        if os.path.isdir(path):
            return "a folder, not a file"
        return f"unreadable: {why_unreadable(error, path)}"
    if header.num_samples > ENDLESS:
        return NO_LENGTH
    return header if header.num_samples > 0 else "empty"


def needs_ffmpeg(path: str) -> bool:
    """Return whether libsndfile does not know this kind of file, by its suffix, and ffmpeg may."""
    return os.path.splitext(path)[1].lower() in OTHER_SUFFIXES
