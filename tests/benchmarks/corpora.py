"""Synthetic corpora for the benchmarks: manifests with plausible durations, and audio that is small, sparse or real."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from harness import ROOT

from nuptse.errors import sha256_of
from nuptse.jsonl import write_rows

RATE = 16000
WORDS = "the of and to in a that it was his he i with as had for you her at on".split()


def cuts(count: int, audio: str = "audio/{:07d}.flac", first: int = 0, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield ``count`` cuts as build_cutset writes them: 0.5 to 30 s, most about 12 s, by the sample."""
    random_ = random.Random(seed)
    for number in range(first, first + count):
        samples = min(max(int(random_.gammavariate(4, 3) * RATE), RATE // 2), 30 * RATE)
        duration = samples / RATE
        name = f"{number % 2500:04d}-{number % 77:05d}-{number:07d}"
        text = " ".join(random_.choices(WORDS, k=max(1, int(duration * 2.7))))
        supervision = {"id": name, "recording_id": name, "start": 0.0, "duration": duration, "channel": 0}
        supervision |= {"text": text, "language": "en", "speaker": f"{number % 2500:04d}"}
        source = {"type": "file", "channels": [0], "source": audio.format(number)}
        recording = {"id": name, "sources": [source], "sampling_rate": RATE, "num_samples": samples}
        recording |= {"duration": duration, "channel_ids": [0]}
        cut = {"id": name, "start": 0.0, "duration": duration, "channel": 0, "supervisions": [supervision]}
        yield cut | {"recording": recording, "type": "MonoCut"}


def write_cuts(path: Path, count: int, **more: Any) -> Path:
    write_rows(path, cuts(count, **more))
    return path


def write_manifest(path: Path, count: int, **more: Any) -> Path:
    """Write the NeMo manifest of such cuts."""
    rows = (
        {
            "id": cut["id"],
            "audio_filepath": cut["recording"]["sources"][0]["source"],
            "duration": cut["duration"],
            "text": cut["supervisions"][0]["text"],
            "lang": "en",
            "sampling_rate": RATE,
        }
        for cut in cuts(count, **more)
    )
    write_rows(path, rows)
    return path


def write_audio(folder: Path, count: int, mean_bytes: int, first: int = 0) -> None:
    """Write ``count`` files of random bytes, half to one and a half times ``mean_bytes``: their content does not matter."""
    folder.mkdir(parents=True, exist_ok=True)
    block = random.Random(1).randbytes(2 * mean_bytes)
    for number in range(first, first + count):
        size = mean_bytes // 2 + number * 7919 % mean_bytes
        (folder / f"{number:07d}.flac").write_bytes(block[:size])


def mirror() -> list[Path]:
    """Return the archives of the mirror of OpenSLR that OPENSLR_MIRROR names, none where there is no mirror."""
    named = os.environ.get("OPENSLR_MIRROR")
    return sorted(Path(named, "resources").rglob("*.tar.gz")) if named else []


def mirror_overlay(archives: Sequence[Path]) -> dict[str, object]:
    """Return the configuration that takes the tutorial's archives from a mirror, whatever their checksums are there."""
    tutorial = yaml.safe_load((ROOT / "config/tutorial.yaml").read_text())["corpora"]
    sizes = {archive.name: {"bytes": archive.stat().st_size, "sha256": sha256_of(archive)} for archive in archives}
    pinned = {
        name: {"archives": {file: sizes[file] for file in corpus["archives"]}} for name, corpus in tutorial.items()
    }
    return {"mirrors": {"openslr": [str(archives[0].parents[1])]}, "corpora": pinned}
