"""A corpus that grows, through Snakemake: the plan survives its own rule, and only new shards are written."""

import json

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow


def utterances(folder, first, end):
    for number in range(first, end):
        path = folder / f"u{number:02d}.flac"
        soundfile.write(path, np.random.default_rng(number).integers(-9000, 9000, 8000, dtype=np.int16), 16000)
        yield {"audio_filepath": path.name, "duration": 0.5, "text": f"number {number}"}


def test_new_utterances_go_into_new_shards(checkout):
    corpus = checkout.folder / "own"
    corpus.mkdir()
    manifest = corpus / "train.json"
    settings = {"nemo_manifest": {"train": str(manifest)}, "splits": {"train": "train"}, "language": "en", "text": []}

    def write_shards(rows, num_shards):
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        overlay = checkout.overlay({"corpora": {"own": settings | {"num_shards": num_shards}}})
        checkout.snakemake("data/shards/own_train/ledger.json", "--configfile", overlay)
        shards = checkout.folder / "data/shards/own_train"
        assert checkout.scheduled("data/shards/own_train/ledger.json", "--configfile", overlay) == set()
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in shards.glob("audio_*.tar")}

    rows = list(utterances(corpus, 1, 31))
    before = write_shards(rows, 5)
    assert len(before) == 5
    # They come first in the manifest, and their ids first in the alphabet.
    after = write_shards([*utterances(corpus, 0, 1), *rows, *utterances(corpus, 31, 36)], 6)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert json.loads((checkout.folder / "data/shards/own_train/ledger.json").read_text())["utterances"] == 36
