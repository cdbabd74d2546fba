"""What decoding tells about the audio of an utterance: one row for each cut, measured and not judged.

``audio_problems`` judges, so that a limit can be changed without decoding anything again.
"""

from __future__ import annotations

import msgspec

MISSING = "missing"
EMPTY = "empty"
UNREADABLE = "unreadable"


class AudioFacts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The audio of one cut, as it was decoded.

    Where ``error`` is set nothing was decoded: of the rest only ``id``, ``audio``, ``reason`` and what the manifest
    declares mean anything. Numbers of the sound are of the cut and of the channel that the cut names.

    Attributes:
        id: of the cut.
        audio: path of the file, as the manifest writes it.
        start_s: where the cut begins in the file, s, by the manifest.
        duration_s: length of the cut, s, by the manifest.
        declared_s: length of the whole recording, s, by the manifest.
        declared_rate: Hz, by the manifest.
        declared_channels: channels of the file, by the manifest.
        error: None, or why nothing could be decoded: ``missing``, ``empty`` (no byte) or ``unreadable``.
        reason: what the decoder said, if it said something.
        sampling_rate: of the file, Hz.
        channels: of the file.
        format: container and encoding, such as ``FLAC/PCM_16``.
        header_s: length of the whole file by its own header, s; an estimate for MP3, Ogg and Opus.
        file_s: length of the whole file as it was decoded, s.
        cut_s: length of the cut as it was decoded, s.
        peak: largest absolute sample, of full scale; a float file may exceed 1.
        rms_db: level of the cut, dBFS (a full-scale square wave has 0); None for digital silence.
        clipped: share of samples in runs of 3 and more at full scale.
        silence: share of the frames of 25 ms that are silent (see ``nuptse.sound``).
        dc: mean, of full scale, with its sign.
        non_finite: samples that are NaN or infinite; the other numbers take them for 0.
        bandwidth_hz: up to where there is speech, Hz; None if the cut is too short or too quiet to tell.
        digest: of the samples of the cut, in 16 bits, with their rate: equal audio has equal digests whatever its
            container.
    """

    id: str
    audio: str
    start_s: float
    duration_s: float
    declared_s: float
    declared_rate: int
    declared_channels: int = 1
    error: str | None = None
    reason: str | None = None
    sampling_rate: int = 0
    channels: int = 0
    format: str = ""
    header_s: float = 0.0
    file_s: float = 0.0
    cut_s: float = 0.0
    peak: float = 0.0
    rms_db: float | None = None
    clipped: float = 0.0
    silence: float = 0.0
    dc: float = 0.0
    non_finite: int = 0
    bandwidth_hz: float | None = None
    digest: str = ""
