"""Audio of one's own, as cuts to transcribe: a folder, an audio file, a NeMo manifest or Lhotse cuts.

Every recording is decoded once, block by block: what cannot be read is found here and not in the middle of a
transcription, and what is long is cut at its pauses.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile

from nuptse.audio_sources import OTHER_SUFFIXES, READABLE_SUFFIXES, Source, find_sources
from nuptse.errors import UserError
from nuptse.jsonl import row_writer
from nuptse.pauses import frame_length, pieces, powers, quiet_cuts
from nuptse.unreadable import ENDLESS, NO_LENGTH, why_unreadable

# Less gives a model no frame to look at.
SHORTEST_S = 0.1
# Headers of compressed files and manifests round: audio may end this much before they say.
END_TOLERANCE_S = 0.1
BLOCK_FRAMES = 1000  # 10 s
SHOWN = 20


@dataclass(frozen=True)
class Recording:
    """Audio that was decoded from its start to its end.

    Attributes:
        sampling_rate: Hz.
        num_samples: of the file, as far as it was read.
        file_channels: channels in the file.
        channels: those to average.
        pieces: first sample in the file and number of samples, in order.
    """

    sampling_rate: int
    num_samples: int
    file_channels: int
    channels: tuple[int, ...]
    pieces: list[tuple[int, int]]

    @property
    def duration(self) -> float:
        return sum(samples for _, samples in self.pieces) / self.sampling_rate


@dataclass
class Ledger:
    """What became of every file or row: ``found`` = ``taken`` + all of ``left_out``."""

    audio: str
    found: int = 0
    taken: int = 0
    seconds: float = 0.0
    pieces: int = 0
    averaged: int = 0
    sampling_rates: dict[int, int] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def leave_out(self, source: Source, reason: str) -> None:
        name = str(source.row["audio_filepath"]).encode(errors="backslashreplace").decode()
        # Of a manifest several rows may name one file.
        known = {key: source.row[key] for key in ("id", "offset") if source.row.get(key) is not None}
        known |= {} if source.duration is None else {"duration": source.duration}
        self.left_out.append({"audio_filepath": name} | known | {"reason": reason})

    def take(self, recording: Recording) -> None:
        self.taken += 1
        self.seconds += recording.duration
        self.pieces += len(recording.pieces)
        self.averaged += len(recording.channels) > 1
        rate = recording.sampling_rate
        self.sampling_rates[rate] = self.sampling_rates.get(rate, 0) + 1

    def __str__(self) -> str:
        lines = [f"left out: {_named(entry)}: {entry['reason']}" for entry in self.left_out[:SHOWN]]
        if len(self.left_out) > SHOWN:
            lines.append(f"left out: {len(self.left_out) - SHOWN} more, see the ledger")
        rates = ", ".join(f"{rate} Hz: {count}" for rate, count in sorted(self.sampling_rates.items()))
        lines.append(
            f"{self.audio}: in: {self.found}; out: {self.taken} recordings, {self.seconds / 3600:.3f} h, in"
            f" {self.pieces} pieces ({rates or 'none'}; channels averaged: {self.averaged}); left out:"
            f" {len(self.left_out)}"
        )
        return "\n".join(lines)


def _named(entry: dict[str, Any]) -> str:
    """Return the file of an entry of ``left_out``, and which part of it.

    >>> _named({"audio_filepath": "a.wav", "offset": 1.5, "reason": "empty"})
    'a.wav (offset 1.5)'
    """
    part = ", ".join(f"{key} {entry[key]}" for key in ("id", "offset", "duration") if key in entry)
    return f"{entry['audio_filepath']} ({part})" if part else str(entry["audio_filepath"])


def list_audio(audio: Path, cuts: Path, recordings: Path, threads: int) -> Ledger:
    """Write the pieces of all recordings as cuts, and what is known of each recording; return the account.

    Args:
        audio: a folder of audio files at any depth, one audio file, a NeMo manifest or Lhotse cuts.
        cuts: output, ``.jsonl.gz``: one Lhotse cut for each piece, in the order of the recordings.
        recordings: output, ``.jsonl``: for each recording ``row``, ``duration`` (s) and ``pieces``, their number.
        threads: files that are decoded at a time.

    Raises:
        UserError: a row of the manifest is not as it must be, or nothing can be transcribed.
    """
    ledger = Ledger(str(audio))
    with ExitStack() as stack:
        write_cut = stack.enter_context(row_writer(cuts))
        write_recording = stack.enter_context(row_writer(recordings))
        for source, found in _inspected(find_sources(audio), threads):
            ledger.found += 1
            if isinstance(found, str):
                ledger.leave_out(source, found)
                continue
            for number in range(len(found.pieces)):
                write_cut(_cut(ledger.taken, number, source, found))
            row = {"row": source.row, "duration": found.duration, "pieces": len(found.pieces)}
            write_recording(row)
            ledger.take(found)
        if not ledger.taken:
            raise UserError(f"`audio` holds nothing that can be transcribed:\n{ledger}")
    return ledger


def _inspected(sources: Iterator[Source], threads: int) -> Iterator[tuple[Source, Recording | str]]:
    """Yield each source with its recording, or the reason why it is left out; a few are decoded ahead."""
    with ThreadPoolExecutor(threads) as pool:
        # Not pool.map, which would list a million files at once.
        waiting = [(source, pool.submit(inspect, source)) for source in islice(sources, 2 * threads)]
        while waiting:
            source, found = waiting.pop(0)
            yield source, found.result()
            waiting += [(new, pool.submit(inspect, new)) for new in islice(sources, 1)]


# --- what is in the files ---


def inspect(source: Source) -> Recording | str:
    """Decode a source from start to end; return where its pieces are, or why it is left out."""
    suffix = source.path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return f"libsndfile does not read {suffix}: convert it, for example to FLAC"
    if suffix not in READABLE_SUFFIXES:
        return "not audio"
    try:
        str(source.path).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    if not source.path.is_file():
        return "no such file"
    if not source.path.stat().st_size:
        return "empty"
    try:
        with soundfile.SoundFile(source.path) as file:
            return _decode(source, file)
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        return f"unreadable: {why_unreadable(error, source.path)}"


def _decode(source: Source, file: soundfile.SoundFile) -> Recording | str:
    rate, length = file.samplerate, frame_length(file.samplerate)
    channels = tuple(range(file.channels)) if source.channels is None else source.channels
    if not channels or max(channels) >= file.channels:
        return f"it has only {file.channels} channels"
    if file.frames > ENDLESS:
        return NO_LENGTH
    first = round(source.start * rate)
    available = file.frames - first
    wanted = available if source.duration is None else round(source.duration * rate)
    if first < 0 or first > 0 >= available or wanted - available > END_TOLERANCE_S * rate:
        return f"offset and duration lie outside of its {file.frames / rate:.3f} s"
    wanted = min(wanted, available)
    if wanted < SHORTEST_S * rate:
        return "empty" if wanted <= 0 else f"shorter than {SHORTEST_S} s"
    file.seek(first)
    blocks = file.blocks(length * BLOCK_FRAMES, frames=wanted, dtype="float32", always_2d=True)
    samples, power = powers((block[:, channels].mean(axis=1) for block in blocks), length)
    if wanted - samples > END_TOLERANCE_S * rate:
        return f"cut short: it ends after {(first + samples) / rate:.3f} s, its header says {file.frames / rate:.3f} s"
    found = pieces(samples, quiet_cuts(power, length / rate), length)
    total = file.frames if wanted == samples else first + samples
    return Recording(rate, total, file.channels, channels, [(first + start, count) for start, count in found])


def _cut(index: int, number: int, source: Source, found: Recording) -> dict[str, Any]:
    """Return one piece in Lhotse's JSON form; its id counts recordings and pieces."""
    start, samples = found.pieces[number]
    rate, channels = found.sampling_rate, list(found.channels)
    every = list(range(found.file_channels))
    recording = {
        "id": f"{index:06}",
        "sources": [{"type": "file", "channels": every, "source": str(source.path)}],
        "sampling_rate": rate,
        "num_samples": found.num_samples,
        "duration": found.num_samples / rate,
        "channel_ids": every,
    }
    mono = len(channels) == 1
    return {
        "id": f"{index:06}-{number:04}",
        "start": start / rate,
        "duration": samples / rate,
        "channel": channels[0] if mono else channels,
        "supervisions": [],
        "recording": recording,
        "type": "MonoCut" if mono else "MultiCut",
    }
