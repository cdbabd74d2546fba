"""What stands in a shard for an utterance: the name of its tar member, and its audio where that is a segment."""

import hashlib
import io
import re
from functools import cache
from urllib.parse import quote

from nuptse.errors import UserError


def member_name(utterance_id: str, audio: str) -> str:
    """Return the name of an utterance inside its tar: its id, percent-encoded, and the extension.

    Different ids have different names. NeMo's converter makes names from paths instead, where
    ``a/b/x`` and ``a_b/x`` become one name and one utterance gets the audio of the other.

    Args:
        utterance_id: unique within the corpus; any text.
        audio: path of the audio file; its extension is kept in lower case.
    """
    name = (
        utterance_id if _PLAIN(utterance_id) else quote(utterance_id, safe="").replace(".", "%2E").replace("~", "%7E")
    )
    # Readers take "x-sub1.wav" for a segment of the member "x.wav", and WebDataset splits names at
    # the first ".", so neither may come out of an id.
    if "-sub" in name:
        name = re.sub(r"-(?=sub\d+$)", "%2D", name)
    if len(name) > 200:
        # "%-" never comes out of quote(), so a shortened name cannot equal another id's full one.
        name = f"{name[:160]}%-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"
    return name + _extension(audio.rpartition("/")[2])


_PLAIN = re.compile(r"[A-Za-z0-9_-]+").fullmatch


def _extension(file_name: str) -> str:
    stem, dot, suffix = file_name.rpartition(".")
    return _plain_extension(dot + suffix) if stem else ""


@cache
def _plain_extension(suffix: str) -> str:
    extension = suffix.lower()
    return extension if re.fullmatch(r"\.[a-z0-9]+", extension) else ""


# What FLAC can hold of each libsndfile subtype: (type to read, subtype to write). Anything else has
# 16 bits or less.
_SEGMENT_FORMATS = {
    "PCM_24": ("int32", "PCM_24"),
    "PCM_32": ("int32", "PCM_24"),
    "FLOAT": ("float64", "PCM_24"),
    "DOUBLE": ("float64", "PCM_24"),
    "MPEG_LAYER_III": ("float32", "PCM_16"),
    "OPUS": ("float32", "PCM_16"),
    "VORBIS": ("float32", "PCM_16"),
}


def cut_segment(audio: str, offset_s: float, duration_s: float) -> tuple[bytes, int]:
    """Cut a segment out of a recording.

    Args:
        audio: path of the recording, of any format that libsndfile reads.
        offset_s: start of the segment, in seconds.
        duration_s: its length, in seconds.

    Returns:
        The samples as a FLAC file, and their rate in Hz. 16-bit and 24-bit samples are unchanged.

    Raises:
        UserError: the recording cannot be read or ends before the segment does.
    """
    import soundfile  # Only jobs that cut pay for the import.

    try:
        with soundfile.SoundFile(audio) as recording:
            rate = recording.samplerate
            start, frames = round(offset_s * rate), round(duration_s * rate)
            # Start and length are rounded separately, so their sum may be one sample too long.
            if frames < 1 or start + frames > recording.frames + 1:
                raise UserError(
                    f"{audio} has {recording.frames / rate} s, which has no segment of {duration_s} s at {offset_s} s"
                )
            read_as, subtype = _SEGMENT_FORMATS.get(recording.subtype, ("int16", "PCM_16"))
            recording.seek(start)
            samples = recording.read(frames, dtype=read_as, always_2d=True)
        if len(samples) < frames - 1:
            raise UserError(f"{audio} is cut short: no audio after {(start + len(samples)) / rate} s")
        flac = io.BytesIO()
        # Level 0 has integer arithmetic only: higher ones round as the CPU does, and their bytes
        # (never the samples) may differ between machines. It costs a few per cent of size.
        soundfile.write(flac, samples, rate, format="FLAC", subtype=subtype, compression_level=0)
    except soundfile.SoundFileError as error:
        raise UserError(f"cannot read {audio}: {error}") from error
    return flac.getvalue(), rate
