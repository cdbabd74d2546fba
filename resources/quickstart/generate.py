"""Write the synthetic speech corpora of the quickstart, in the layouts of two public corpora.

A development tool: the archives lie next to this file, so only a change of the corpora needs it.
It wants numpy, soundfile, soxr and espeakng-loader==0.2.4; ``README.md`` says what it writes. The
same seed gives the same bytes on any day and for any user.
"""

import argparse
import gzip
import hashlib
import io
import random
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr
from espeak import Delivery, Synthesizer
from grammar import PRETRAIN, TARGET, draw_sentences

# 3 % of full scale leaves about 10 of 16 bits, which is what keeps the FLAC files small.
PEAK = 0.03
SILENCE_S = 0.1  # kept before and after the speech
LIBRISPEECH_RATE_HZ = 16_000
YESNO_RATE_HZ = 8_000

Speech = TypeVar("Speech")


@dataclass(frozen=True)
class Voice:
    """One speaker: an espeak-ng accent and a timbre (``variant``); ``sex`` is F or M."""

    accent: str
    variant: str
    sex: str

    @property
    def name(self) -> str:
        return f"{self.accent}+{self.variant}"


@dataclass(frozen=True)
class Part:
    """One part of a corpus in LibriSpeech's layout; each voice speaks equally many utterances.

    Attributes:
        name: the part's folder, and what ``--only`` calls it.
        archive: where the archive goes, as on the OpenSLR server.
        first_speaker: number of the first voice. LibriSpeech's own readers end below 9000.
        utterances_per_voice: all sentences of a corpus differ, in and across its parts.
    """

    name: str
    archive: str
    first_speaker: int
    utterances_per_voice: int
    voices: Sequence[Voice]


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence: int16 ``samples`` of shape (T,) at ``rate_hz``, text in upper case."""

    id: str
    text: str
    samples: np.ndarray
    rate_hz: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


# No timbre is in two parts, and none is among those of the pretraining voices.
TARGET_PARTS = (
    Part(
        name="train-clean-5",
        archive="31/train-clean-5.tar.gz",
        first_speaker=9001,
        utterances_per_voice=15,
        voices=(
            Voice("en-gb-scotland", "Alex", "M"),
            Voice("en-gb-scotland", "Annie", "F"),
            Voice("en-gb-scotland", "pedro", "M"),
            Voice("en-029", "Gene", "M"),
            Voice("en-029", "linda", "F"),
            Voice("en-029", "max", "M"),
            Voice("en-us-nyc", "Michael", "M"),
            Voice("en-us-nyc", "Andrea", "F"),
            Voice("en-us-nyc", "robert", "M"),
            Voice("en-gb-x-gbclan", "Mike", "M"),
            Voice("en-gb-x-gbclan", "Diogo", "M"),
            Voice("en-gb-x-gbclan", "belinda", "F"),
        ),
    ),
    Part(
        name="dev-clean-2",
        archive="31/dev-clean-2.tar.gz",
        first_speaker=9101,
        utterances_per_voice=9,
        voices=(
            Voice("en-gb-scotland", "antonio", "M"),
            Voice("en-gb-scotland", "Alicia", "F"),
            Voice("en-029", "sandro", "M"),
            Voice("en-us-nyc", "anika", "F"),
            Voice("en-us-nyc", "john", "M"),
            Voice("en-gb-x-gbclan", "aunty", "F"),
        ),
    ),
    Part(
        name="test-clean",
        archive="12/test-clean.tar.gz",
        first_speaker=9201,
        utterances_per_voice=8,
        voices=(
            Voice("en-gb-scotland", "norbert", "M"),
            Voice("en-029", "pablo", "M"),
            Voice("en-029", "steph", "F"),
            Voice("en-us-nyc", "Nguyen", "M"),
            Voice("en-gb-x-gbclan", "shelby", "F"),
            Voice("en-gb-x-gbclan", "ed", "M"),
        ),
    ),
)
PRETRAIN_PART = Part(
    name="train",
    archive="pretrain/train.tar.gz",
    first_speaker=9501,
    utterances_per_voice=27,  # 52 voices * 27 utterances * 3 s = 70 min
    voices=tuple(
        Voice(accent, variant, variant[0].upper())
        for accent in ("en-us", "en", "en-gb-x-rp", "en-gb-x-gbcwmd")
        for variant in "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5".split()
    ),
)
YESNO_ARCHIVE = "1/waves_yesno.tar.gz"
COMMITTED = {"yesno": YESNO_ARCHIVE} | {part.name: part.archive for part in TARGET_PARTS}

LICENSE = """\
Copyright the Nuptse authors.
Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""
README = """\
This is synthetic speech. It is not LibriSpeech and holds nothing of it: only the layout is
LibriSpeech's, so that tools which read that corpus can be tried on a few minutes of audio.

The sentences were drawn from a small grammar and spoken by espeak-ng 1.52 in several accents and
timbres (SPEAKERS.TXT names them). No voice and no sentence is in two parts. The level is low on
purpose, at most 3 % of full scale, to keep the files small.

Results on this speech say that a workflow runs and that a model learns. They say nothing about how
well a model recognises people.

Made by resources/quickstart/generate.py of the Nuptse workflow.
"""
YESNO_README = """\
This is synthetic speech. It stands in for the yesno corpus (https://www.openslr.org/1/), of which
it holds nothing but the layout: 60 recordings at 8 kHz of one speaker who says eight Hebrew words,
each "ken" (yes) or "lo" (no). The file name is the transcript: 1 is yes, 0 is no.

The voice is espeak-ng 1.52's Hebrew one. Made by resources/quickstart/generate.py of the Nuptse
workflow. Copyright the Nuptse authors; licensed under the Apache License, Version 2.0.
"""
SPEAKERS_HEAD = """\
; The synthetic voices of this corpus, in the columns of LibriSpeech's SPEAKERS.TXT.
; NAME is the espeak-ng voice: accent+variant.
;
;ID  |SEX| SUBSET           |MINUTES| NAME
"""
CHAPTERS_HEAD = """\
; One "chapter" per synthetic voice, in the columns of LibriSpeech's CHAPTERS.TXT.
; There is no book behind it: PROJ. and BOOK ID are 0.
;
;ID    |READER|MINUTES| SUBSET           | PROJ.|BOOK ID| CH. TITLE | PROJECT TITLE
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the archives")
    parser.add_argument(
        "--only",
        choices=[*COMMITTED, "pretrain"],
        help="write this archive alone; without it, all but pretrain, and SHA256SUMS",
    )
    parser.add_argument("--seed", type=int, default=2024, help="of sentences and voices")
    args = parser.parse_args(argv)

    names = [args.only] if args.only else list(COMMITTED)
    archives: list[Path] = []
    if "yesno" in names:
        archives.append(args.output / YESNO_ARCHIVE)
        write_yesno(in_fresh_process(speak_yesno, args.seed), archives[-1])
    target_parts = [part for part in TARGET_PARTS if part.name in names]
    if target_parts:
        # As in LibriSpeech, the tables of speakers name all parts: one part needs all of them.
        spoken = in_fresh_process(speak_target, args.seed)
        for part in target_parts:
            archives.append(args.output / part.archive)
            write_librispeech(spoken, part, archives[-1])
    if "pretrain" in names:
        archives.append(args.output / PRETRAIN_PART.archive)
        spoken = in_fresh_process(speak_pretrain, args.seed)
        write_librispeech(spoken, PRETRAIN_PART, archives[-1])

    if args.only is None:
        lines = [f"{sha256(path)}  {path.relative_to(args.output)}\n" for path in archives]
        (args.output / "SHA256SUMS").write_text("".join(sorted(lines, key=_second_column)))
    for path in archives:
        print(f"{path}: {path.stat().st_size} bytes, sha256 {sha256(path)}")


def in_fresh_process(speak: Callable[[int], Speech], seed: int) -> Speech:
    """Return ``speak(seed)``, computed in a new process.

    espeak-ng carries state from one utterance to the next that neither a seed nor a restart of its
    engine clears. Without this, ``--only`` would give other samples than writing everything.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(speak, seed).result()


def speak_target(seed: int) -> dict[Part, list[Utterance]]:
    """Return the utterances of all target parts, in the order of their identifiers."""
    synthesizer = Synthesizer()
    sentences = target_sentences(seed)
    spoken = {}
    for part in TARGET_PARTS:
        count = len(part.voices) * part.utterances_per_voice
        spoken[part] = speak_part(synthesizer, part, sentences[:count], seed)
        sentences = sentences[count:]
    return spoken


def speak_pretrain(seed: int) -> dict[Part, list[Utterance]]:
    """Return the utterances of the pretraining part, none of which is a target sentence."""
    rng = random.Random(f"{seed} pretrain")
    count = len(PRETRAIN_PART.voices) * PRETRAIN_PART.utterances_per_voice
    sentences = draw_sentences(PRETRAIN, count, rng, exclude=target_sentences(seed))
    rng.shuffle(sentences)
    return {PRETRAIN_PART: speak_part(Synthesizer(), PRETRAIN_PART, sentences, seed)}


def target_sentences(seed: int) -> list[str]:
    """Return the different sentences of all target parts, in the order of the parts."""
    rng = random.Random(f"{seed} target")
    count = sum(len(part.voices) * part.utterances_per_voice for part in TARGET_PARTS)
    sentences = draw_sentences(TARGET, count, rng)
    rng.shuffle(sentences)  # they come template by template; every voice should get a mixture
    return sentences


def speak_part(synthesizer: Synthesizer, part: Part, sentences: Sequence[str], seed: int) -> list[Utterance]:
    """Return one utterance per sentence; each voice of ``part`` takes a run of them."""
    utterances = []
    for index, sentence in enumerate(sentences):
        speaker, number = divmod(index, part.utterances_per_voice)
        utterance_id = f"{part.first_speaker + speaker}-{chapter(part, speaker)}-{number:04d}"
        rng = random.Random(f"{seed} {utterance_id}")
        delivery = Delivery(
            voice=part.voices[speaker].name,
            rate_wpm=rng.randint(140, 180),
            pitch=rng.randint(40, 60),
            seed=zlib.crc32(f"{seed} {utterance_id}".encode()) % 2**31,
        )
        samples = levelled(synthesizer.speak(sentence, delivery), synthesizer.sampling_rate_hz, LIBRISPEECH_RATE_HZ)
        utterances.append(Utterance(utterance_id, sentence.upper(), samples, LIBRISPEECH_RATE_HZ))
    return utterances


def speak_yesno(seed: int) -> list[Utterance]:
    """Return 60 different sequences of eight words; the identifier of one is its transcript."""
    synthesizer = Synthesizer()
    rng = random.Random(f"{seed} yesno")
    utterances = []
    for number in sorted(rng.sample(range(2**8), 60)):
        bits = f"{number:08b}"
        delivery = Delivery(
            voice="he",
            rate_wpm=rng.randint(150, 180),
            pitch=rng.randint(45, 55),
            seed=rng.randrange(2**31),
        )
        hebrew = ", ".join("כן" if bit == "1" else "לא" for bit in bits)
        samples = levelled(synthesizer.speak(hebrew, delivery), synthesizer.sampling_rate_hz, YESNO_RATE_HZ)
        english = " ".join("YES" if bit == "1" else "NO" for bit in bits)
        utterances.append(Utterance("_".join(bits), english, samples, YESNO_RATE_HZ))
    return utterances


def levelled(samples: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """Return int16 samples at ``new_rate_hz``: peak ``PEAK``, ``SILENCE_S`` at both ends."""
    resampled = soxr.resample(samples.astype(np.float64), rate_hz, new_rate_hz)
    peak = np.abs(resampled).max()
    audible = np.flatnonzero(np.abs(resampled) > 0.01 * peak)
    speech = resampled[audible[0] : audible[-1] + 1] * (PEAK * 32767 / peak)
    return np.pad(np.round(speech).astype(np.int16), int(SILENCE_S * new_rate_hz))


def chapter(part: Part, speaker: int) -> int:
    """Return the chapter of the part's voice number ``speaker``; it has just one."""
    return (part.first_speaker + speaker) * 100 + 1


def write_librispeech(spoken: Mapping[Part, Sequence[Utterance]], part: Part, archive: Path) -> None:
    """Write ``part`` with LibriSpeech's folders; its tables cover all of ``spoken``."""
    members = {
        "LibriSpeech/LICENSE.TXT": LICENSE.encode(),
        "LibriSpeech/README.TXT": README.encode(),
        "LibriSpeech/SPEAKERS.TXT": speakers_table(spoken).encode(),
        "LibriSpeech/CHAPTERS.TXT": chapters_table(spoken).encode(),
    }
    transcripts: dict[str, list[str]] = {}
    for utterance in spoken[part]:
        speaker, chapter_id, _ = utterance.id.split("-")
        folder = f"LibriSpeech/{part.name}/{speaker}/{chapter_id}"
        members[f"{folder}/{utterance.id}.flac"] = encoded(utterance, "FLAC")
        transcripts.setdefault(f"{folder}/{speaker}-{chapter_id}.trans.txt", []).append(
            f"{utterance.id} {utterance.text}\n"
        )
    members |= {name: "".join(lines).encode() for name, lines in transcripts.items()}
    write_archive(members, archive)
    print(summary(part.name, spoken[part]))


def write_yesno(utterances: Sequence[Utterance], archive: Path) -> None:
    """Write one recording per utterance; its file name is all the transcript it has."""
    members = {f"waves_yesno/{u.id}.wav": encoded(u, "WAV") for u in utterances}
    write_archive({"waves_yesno/README": YESNO_README.encode()} | members, archive)
    print(summary("yesno", utterances))


def speakers_table(spoken: Mapping[Part, Sequence[Utterance]]) -> str:
    rows = [
        f"{part.first_speaker + index:<4} | {voice.sex} | {part.name:<16} "
        f"| {minutes_of(chapter(part, index), spoken[part]):<5.2f} | {voice.name}\n"
        for part in spoken
        for index, voice in enumerate(part.voices)
    ]
    return SPEAKERS_HEAD + "".join(rows)


def chapters_table(spoken: Mapping[Part, Sequence[Utterance]]) -> str:
    rows = [
        f"{chapter(part, index):<6} | {part.first_speaker + index:<4} "
        f"| {minutes_of(chapter(part, index), spoken[part]):<5.2f} | {part.name:<16} "
        "| 0    | 0     | Sentences from a grammar | Nuptse quickstart\n"
        for part in spoken
        for index in range(len(part.voices))
    ]
    return CHAPTERS_HEAD + "".join(rows)


def minutes_of(chapter_id: int, utterances: Iterable[Utterance]) -> float:
    return sum(u.duration_s for u in utterances if u.id.split("-")[1] == str(chapter_id)) / 60


def encoded(utterance: Utterance, container: str) -> bytes:
    """Return the utterance as a 16-bit file of format ``container``, FLAC or WAV."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        utterance.samples,
        utterance.rate_hz,
        format=container,
        subtype="PCM_16",
        # 1.0 is FLAC's level 8; libsndfile takes no level for WAV.
        compression_level=1.0 if container == "FLAC" else None,
    )
    return buffer.getvalue()


def write_archive(members: Mapping[str, bytes], archive: Path) -> None:
    """Write ``members`` (name to content) as .tar.gz that depends on nothing else but them."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        # No file name and no time in gzip's header.
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in sorted(members.items()):
            header = tarfile.TarInfo(name)  # mode 0644, time 0, owner 0 without a name
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def summary(name: str, utterances: Sequence[Utterance]) -> str:
    durations_s = [utterance.duration_s for utterance in utterances]
    return (
        f"{name}: {len(durations_s)} utterances, {sum(durations_s) / 60:.2f} min, "
        f"{min(durations_s):.2f} to {max(durations_s):.2f} s each"
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _second_column(line: str) -> str:
    return line.split()[1]


if __name__ == "__main__":
    main()
