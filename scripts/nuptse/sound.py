"""Measure sound as it streams by: level, clipping, silence, offset, bandwidth and digest, in flat memory.

Samples are counted in steps of 16 bits, whatever their encoding, so that 16-bit audio is measured without a rounding.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import xxhash
from numpy.typing import NDArray

FULL_SCALE = 32768
FRAME_S = 0.025
# Floats beyond are no sound but what is left of a damaged file.
ABSURD = 1000 * FULL_SCALE
# A frame with less than -60 dBFS, its mean set aside, is silent: far below any speech, above the noise of dither.
SILENT = (FULL_SCALE * 10 ** (-60 / 20)) ** 2
# Flat tops of three samples do not come from a sound wave that was recorded as it was.
CLIPPED_RUN = 3
# The largest value of encodings that never reach the ends of 16 bits.
LARGEST = {"PCM_S8": 127 << 8, "PCM_U8": 127 << 8, "ULAW": 32124, "ALAW": 32256}

# Samples that are measured at a time; they stay in the cache of a core.
BLOCK = 32_000
# The spectrum is the mean over some frames of 32 ms of every block, of those above -55 dBFS. A band of 250 Hz counts if
# it is not weaker, beside the loudest one, than what resamplers let through where there was nothing. In quiet audio the
# noise of 16 bits is stronger than that, and passes for full band.
SPECTRUM_FRAMES = 8
SPECTRUM_S = 0.032
LOUD = (FULL_SCALE * 10 ** (-55 / 20)) ** 2
FEWEST_FRAMES = 6
BAND_HZ = 250.0
DROP_DB = 60.0


class SoundMeter:
    """Takes the samples of one channel in pieces of any size, and knows at the end what they were.

    Args:
        rate: Hz.
        subtype: encoding of the file, as libsndfile calls it; says where full scale is.

    Attributes:
        samples: taken so far.
        non_finite: of them NaN, infinite or absurdly large.
    """

    def __init__(self, rate: int, subtype: str = "PCM_16") -> None:
        self.rate = rate
        self.samples = 0
        self.non_finite = 0
        self._digest = xxhash.xxh3_128(rate.to_bytes(4, "little"))
        self._frame = max(1, round(rate * FRAME_S))
        self._ones = _ones(self._frame)
        # Whole frames, so that no number depends on the size of the pieces.
        self._block = np.empty(max(1, BLOCK // self._frame) * self._frame, np.float32)
        self._filled = 0
        self._peak = 0.0
        self._total = 0.0
        self._squares = 0.0
        self._frames = 0
        self._silent_frames = 0
        self._largest = LARGEST.get(subtype, FULL_SCALE - 1)
        self._clipped = 0
        self._open_run = 0
        self._spectrum_length = 1 << round(math.log2(rate * SPECTRUM_S))
        self._window = _window(self._spectrum_length)
        self._spectrum = np.zeros(self._spectrum_length // 2 + 1)
        self._spectrum_frames = 0

    def add(self, samples: NDArray[np.int16] | NDArray[np.float32]) -> None:
        """Take the next samples, (T,): 16-bit integers, or floats with full scale at 1."""
        self.samples += len(samples)
        if samples.dtype == np.int16:
            self._digest.update(np.ascontiguousarray(samples).astype("<i2", copy=False).data)
        else:
            samples = self._scaled(samples.astype(np.float32, copy=False))
        start = 0
        while start < len(samples):
            count = min(len(samples) - start, len(self._block) - self._filled)
            self._block[self._filled : self._filled + count] = samples[start : start + count]
            self._filled += count
            start += count
            if self._filled == len(self._block):
                self._measure(self._block)
                self._filled = 0

    def _scaled(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return floats in steps of 16 bits, and enter them in the digest as if they had been written so."""
        scaled = samples * np.float32(FULL_SCALE)
        finite = np.abs(scaled) < ABSURD  # which NaN is not either
        if not finite.all():
            self.non_finite += int(finite.size - np.count_nonzero(finite))
            scaled[~finite] = 0
        self._digest.update(np.clip(np.rint(scaled), -FULL_SCALE, FULL_SCALE - 1).astype("<i2").data)
        return scaled

    def _measure(self, block: NDArray[np.float32]) -> None:
        high, low = float(block.max()), float(block.min())
        self._peak = max(self._peak, high, -low)
        if max(high, -low) >= self._largest or self._open_run:
            self._count_clipped(np.abs(block) >= self._largest)
        whole = len(block) - len(block) % self._frame
        self._measure_frames(block[:whole].reshape(-1, self._frame), self._ones)
        if whole < len(block):
            self._measure_frames(block[whole:].reshape(1, -1), self._ones[: len(block) - whole])
        self._add_spectrum(block)

    def _measure_frames(self, frames: NDArray[np.float32], ones: NDArray[np.float32]) -> None:
        length = len(ones)
        squares, sums = np.einsum("ij,ij->i", frames, frames), frames @ ones
        self._squares += float(squares.sum(dtype=np.float64))
        self._total += float(sums.sum(dtype=np.float64))
        self._frames += len(frames)
        self._silent_frames += int(np.count_nonzero(squares / length - (sums / length) ** 2 < SILENT))

    def _count_clipped(self, full: NDArray[np.bool_]) -> None:
        edges = np.flatnonzero(np.diff(np.concatenate(([False], full, [False])).view(np.int8)))
        starts, ends = edges[::2].tolist(), edges[1::2].tolist()
        if self._open_run and (not starts or starts[0] > 0):
            starts.insert(0, 0)
            ends.insert(0, 0)
        for start, end in zip(starts, ends, strict=True):
            run = end - start + (self._open_run if start == 0 else 0)
            if end == len(full):
                self._open_run = run
                return
            self._clipped += run if run >= CLIPPED_RUN else 0
        self._open_run = 0

    def _add_spectrum(self, block: NDArray[np.float32]) -> None:
        length = self._spectrum_length
        frames = block[: len(block) - len(block) % length].reshape(-1, length)
        frames = frames[:: max(1, math.ceil(len(frames) / SPECTRUM_FRAMES))]
        frames = frames[np.einsum("ij,ij->i", frames, frames) > LOUD * length]
        if len(frames):
            bins = np.fft.rfft(frames * self._window)
            self._spectrum += (bins.real**2 + bins.imag**2).sum(axis=0, dtype=np.float64)
            self._spectrum_frames += len(frames)

    def finish(self) -> dict[str, float | int | str | None]:
        """Return what was measured, by the names of ``AudioFacts``; no more samples can be added."""
        if self._filled:
            self._measure(self._block[: self._filled])
        self._clipped += self._open_run if self._open_run >= CLIPPED_RUN else 0
        count = max(1, self.samples)
        rms = math.sqrt(self._squares / count) / FULL_SCALE
        return {
            "peak": _rounded(self._peak / FULL_SCALE),
            "rms_db": round(20 * math.log10(rms), 2) if rms else None,
            "clipped": _rounded(self._clipped / count),
            "silence": _rounded(self._silent_frames / max(1, self._frames)),
            "dc": _rounded(self._total / count / FULL_SCALE),
            "non_finite": self.non_finite,
            "bandwidth_hz": self._bandwidth_hz(),
            "digest": self._digest.hexdigest(),
        }

    def _bandwidth_hz(self) -> float | None:
        if self._spectrum_frames < FEWEST_FRAMES:
            return None
        per_band = max(1, round(BAND_HZ * self._spectrum_length / self.rate))
        bands = np.add.reduceat(self._spectrum[1:], np.arange(0, len(self._spectrum) - 1, per_band))
        highest = int(np.flatnonzero(bands > bands.max() * 10 ** (-DROP_DB / 10))[-1])
        return min(self.rate / 2, (highest + 1) * per_band * self.rate / self._spectrum_length)


@cache
def _ones(length: int) -> NDArray[np.float32]:
    return np.ones(length, np.float32)


@cache
def _window(length: int) -> NDArray[np.float32]:
    return np.hanning(length).astype(np.float32)


def _rounded(value: float) -> float:
    # Six places are finer than a step of 16 bits, and the same whatever the order in which a CPU adds.
    return round(value, 6)
