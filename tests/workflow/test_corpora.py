"""A corpus from every source, imported, written in its layout and trained on, in one run of Snakemake."""

import gzip
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest
import soundfile
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from corpus_files import BLOCKS, write_all, write_table

from nuptse.archives import extract
from nuptse.shard_index import index_shards
from nuptse.shard_planning import plan_shards
from nuptse.shards import write_group

COUNTS = {"train": 14, "dev": 6}
# One layout for each, so that all layouts are fed from sources of many kinds.
LAYOUTS = {
    "table": "cutset",
    "audio_folder": "nemo_json",
    "nemo_manifest": "tarred",
    "kaldi": "tarred",
    "lhotse_cuts": "cutset",
    "shar": "nemo_json",
    "huggingface": "tarred",
    "nemo_shards": "tarred",
}
EXPERIMENTS = {f"from_{name}": {"layout": layout, "train": [{"corpus": name}]} for name, layout in LAYOUTS.items()}


def real_utterances(folder: Path) -> dict:
    """Copy some utterances of the quickstart; return for each part their audio, text and speaker."""
    parts = {}
    for part, name in (("train", "train-clean-5"), ("dev", "dev-clean-2")):
        raw = folder.parent / f"raw_{part}"
        extract([ROOT / "resources" / "quickstart" / "31" / f"{name}.tar.gz"], raw, raw.with_suffix(".json"))
        lines = [line for path in sorted(raw.rglob("*.trans.txt")) for line in path.read_text().splitlines()]
        # Of several speakers.
        chosen = [line.split(" ", 1) for line in lines[:: len(lines) // COUNTS[part]]][: COUNTS[part]]
        parts[part] = []
        for utterance, text in chosen:
            (found,) = raw.rglob(f"{utterance}.flac")
            target = folder / "clips" / found.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(found.read_bytes())
            parts[part].append({"audio": target, "text": text, "speaker": utterance.split("-")[0]})
    return parts


def write_shards(folder: Path, utterances: list) -> None:
    """Two shards in the layout of NeMo's converter, with transcripts as the model knows them."""
    manifest = folder / "for_shards.json"
    rows = [
        {
            "id": u["audio"].stem,
            "audio_filepath": str(u["audio"]),
            "duration": soundfile.info(u["audio"]).duration,
            "text": u["text"].lower(),
        }
        for u in utterances
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan, shards = plan_shards(manifest, 2, 0), folder / "my shards"
    write_group(manifest, plan, [0, 1], shards, shards / "ledger" / "0.json")
    index_shards(plan, [shards / "ledger" / "0.json"], shards, shards / "ledger.json")


def overlay(checkout) -> Path:
    common = {"folder": "corpus", "splits": {"train": "train", "dev": "dev"}, "language": "en", "text": ["lower"], "num_shards": 2}  # fmt: skip
    corpora = {name: common | block for name, block in BLOCKS.items() if name in LAYOUTS}
    corpora["nemo_shards"] = {"nemo_shards": "my shards", "folder": "corpus", "splits": {"train": "all"}, "language": "en", "text": []}  # fmt: skip
    dev = {name: "table" if name == "nemo_shards" else name for name in LAYOUTS}
    experiments = {
        f"from_{name}": {"layout": layout, "train": [{"corpus": name}], "validation": [{"corpus": dev[name]}]}
        for name, layout in LAYOUTS.items()
    }
    default = ("cutset", "nemo_json", "nemo_tarred", "nemo_multidataset")
    return checkout.overlay(
        {
            "corpora": corpora,
            "defaults": {
                "test": [],
                "train_ds": {"batch_duration": 20, "num_buckets": 2, "perturb_speed": False},
                "validation_ds": {"batch_size": 6},
                "trainer": {"max_steps": 5, "val_check_interval": 5},
            },
            "experiments": {f"finetune_from_{name}": None for name in default} | experiments,
        }
    )


def import_ledger(checkout, corpus):
    return json.loads((checkout.folder / "data/recipes" / corpus / "ledger.json").read_text())


def reports(names=EXPERIMENTS):
    return [f"results/{name}/train.json" for name in names]


@pytest.mark.slow
def test_every_source_reaches_a_model(make_checkout):
    checkout = make_checkout("corpora")
    corpus = checkout.folder / "corpus"
    parts = real_utterances(corpus)
    write_all(corpus, parts)
    write_shards(corpus, parts["train"])
    options = ("--configfile", overlay(checkout))
    # Every corpus in every layout, whichever of them it is trained in.
    checkout.snakemake("manifests", "shards", *reports(), *options)
    texts = {part: sorted(u["text"].lower() for u in utterances) for part, utterances in parts.items()}
    for name in LAYOUTS:
        report = json.loads((checkout.folder / "results" / f"from_{name}" / "train.json").read_text())
        assert report["global_step"] == 5
        assert report["utterances"] >= 5
        assert report["sources"][0]["utterances"] == COUNTS["train"]
        doctor = json.loads((checkout.folder / "results/doctor" / f"from_{name}.json").read_text())
        assert not [found for found in doctor["findings"] if found["severity"] == "error"]
        ledger = json.loads((checkout.folder / f"data/shards/{name}_train/ledger.json").read_text())
        assert ledger["utterances"] == COUNTS["train"]
        if name == "nemo_shards":
            continue
        rows = (checkout.folder / f"data/manifests/{name}_nemo_train.json").read_text().splitlines()
        assert sorted(json.loads(row)["text"] for row in rows) == texts["train"]
        for part, count in COUNTS.items():
            own = import_ledger(checkout, name)["parts"][part]
            assert (own["rows"], own["supervisions"], own["left_out"]) == (count, count, {})
            with gzip.open(checkout.folder / f"data/manifests/{name}_cuts_{part}.jsonl.gz") as lines:
                cuts = [json.loads(line) for line in lines]
            assert sorted(cut["supervisions"][0]["text"] for cut in cuts) == texts[part]
            assert {cut["supervisions"][0]["speaker"] for cut in cuts} == {u["speaker"] for u in parts[part]}
    seconds = {
        round(json.loads((checkout.folder / f"results/from_{name}/train.json").read_text())["sources"][0]["seconds"], 1)
        for name in LAYOUTS
    }
    assert len(seconds) == 1, "the same audio from every source"
    options_of_shards = json.loads((checkout.folder / "results/from_nemo_shards/train.json").read_text())["options"]
    assert any('"corpus/my shards/audio__OP_0..1_CL_.tar"' in option for option in options_of_shards)
    assert checkout.scheduled(*reports(), *options) == set()
    changes(checkout, corpus, options)


def changes(checkout, corpus, options):
    """What each change of the user's files makes stale; no other corpus is touched."""

    def stale():
        jobs = checkout.scheduled(*reports(), *options)
        return {job.partition(" ")[2].partition(",")[0] for job in jobs if job.startswith("prepare_manifests")}

    table = corpus / "table.csv"
    table.write_text(table.read_text().replace("train\n", "train \n", 1))
    assert stale() == {"corpus=table"}
    (corpus / "nemo_train.json").open("a").write("\n")
    assert stale() == {"corpus=table", "corpus=nemo_manifest"}
    (corpus / "folders/train" / "new.txt").write_text("a transcript")
    assert stale() == {"corpus=table", "corpus=nemo_manifest", "corpus=audio_folder"}
    checkout.snakemake("data/recipes/table", "data/recipes/nemo_manifest", "data/recipes/audio_folder", *options)
    assert stale() == set()
    clip = next((corpus / "clips").iterdir())
    clip.write_bytes(clip.read_bytes() + b"\0")
    assert stale() == {"corpus=table", "corpus=nemo_manifest", "corpus=lhotse_cuts"}
    checkout.snakemake("data/recipes/table", *options)
    assert stale() == {"corpus=nemo_manifest", "corpus=lhotse_cuts"}, "once read, it is not read again"
    os.utime(clip)
    assert stale() == {"corpus=nemo_manifest", "corpus=lhotse_cuts"}, "time alone is no change"
    tar = corpus / "my shards" / "audio_1.tar"
    tar.write_bytes(tar.read_bytes() + b"\0" * 512)
    jobs = checkout.scheduled("data/shards/nemo_shards_train/ledger.json", *options)
    assert jobs == {"index_nemo_shards corpus=nemo_shards, split=train"}


@pytest.mark.slow
def test_a_table_inside_of_an_archive(checkout):
    """It is unpacked, converted as the policy says, and read again when somebody edits it."""
    corpus = checkout.folder / "corpus"
    parts = real_utterances(corpus)
    write_table(corpus, parts)
    with tarfile.open(checkout.folder / "own.tar.gz", "w:gz") as tar:
        tar.add(corpus, "own corpus")
    block = {
        "table": "own corpus/table.csv",
        "archives": {"own.tar.gz": {"url": (checkout.folder / "own.tar.gz").as_uri()}},
        "sampling_rate": 8000,
        "splits": {"train": "train", "dev": "dev"},
        "language": "en",
        "text": ["lower"],
    }
    options = ("--configfile", checkout.overlay({"corpora": {"own": block}}))
    cuts = "data/manifests/own_cuts_train.jsonl.gz"
    checkout.snakemake(cuts, *options)
    with gzip.open(checkout.folder / cuts) as lines:
        recordings = [json.loads(line)["recording"] for line in lines]
    assert len(recordings) == COUNTS["train"]
    for recording in recordings:
        assert soundfile.info(checkout.folder / recording["sources"][0]["source"]).samplerate == 8000
    assert import_ledger(checkout, "own")["converted"] == sum(COUNTS.values())
    assert checkout.scheduled(cuts, *options) == set()
    table = checkout.folder / "data/raw/own/own corpus/table.csv"
    table.write_text(table.read_text().replace("THE", "A"))
    assert "prepare_manifests corpus=own" in checkout.scheduled(cuts, *options)
