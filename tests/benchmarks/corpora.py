"""Synthetic corpora for the benchmarks: manifests with plausible durations, and audio that is small, sparse or real."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from harness import ROOT

from nuptse.base_model import read_base_model
from nuptse.duration_bins import Source, plan_bins
from nuptse.durations import Durations
from nuptse.errors import sha256_of
from nuptse.jsonl import row_writer, write_rows
from nuptse.ledgers import Ledger
from nuptse.plan import Plan

RATE = 16000
UTTERANCE_KB = 152  # of FLAC, 8 s of read speech
WORDS = "the of and to in a that it was his he i with as had for you her at on".split()
Speak = Callable[[random.Random, int], str]


def few_words(chance: random.Random, count: int) -> str:
    """Return a text of the commonest words, all as often."""
    return " ".join(chance.choices(WORDS, k=count))


def as_in_books(types: int = 90_000) -> Speak:
    """Return what makes texts in which words are as frequent as in read English books.

    The frequency of the word of rank r goes with (r + 2.7) ** -1.15, the law of Zipf and Mandelbrot. The 10, 22 and 100
    commonest have 24, 34 and 52 % of a text; in the transcripts of mini LibriSpeech they have 25, 34 and 52 %. LibriSpeech
    has 90,000 different words. Beyond the commonest, words are made up of letters; the rarer a word, the longer it is.
    """
    chance, letters, often = random.Random(0), "etaoinshrdlcumwfgypbvkjxqz", list(accumulate(range(52, 0, -2)))
    words = dict.fromkeys(WORDS)
    while len(words) < types:
        length = max(2, round(chance.gauss(1 + len(words).bit_length() * 0.4, 2)))
        words["".join(chance.choices(letters, cum_weights=often, k=length))] = None
    vocabulary, frequency = list(words), list(accumulate((rank + 2.7) ** -1.15 for rank in range(1, types + 1)))
    return lambda chance, count: " ".join(chance.choices(vocabulary, cum_weights=frequency, k=count))


def cuts(
    count: int, audio: str = "audio/{:07d}.flac", first: int = 0, seed: int = 0, speak: Speak = few_words
) -> Iterator[dict[str, Any]]:
    """Yield ``count`` cuts as build_cutset writes them: 0.5 to 30 s, most about 12 s, by the sample."""
    random_ = random.Random(seed)
    for number in range(first, first + count):
        samples = min(max(int(random_.gammavariate(4, 3) * RATE), RATE // 2), 30 * RATE)
        duration = samples / RATE
        name = f"{number % 2500:04d}-{number % 77:05d}-{number:07d}"
        text = speak(random_, max(1, int(duration * 2.7)))
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


def write_study(folder: Path, count: int, base: Path) -> list[str]:
    """Write what the doctor reads of an experiment on ``count`` utterances, and a hundredth of that to validate on.

    Texts are as in books (``as_in_books``); they stand in ``texts`` as well, the tokenizer in ``tokenizer.model``.

    Returns:
        The arguments of ``examine_experiment.py``, all but ``--report``.
    """
    splits, speak = {"train": count, "dev": max(1, count // 100)}, as_in_books()
    durations: dict[str, list[float]] = {split: [] for split in splits}
    for seed, (split, number) in enumerate(splits.items()):
        ledger = Ledger("a", split)
        with row_writer(folder / f"a_cuts_{split}.jsonl.gz") as write, (folder / "texts").open("a") as texts:
            for cut in cuts(number, first=seed * count, seed=seed, speak=speak):
                cut["supervisions"][0]["speaker"] += f"-{split}"
                write(cut)
                texts.write(cut["supervisions"][0]["text"] + "\n")
                ledger.taken.add(cut["duration"])
                ledger.keep(cut["duration"])
                durations[split].append(cut["duration"])
        ledger.write(folder / f"a_ledger_{split}.json")
    entry = {"corpus": "a", "split": "train"}
    config: dict[str, Any] = {
        "corpora": {"a": {"recipe": "yesno", "folder": ".", "language": "en", "text": [], "splits": {s: s for s in splits}}},
        "models": {"base": {"url": str(base)}},
        "defaults": {"model": "base", "train": [entry], "validation": [entry | {"split": "dev"}], "test": []},
        "experiments": {"x": {"layout": "cutset"}},
    }  # fmt: skip
    plan = Plan(config, yaml.safe_load((ROOT / "config/schema.yaml").read_text()), ROOT)
    train_ds = plan.experiments["x"]["train_ds"]
    limits = {key: train_ds[key] for key in ("min_duration", "max_duration", "perturb_speed")}
    source = Source("a/train", Durations.of(durations["train"]), None)
    (folder / "bins.json").write_text(json.dumps(plan_bins([source], train_ds["num_buckets"], **limits)))
    tokenizer: Any = read_base_model(base).tokenizer
    (folder / "tokenizer.model").write_bytes(tokenizer.model.serialized_model_proto())
    return [
        *("--settings", plan.examined_settings("x"), "--base", str(base), "--bins", str(folder / "bins.json")),
        *("--splits", *(f"a/{split}" for split in splits)),
        *("--cuts", *(str(folder / f"a_cuts_{split}.jsonl.gz") for split in splits)),
        *("--ledgers", *(str(folder / f"a_ledger_{split}.json") for split in splits)),
    ]


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


def write_noise(folder: Path, count: int, seconds: int = 10) -> None:
    """Write ``count`` WAV files of noise at -20 dB."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    for number in range(count):
        soundfile.write(folder / f"{number:07d}.wav", chance.normal(0, 0.1, seconds * RATE), RATE, "PCM_16")


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
