"""What stands in a shard for an utterance: the name of its tar member, and its audio where it is written anew."""

import hashlib
import io
import re
from functools import cache
from urllib.parse import quote

from nuptse.errors import UserError
from nuptse.ogg import with_serial


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
_SAMPLES = {
    "PCM_24": ("int32", "PCM_24"),
    "PCM_32": ("int32", "PCM_24"),
    "FLOAT": ("float64", "PCM_24"),
    "DOUBLE": ("float64", "PCM_24"),
    "MPEG_LAYER_III": ("float32", "PCM_16"),
    "OPUS": ("float32", "PCM_16"),
    "VORBIS": ("float32", "PCM_16"),
}


# How audio is written that does not go into a shard as it is: name of the form and extension.
FORMS = {"flac": ".flac", "opus": ".opus"}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
# On libsndfile's scale from 256 to 6 kbit/s a channel: about 34 kbit/s, at which speech sounds like the original.
_OPUS_LEVEL = 0.85


def is_of_form(audio: str, form: str) -> bool:
    """Return whether a file can go into a shard as it is."""
    return _extension(audio.rpartition("/")[2]) == FORMS[form]


def encode(audio: str, offset_s: float | None, duration_s: float, form: str) -> tuple[bytes, int]:
    """Write a recording, or a segment of it, in another form.

    Args:
        audio: path of the recording, of any format that libsndfile reads.
        offset_s: start of the segment, in seconds; None for the whole recording.
        duration_s: length of the segment, in seconds.
        form: ``flac``, where 16-bit and 24-bit samples stay as they are, or ``opus``.

    Returns:
        The file, and its sampling rate in Hz.

    Raises:
        UserError: the recording cannot be read, ends before the segment does, or has a rate that Opus does not know.
    """
    import soundfile  # Only jobs that encode pay for the import.

    try:
        with soundfile.SoundFile(audio) as recording:
            rate = recording.samplerate
            read_as, subtype = _SAMPLES.get(recording.subtype, ("int16", "PCM_16"))
            if form == "opus":
                read_as, subtype = "float32", "OPUS"
                if rate not in OPUS_RATES:
                    raise UserError(
                        f"{audio} has {rate} Hz, and Opus knows only {', '.join(map(str, OPUS_RATES))}: set"
                        " `sampling_rate` of the corpus to one of them, or `shard_audio: flac`"
                    )
            start, frames = 0, recording.frames
            if offset_s is not None:
                start, frames = round(offset_s * rate), round(duration_s * rate)
                # Start and length are rounded separately, so their sum may be one sample too long.
                if frames < 1 or start + frames > recording.frames + 1:
                    raise UserError(
                        f"{audio} has {recording.frames / rate} s, which has no segment of {duration_s} s at"
                        f" {offset_s} s"
                    )
            recording.seek(start)
            samples = recording.read(frames, dtype=read_as, always_2d=True)
        if len(samples) < frames - 1:
            raise UserError(f"{audio} is cut short: no audio after {(start + len(samples)) / rate} s")
        written = io.BytesIO()
        if form == "opus":
            soundfile.write(written, samples, rate, format="OGG", subtype=subtype, compression_level=_OPUS_LEVEL)
            return with_serial(written.getvalue(), 0), rate
        # Level 0 has integer arithmetic only: higher ones round as the CPU does, and their bytes
        # (never the samples) may differ between machines. It costs a few per cent of size.
        soundfile.write(written, samples, rate, format="FLAC", subtype=subtype, compression_level=0)
    except soundfile.SoundFileError as error:
        raise UserError(f"cannot read {audio}: {error}") from error
    return written.getvalue(), rate
