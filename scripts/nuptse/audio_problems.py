"""What can be wrong with the audio of an utterance, how bad that is, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from nuptse.audio_facts import EMPTY, MISSING, UNREADABLE, AudioFacts


class AudioLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where on a fact is a problem: ``doctor.audio`` of the configuration; None: never.

    Attributes:
        duration_s: declared and decoded length may differ by this much, s.
        shortest_s: less audio is none, s.
        silence: share of silent frames from which on a cut holds next to nothing.
        clipped: share of samples at full scale.
        dc: mean, of full scale.
        bandwidth: share of the band that the rate of the file promises, below which audio is narrow.
    """

    duration_s: float = 0.1
    shortest_s: float = 0.1
    silence: float | None = 0.9
    clipped: float | None = 0.01
    dc: float | None = 0.05
    bandwidth: float | None = 0.65


@dataclass(frozen=True)
class Problem:
    """A kind of bad audio.

    Attributes:
        code: its name in files and settings.
        severity: an ``error`` makes an utterance useless or harmful; a ``warning`` may be as it should.
        sentence: what was found; a format string of the fields of ``AudioFacts`` and of ``expected_hz``.
        remedy: what to do about it, an imperative.
    """

    code: str
    severity: Literal["error", "warning"]
    sentence: str
    remedy: str

    def describe(self, facts: AudioFacts) -> str:
        """Return the sentence about this audio, such as ``it decodes to 1.000 s, …``."""
        values: Mapping[str, Any] = msgspec.structs.asdict(facts)
        return self.sentence.format_map({**values, "expected_hz": promised_hz(facts.sampling_rate)})


_FIX_MANIFEST = "correct the manifest of the corpus, or prepare the corpus again if its audio was changed"

PROBLEMS: dict[str, Problem] = {
    problem.code: problem
    for problem in (
        Problem(MISSING, "error", "there is no such file", "put the file back or correct its path in the corpus"),
        Problem(EMPTY, "error", "it holds no audio", "copy or download the file again"),
        Problem(UNREADABLE, "error", "it cannot be decoded: {reason}", "convert it to FLAC or WAV, or copy it again"),
        Problem(
            "truncated",
            "error",
            "it ends after {file_s:.3f} s, but its header promises {header_s:.3f} s",
            "copy or download the file again",
        ),
        Problem(
            "wrong_duration",
            "error",
            "the manifest says {duration_s:.3f} s from {start_s:.3f} s on, of {declared_s:.3f} s in all,"
            " but {cut_s:.3f} s of {file_s:.3f} s are there",
            _FIX_MANIFEST,
        ),
        Problem(
            "wrong_rate",
            "error",
            "the manifest says {declared_rate} Hz, but the file has {sampling_rate} Hz",
            _FIX_MANIFEST,
        ),
        Problem(
            "wrong_channels",
            "error",
            "the manifest says {declared_channels} channel(s), but the file has {channels}",
            "set `channels` of the corpus to mix, split or the number of one, and prepare it again",
        ),
        Problem("too_short", "error", "it has only {cut_s:.3f} s", "leave the utterance out, or correct its times"),
        Problem(
            "non_finite",
            "error",
            "{non_finite} samples are no finite numbers",
            "write the file again from its source, as 16-bit FLAC or WAV",
        ),
        Problem("silent", "error", "all of it is silent", "record or copy it again, or leave the utterance out"),
        Problem(
            "mostly_silent",
            "warning",
            "{silence:.0%} of it is silent",
            "cut the silence off, or correct the times of the utterance",
        ),
        Problem(
            "clipped",
            "warning",
            "{clipped:.1%} of its samples are clipped at full scale",
            "take the audio from before it was amplified; turning it down does not mend it",
        ),
        Problem(
            "dc_offset",
            "warning",
            "its mean is {dc:+.3f} of full scale, not 0",
            "remove the offset with a high-pass filter, such as `sox IN OUT highpass 20`",
        ),
        Problem(
            "narrow_band",
            "warning",
            "it holds speech up to {bandwidth_hz:.0f} Hz only, of the {expected_hz:.0f} Hz that its rate promises",
            "take audio that was not upsampled, or train on it knowingly",
        ),
    )
}


def promised_hz(rate: int) -> float:
    """Return up to where there should be speech at a sampling rate, Hz: half of it, but no more than 8 kHz.

    Speech has little above 8 kHz, and recognisers do not look there.
    """
    return min(rate / 2, 8000.0)


def problems_of(facts: AudioFacts, limits: AudioLimits) -> list[str]:
    """Return the codes of what is wrong with an utterance, the errors first; empty if nothing is.

    >>> row = AudioFacts(id="a", audio="a.wav", start_s=0, duration_s=1, declared_s=1, declared_rate=16000)
    >>> row.error = "missing"
    >>> problems_of(row, AudioLimits())
    ['missing']
    """
    if facts.error is not None:
        return [facts.error]
    if facts.file_s == 0:
        return [EMPTY]
    return [*_not_as_declared(facts, limits), *_not_as_speech(facts, limits)]


def errors_of(facts: AudioFacts, limits: AudioLimits) -> list[str]:
    """Return the codes of the errors alone."""
    return [code for code in problems_of(facts, limits) if PROBLEMS[code].severity == "error"]


def has_error(codes: Sequence[str]) -> bool:
    """Return whether one of the problems is an error."""
    return any(PROBLEMS[code].severity == "error" for code in codes)


def _not_as_declared(facts: AudioFacts, limits: AudioLimits) -> list[str]:
    found = []
    lacking = facts.duration_s - facts.cut_s > limits.duration_s
    whole = facts.start_s == 0 and abs(facts.duration_s - facts.declared_s) < 0.001
    if lacking and facts.header_s - facts.file_s > limits.duration_s:
        found.append("truncated")
    elif lacking or (whole and abs(facts.declared_s - facts.file_s) > limits.duration_s):
        found.append("wrong_duration")
    if facts.sampling_rate != facts.declared_rate:
        found.append("wrong_rate")
    if facts.channels != facts.declared_channels:
        found.append("wrong_channels")
    if not lacking and facts.cut_s < limits.shortest_s:
        found.append("too_short")
    return found


def _not_as_speech(facts: AudioFacts, limits: AudioLimits) -> list[str]:
    def beyond(value: float, limit: float | None) -> bool:
        return limit is not None and value > limit

    found = ["non_finite"] if facts.non_finite else []
    if facts.cut_s == 0:
        return found
    if limits.silence is not None and facts.silence == 1:
        found.append("silent")
    elif beyond(facts.silence, limits.silence):
        found.append("mostly_silent")
    if beyond(facts.clipped, limits.clipped):
        found.append("clipped")
    if beyond(abs(facts.dc), limits.dc):
        found.append("dc_offset")
    band_hz, least = facts.bandwidth_hz, limits.bandwidth
    if band_hz is not None and least is not None and band_hz < least * promised_hz(facts.sampling_rate):
        found.append("narrow_band")
    return found
