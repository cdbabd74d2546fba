"""Audio that cannot be used as it is, converted at import: decoded by ffmpeg, resampled, mixed down to one channel.

Each result is a FLAC file whose name tells what it was made from, so that an import that was killed goes on where it
stopped, and what no longer fits is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soundfile

from nuptse.audio_headers import Header, needs_ffmpeg, read_header
from nuptse.errors import WRITE_REFUSALS, UserError, write_atomically

# Containers that ffmpeg may open, in its words.
FFMPEG_FORMATS = (
    "aac,mov,mp4,m4a,3gp,matroska,webm,asf,amr,ac3,eac3,nistsphere,wav,w64,mp3,ogg,flac,aiff,caf,au,wv,ape,tta"
)
BLOCK_SAMPLES = 1 << 16
# libsndfile's names of encodings with more than 16 bits.
DEEP_SUBTYPES = frozenset({"PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_24", "ALAC_32"})
MAGIC = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"ID3": ".mp3", b"FORM": ".aiff"}

# One channel by its number from 0, the mean of all, or the only one there is.
Channel = int | str | None


@dataclass(frozen=True)
class Policy:
    """What recordings shall be like.

    Attributes:
        sampling_rate: Hz; None leaves it.
        channels: ``mix`` (their mean), ``split`` (a recording for each), the number of one from 0, or None: recordings
            of several channels are refused.
    """

    sampling_rate: int | None = None
    channels: int | str | None = None


class Sound(msgspec.Struct, frozen=True):
    """Audio as later steps read it: file, header, and the channel of the original that it is, if it was split."""

    path: str
    header: Header
    channel: int | None = None


@dataclass
class Converter:
    """Brings audio files into the form of a policy; used by several threads.

    Attributes:
        folder: where files are written that had to be made.
        policy: see there.
        corpus: its name, for messages.
        made: files below ``folder`` that are in use, and whether each was converted or only unpacked.
    """

    folder: Path
    policy: Policy
    corpus: str
    made: dict[str, str] = field(default_factory=dict)

    def sounds(self, name: str, path: str) -> list[Sound] | str:
        """Return what becomes of an audio file, or the reason why it cannot be used.

        Args:
            name: of the recording, the same wherever the corpus lies.
            path: the file.

        Raises:
            UserError: the policy does not say what to do with several channels, or ffmpeg is wanted and not there.
        """
        header = read_header(path)
        if isinstance(header, str) and needs_ffmpeg(path) and os.path.isfile(path) and os.path.getsize(path):
            decoded = self._target(name, path, "ffmpeg")
            if not decoded.is_file() and (reason := _decode(path, decoded)):
                return reason
            path, header = str(decoded), read_header(str(decoded))
        if isinstance(header, str):
            return header
        targets = self._channels(path, header)
        if isinstance(targets, str):
            return targets
        if targets == [None] and self.policy.sampling_rate in (None, header.sampling_rate):
            return [Sound(path, header)]
        found = [self._convert(name, path, header, channel) for channel in targets]
        return next((reason for reason in found if isinstance(reason, str)), found)  # type: ignore[return-value]

    def unpack(self, name: str, content: bytes) -> str:
        """Write audio out of a container as it is, and return its path."""
        suffix = next((suffix for magic, suffix in MAGIC.items() if content.startswith(magic)), ".audio")
        target = self._path([name, hashlib.blake2b(content, digest_size=16).hexdigest()], suffix, "unpacked")
        if not (target.is_file() and target.stat().st_size == len(content)):
            with write_atomically(target) as partial:
                partial.write_bytes(content)
        return str(target)

    def remove_unused(self) -> int:
        """Remove the files of earlier imports that this one did not use; return their number."""
        stale = [path for path in self.folder.glob("*/*") if _OURS.fullmatch(path.name) and str(path) not in self.made]
        for path in stale:
            path.unlink()
        return len(stale)

    def _channels(self, path: str, header: Header) -> list[Channel] | str:
        wanted, count = self.policy.channels, header.channels
        if wanted == "split":
            return list(range(count)) if count > 1 else [None]
        if isinstance(wanted, int) and wanted >= count:
            return f"it has {count} channels, and `channels` asks for number {wanted}"
        if count == 1:
            return [None]
        if wanted is None:
            raise UserError(
                f"{path} has {count} channels: say in `corpora.{self.corpus}.channels` what to do with them: mix,"
                " split, or the number of one from 0"
            )
        return [wanted]

    def _convert(self, name: str, path: str, header: Header, channel: Channel) -> Sound | str:
        rate = self.policy.sampling_rate or header.sampling_rate
        target = self._target(name, path, [rate, channel])
        made = read_header(str(target)) if target.is_file() else None
        if not isinstance(made, Header):
            try:
                write_flac(path, target, rate, channel)
            except (soundfile.LibsndfileError, OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise UserError(f"cannot write {target}: {error.strerror}") from error
                return f"unreadable: {' '.join(str(error).split()).rpartition(': ')[2]}"
            made = read_header(str(target))
        if isinstance(made, str):
            return made
        return Sound(str(target), made, channel if self.policy.channels == "split" else None)  # type: ignore[arg-type]

    def _target(self, name: str, path: str, how: Any) -> Path:
        state = os.stat(path)
        return self._path([name, state.st_size, state.st_mtime_ns, how], ".flac", "converted")

    def _path(self, identity: list[Any], suffix: str, what: str) -> Path:
        key = hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
        path = self.folder / key[:2] / f"{key}{suffix}"
        self.made[str(path)] = what
        return path


# Also what a killed import left half written.
_OURS = re.compile(r"(\.[0-9a-f]{8}-)?[0-9a-f]{32}\.\w+")


def write_flac(source: str, target: Path, sampling_rate: int, channel: Channel) -> None:
    """Write one channel of an audio file, at another rate, as FLAC of 16 or, where the source has more, 24 bits.

    Without another rate the samples stay as they are. It is read block by block: recordings may last for hours.

    Args:
        source: any file that libsndfile reads.
        target: is written aside, then renamed.
        sampling_rate: Hz.
        channel: its number from 0, ``mix`` for the mean of all, None for the only one.
    """
    with soundfile.SoundFile(source) as file, write_atomically(target) as partial:
        bits = 24 if file.subtype in DEEP_SUBTYPES else 16
        # Level 0: see nuptse.shards.
        with (
            _output(partial) as out,
            soundfile.SoundFile(out, "w", sampling_rate, 1, f"PCM_{bits}", format="FLAC", compression_level=0) as flac,
        ):
            for block in _resampled(_one_channel(file, channel), file.samplerate, sampling_rate):
                top = 1 << (bits - 1)
                levels = np.clip(np.rint(block * top), -top, top - 1).astype(np.int32)
                flac.write(levels << (32 - bits))


class _Output:
    """A file for libsndfile to write to, which does not say why a disk refuses, and nothing at all when it closes."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.error: OSError | None = None
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def write(self, data: bytes) -> int:
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:  # no exception gets through libsndfile
            self.error = error
        return written


@contextmanager
def _output(path: Path) -> Iterator[_Output]:
    """Give ``path`` to write to; raises what the disk said, whatever became of it on the way."""
    with FileIO(path, "w+") as file:
        output = _Output(file)
        try:
            yield output
        finally:
            if output.error:
                raise output.error


def _one_channel(file: soundfile.SoundFile, channel: Channel) -> Iterator[np.ndarray]:
    read = 0
    for block in file.blocks(BLOCK_SAMPLES, dtype="float64", always_2d=True):
        read += len(block)
        yield block[:, channel] if isinstance(channel, int) else block.mean(axis=1)
    if read < file.frames - file.samplerate // 10:
        raise ValueError(f"cut short: it ends after {read} of {file.frames} samples")


def _resampled(blocks: Iterator[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    if from_hz == to_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float64")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.zeros(0), last=True)


def _decode(source: str, target: Path) -> str:
    """Decode a file with ffmpeg; return the reason if it cannot.

    Raises:
        UserError: there is no ffmpeg.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise UserError(
            f"{source}: {os.path.splitext(source)[1]} files are decoded by ffmpeg, which is not installed: install it"
            " (apt, brew and conda have it), or convert the files, for example to FLAC"
        )
    # `file:` and the lists: a name is never an option or an address, and a playlist that calls itself audio is refused.
    options = "-nostdin -hide_banner -loglevel error -xerror -protocol_whitelist file -format_whitelist".split()
    wanted = "-map 0:a:0 -map_metadata -1 -c:a flac -sample_fmt s16 -f flac -y".split()
    try:
        with write_atomically(target) as partial:
            command = [ffmpeg, *options, FFMPEG_FORMATS, "-i", f"file:{source}", *wanted, f"file:{partial}"]
            run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            for number, text in _REFUSED.items():
                if run.returncode and text in run.stderr:
                    raise OSError(number, "")  # of the disk, not of the source
            if run.returncode:
                raise _DecodingError(run.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    except _DecodingError as error:
        return f"unreadable: ffmpeg: {error}"
    return ""


# How ffmpeg says that the disk refuses: in the words of the C library.
_REFUSED = {number: os.strerror(number).encode() for number in WRITE_REFUSALS}


class _DecodingError(Exception):
    """ffmpeg refused a file; the text is its last line."""
