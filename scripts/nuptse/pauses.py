"""Where a long recording can be cut: at its quietest places, so that no word is cut in two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Power is measured in frames of this length, and a place is as loud as the mean of a window around it. 0.3 s is longer
# than the silence inside a word (a closed stop takes about 0.1 s), so the quietest window is a pause if there is one.
FRAME_S = 0.01
WINDOW_S = 0.3
# A piece is cut at the quietest place between these lengths; only the last one may be shorter, but never below 1 s.
SHORTEST_S = 15.0
LONGEST_S = 30.0
LAST_S = 1.0


def frame_length(sampling_rate: int) -> int:
    """Return the samples of a frame: 10 ms, rounded to whole samples."""
    return max(1, round(sampling_rate * FRAME_S))


def powers(blocks: Iterable[NDArray[np.float32]], length: int) -> tuple[int, NDArray[np.float32]]:
    """Return the number of samples in ``blocks`` and the power of each frame; one block is in memory at a time.

    Args:
        blocks: samples of one channel, (T,); every block but the last is a whole number of frames.
        length: samples of a frame; the last frame may be shorter.

    Returns:
        Samples in all, and the variance of every frame, (ceil(samples / length),): a constant offset is no sound.

    Raises:
        ValueError: a sample is no finite number.
    """
    samples, found = 0, []
    for block in blocks:
        if not np.isfinite(block).all():
            raise ValueError("it holds samples that are no numbers")
        samples += len(block)
        whole = len(block) - len(block) % length
        found.append(block[:whole].reshape(-1, length).var(axis=1))
        if whole < len(block):
            found.append(block[whole:].var(keepdims=True))
    return samples, np.concatenate([np.zeros(0, np.float32), *found])


def quiet_cuts(power: NDArray[np.float32], frame_s: float) -> list[int]:
    """Return the frames at which to cut, ascending, so that no piece is longer than ``LONGEST_S``.

    From the start of each piece on, the cut is made at the quietest place from ``SHORTEST_S`` to ``LONGEST_S`` after
    it. Where several places are equally quiet, as in digital silence, it is the middle one of them.

    Args:
        power: of each frame, (N,).
        frame_s: length of a frame, s.
    """
    window, shortest, longest, last = (int(s / frame_s) for s in (WINDOW_S, SHORTEST_S, LONGEST_S, LAST_S))
    if len(power) <= longest:
        return []
    # In double precision: after loud speech a pause must still be seen.
    loudness = np.convolve(power.astype(np.float64), np.full(window, 1 / window), mode="same")
    cuts, start = [], 0
    while len(power) - start > longest:
        end = min(start + longest, len(power) - last)
        places = loudness[start + shortest : end + 1]
        quietest = np.flatnonzero(places <= places.min())
        start += shortest + int(quietest[len(quietest) // 2])
        cuts.append(start)
    return cuts


def pieces(samples: int, cuts: Sequence[int], length: int) -> list[tuple[int, int]]:
    """Return (first sample, number of samples) of each piece between ``cuts`` (frames of ``length`` samples)."""
    edges = [0, *(cut * length for cut in cuts), samples]
    return [(start, end - start) for start, end in pairwise(edges)]
