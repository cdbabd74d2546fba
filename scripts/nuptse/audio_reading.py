"""Decode an audio file once, from start to end, and measure the cuts that lie in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from nuptse.audio_facts import EMPTY, MISSING, UNREADABLE
from nuptse.sound import SoundMeter
from nuptse.unreadable import ENDLESS, why_unreadable
from nuptse.wav_header import promised_share

Samples = NDArray[np.int16] | NDArray[np.float32]

# What 16-bit integers hold without loss, and fastest. Compressed audio may exceed full scale: integers would wrap.
_AS_INTEGERS = frozenset(("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW", "ALAC_16"))
_BLOCK = 1 << 20
# How finely one looks for the place where a damaged file ends.
_FINE_BLOCK = 1 << 12


class Segment(NamedTuple):
    """A cut in a file: start and length in s, and which channel, from 0."""

    start_s: float
    duration_s: float
    channel: int


def measure(path: str, segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """Return what was measured of each segment of a file, by the names of ``AudioFacts``, in their order.

    The file is decoded once and block by block, however long it is and however many segments it has.
    """
    try:
        if not os.stat(path).st_size:
            return [{"error": EMPTY} for _ in segments]
        with soundfile.SoundFile(path) as file:
            # Lhotse opens it but cannot load it: soundfile reads no such file without being told its length.
            if not file.seekable():
                reason = f"{file.format}/{file.subtype} cannot be sought in, which Lhotse needs"
                return [{"error": UNREADABLE, "reason": reason} for _ in segments]
            return _measure(path, file, segments)
    except (FileNotFoundError, NotADirectoryError):
        return [{"error": MISSING} for _ in segments]
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        return [{"error": UNREADABLE, "reason": why_unreadable(error, path)} for _ in segments]


def _measure(path: str, file: soundfile.SoundFile, segments: Sequence[Segment]) -> list[dict[str, Any]]:
    rate, subtype = file.samplerate, file.subtype
    reason: list[str] = []
    sounds, decoded = _sounds(_blocks(path, file, reason), segments, rate, subtype)
    if reason and not decoded:
        return [{"error": UNREADABLE, "reason": reason[0]} for _ in segments]
    whole = {
        "reason": reason[0] if reason else None,
        "sampling_rate": rate,
        "channels": file.channels,
        "format": f"{file.format}/{subtype}",
        "header_s": _promised(path, file, decoded) / rate,
        "file_s": decoded / rate,
    }
    return [whole | sound for sound in sounds]


def _sounds(
    blocks: Iterator[Samples], segments: Sequence[Segment], rate: int, subtype: str
) -> tuple[list[dict[str, Any]], int]:
    """Return what was measured of each segment, and the samples of the file; a meter lives as long as its segment."""
    spans = [(round(s.start_s * rate), round((s.start_s + s.duration_s) * rate)) for s in segments]
    waiting = sorted(range(len(segments)), key=lambda index: spans[index], reverse=True)
    begun: dict[int, SoundMeter] = {}
    sounds: dict[int, dict[str, Any]] = {}
    position = 0
    for block in blocks:
        end = position + len(block)
        current = list(begun)
        while waiting and spans[waiting[-1]][0] < end:
            current.append(waiting.pop())
        for index in current:
            first, last = spans[index]
            meter = begun.pop(index, None) or SoundMeter(rate, subtype)
            channel = min(segments[index].channel, block.shape[1] - 1)
            meter.add(block[max(0, first - position) : last - position, channel])
            if last > end:
                begun[index] = meter
            else:
                sounds[index] = _result(meter)
        position = end
    sounds |= {index: _result(meter) for index, meter in begun.items()}
    sounds |= {index: _result(SoundMeter(rate, subtype)) for index in waiting}  # they begin after the end of the file
    return [sounds[index] for index in range(len(segments))], position


def _result(meter: SoundMeter) -> dict[str, Any]:
    return {"cut_s": meter.samples / meter.rate, **meter.finish()}


def _promised(path: str, file: soundfile.SoundFile, decoded: int) -> float:
    """Return how many samples the header of a file promises."""
    frames: int = file.frames
    if frames > ENDLESS:
        return decoded
    # For WAV libsndfile gives the length that is there, not the one that the header promises.
    return frames * promised_share(path) if file.format in ("WAV", "WAVEX") else frames


def _blocks(path: str, file: soundfile.SoundFile, reason: list[str]) -> Iterator[Samples]:
    """Yield the samples of a file as far as they can be decoded, (T, channels); a damage is told to ``reason``.

    Every block is overwritten by the next one.
    """
    position = 0
    try:
        # One more than there should be, to see whether there is more.
        for block in _read(file, min(file.frames + 1, _BLOCK)):
            yield block
            position += len(block)
    except soundfile.LibsndfileError as error:
        reason.append(why_unreadable(error, path))
        yield from _sound_part(path, position)


def _read(file: soundfile.SoundFile, length: int) -> Iterator[Samples]:
    dtype = "int16" if file.subtype in _AS_INTEGERS else "float32"
    block = np.empty((length, file.channels), dtype)
    # Not file.read, which believes the length in the header.
    while count := file.buffer_read_into(block, dtype):
        yield block[:count]
        if count < length:
            return


def _sound_part(path: str, position: int) -> Iterator[Samples]:
    """Yield what can be decoded after ``position`` of a file that is damaged further on."""
    with soundfile.SoundFile(path) as file:  # anew, for the decoder of the first is in no defined state
        at = 0
        try:
            for block in _read(file, _FINE_BLOCK):
                at += len(block)
                if at > position:
                    yield block[max(0, len(block) - (at - position)) :]
        except soundfile.LibsndfileError:
            return
