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
        if path.endswith(".flac") and (known := _flac_header(path)):
            return known
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


# Bytes: what encoders write before the first samples, padding aside.
_FLAC_START = 1024
_PADDING, _SEEK_TABLE, _COMMENTS = 1, 3, 4


def _flac_header(path: str) -> Header | None:
    """Return what the first block of a FLAC file says; None where anything is unusual, for libsndfile to judge.

    libsndfile takes five times as long, most of it to make a decoder ready. Format: RFC 9639, section 8.
    """
    # Not open(), which takes three times as long; without waiting for what a pipe of such a name may bring.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        start = os.read(file, _FLAC_START)
        size = len(start) if len(start) < _FLAC_START else os.fstat(file).st_size
    finally:
        os.close(file)
    first = start[:8]
    if first not in (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22") or len(start) < 42:
        return None
    last, end = first[4] == 0x80, 42
    while not last and end + 4 <= len(start):
        last, kind = start[end] >= 0x80, start[end] & 0x7F
        begin, length = end + 4, int.from_bytes(start[end + 1 : end + 4], "big")
        end = begin + length
        if not _is_usual(kind, length, start[begin:end]):
            return None
    # Behind sizes of blocks and frames: sampling rate, channels - 1, bits a sample - 1, samples (20, 3, 5, 36 bits).
    fields = int.from_bytes(start[18:26], "big")
    rate, channels, bits, samples = fields >> 44, fields >> 41 & 7, fields >> 36 & 31, fields & (1 << 36) - 1
    usual = last and end < size and rate and bits == 15 and samples
    return Header(rate, samples, channels + 1, "PCM_16") if usual else None


def _is_usual(kind: int, length: int, block: bytes) -> bool:
    """Return whether libFLAC reads a block without complaint; comments: a name, a number, each after its length."""
    if kind != _COMMENTS:
        return kind == _PADDING or (kind == _SEEK_TABLE and length % 18 == 0)
    name_end = 4 + int.from_bytes(block[:4], "little")
    end = name_end + 4
    for _ in range(min(int.from_bytes(block[name_end:end], "little"), len(block))):
        end += 4 + int.from_bytes(block[end : end + 4], "little")
    return end == len(block) == length


def needs_ffmpeg(path: str) -> bool:
    """Return whether libsndfile does not know this kind of file, by its suffix, and ffmpeg may."""
    return os.path.splitext(path)[1].lower() in OTHER_SUFFIXES
