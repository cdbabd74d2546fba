"""The files of a small finished run, written by the functions that write those of a real one."""

import json
from pathlib import Path

from nuptse.findings import Example, Finding, Report, write_report
from nuptse.scoring import Transcript, score_utterances, summarize_set, write_scores
from nuptse.wer_table import compare, read_scores, tabulate, write_tsv

SPLITS = (("corpus", "dev"), ("corpus", "test"))


def experiment(model="base", train=("corpus",), validation=(("corpus", "dev"),), test=(("corpus", "test"),)):
    return {
        "layout": "cutset",
        "model": model,
        "train": [{"corpus": name, "split": "train"} for name in train],
        "validation": [{"corpus": corpus, "split": split} for corpus, split in validation],
        "test": [{"corpus": corpus, "split": split} for corpus, split in test],
        "train_ds": {"batch_duration": 60, "quadratic_duration": None},
        "trainer": {"devices": 1},
        "optim": {"lr": 0.1},
    }


def batch(step, **changes):
    row = {"step": step, "loss": 3.0 / step, "lr": 0.001, "audio_seconds": 40.0, "utterances": 10, "padding": 0.1}
    return row | {"longest_s": 4.4444, "by_source": {"corpus/train": 10}} | changes


def training(name, batches, sources=("corpus",)):
    amount = {"utterances": 20, "seconds": 80.0, "kept": {"utterances": 20.0, "seconds": 80.0}}
    return {
        "experiment": name,
        "global_step": len(batches),
        "max_steps": len(batches),
        "best": {"step": len(batches), "val_wer": 0.25},
        "audio_seconds": sum(row["audio_seconds"] for row in batches),
        "utterances": sum(row["utterances"] for row in batches),
        "train": batches,
        "validation": [{"step": len(batches), "val_wer": {"corpus_dev": 0.25}}],
        "sources": [
            {"name": f"{source}/train", "too_short": 0, "too_long": 0, "weight": 1 / len(sources)} | amount
            for source in sources
        ],
        "seed": 0,
        "data_fingerprint": "d" * 64,
        "model_sha256": "e" * 64,
        "hardware": {"device": "CPU", "threads": 2, "cpus": 2},
        "versions": {"python": "3.11", "nemo-toolkit": "3.0.0"},
        "commit": None,
        "options": ["seed=0"],
        "seconds": 30.0,
        "training_seconds": 20.0,
        "setup_seconds": 3.0,
        "memory": {"rss_bytes": 10**9, "gpu_bytes": None},
    }


def transcripts(heard, speakers=("s1", "s2", "s3", "s4"), text="one two three four", number=8):
    """``number`` utterances with the same text; ``heard`` is what is recognised in every second of them."""
    return [
        Transcript(
            f"u{i}", 1.0 + i / 10, text, heard if i % 2 else text, speakers[i % len(speakers)] if speakers else None
        )
        for i in range(number)
    ]


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_run(
    folder: Path,
    *,
    experiments=None,
    hypotheses=None,
    trainings=None,
    buckets=2,
    histogram=True,
    rows=None,
    findings=None,
):
    """Write a run of ``experiments`` into ``folder``; return the arguments of write_report.py.

    Args:
        hypotheses: recogniser -> what it hears wrongly; default: the base worse than the experiments.
        trainings: experiment -> its account.
        findings: experiment -> what the doctor found; default: the same in each.
        rows: (recogniser, split) -> transcripts, in place of those of ``hypotheses``.
    """
    experiments = experiments or {"first": experiment(), "second": experiment()}
    trainings = trainings or {}
    bases = {name: settings["model"] for name, settings in experiments.items()}
    judged = {}
    for name, settings in experiments.items():
        for entry in settings["validation"] + settings["test"]:
            for recogniser in (settings["model"], name):
                judged.setdefault((recogniser, entry["corpus"], entry["split"]), None)
    scores = []
    for recogniser, corpus, split in sorted(judged, key=lambda key: (key[0] in bases, key)):
        wrong = (hypotheses or {}).get(recogniser, "one too four five" if recogniser in bases else "no idea")
        heard = (rows or {}).get((recogniser, split)) or transcripts(wrong)
        path = folder / "results/scores" / recogniser / f"{corpus}_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"recogniser": recogniser, "corpus": corpus, "split": split, "normalizer": "none"}
        timing = {"seconds": 0.5, "audio_seconds": 10.0, "rtf": 0.05}
        found = summarize_set(score_utterances(heard, "none"), resamples=50)
        write_scores(path, about | {"timing": timing} | found)
        scores.append(path)
    read = read_scores(scores, bases)
    write_tsv(tabulate(read, bases), folder / "results/wer.tsv")
    write_tsv(compare(read, bases, resamples=50), folder / "results/wer_comparisons.tsv")
    accounts = []
    edges = [1.0 + place / 10 for place in range(1, buckets)]
    for name, settings in experiments.items():
        sources = [entry["corpus"] for entry in settings["train"]]
        account = trainings.get(name) or training(name, [batch(step) for step in range(1, 31)], sources)
        accounts.append(write_json(folder / "results" / name / "train.json", account))
        limits = list(zip([0.5, *edges], [*edges, 9.0], strict=True))
        bins = {
            "bucket_duration_bins": edges,
            "num_buckets": buckets,
            "requested_buckets": buckets,
            "buckets": [{"from_s": low, "to_s": high, "share_of_audio": 1 / buckets} for low, high in limits],
            "sources": account["sources"],
        }
        write_json(folder / "results" / name / "duration_bins.json", bins)
        (folder / "results" / name / "config.yaml").write_text("seed: 0\n")
    used = {(entry["corpus"], entry["split"]) for e in experiments.values() for role in ("train", "validation", "test") for entry in e[role]}  # fmt: skip
    ledgers = [
        write_json(
            folder / "data/manifests" / f"{corpus}_ledger_{split}.json",
            {
                "corpus": corpus,
                "split": split,
                "taken": {"utterances": 23, "seconds": 89.0},
                "kept": {"utterances": 20, "seconds": 80.0},
                "dropped": {"no transcript": {"utterances": 1, "seconds": 4.0}},
                "quarantined": {"bad audio: silent": {"utterances": 2, "seconds": 5.0}},
                "trimmed": {"utterances": 0, "seconds": 0.0},
                "unused_recordings": 0,
            }
            | ({"histogram": {"width_s": 0.1, "counts": {"10": 12, "23": 8}}} if histogram else {}),
        )
        for corpus, split in sorted(used)
    ]
    corpus = {"recipe": "librispeech", "archives": {"a.tar.gz": {"sha256": "f" * 64}}, "splits": {split: f"{split}-1" for _, split in used}, "language": "en", "text": ["lower"], "normalizer": "none"}  # fmt: skip
    reports = []
    for name in experiments:
        found = Finding(code="unknown_characters", severity="warning", subject="corpus/train", message="the tokenizer does not know 'é'", remedy="add steps", change={"corpora.corpus.text": ["lower"]}, count=2, of=20, share_of_hours=0.1, examples=[Example("u1", "cuts.jsonl.gz:2", "café")])  # fmt: skip
        split = {"name": "corpus/train", "roles": ["train"], "seconds": 80.0}
        plan = {"passes": 3.5, "batch_s": 48.0, "memory_bytes": 10**9, "steps": 30}
        reports.append(folder / "results/doctor" / f"{name}.json")
        report = Report(experiment=name, base={"name": "base"}, findings=(findings or {}).get(name, [found]), splits=[split], plan=plan)  # fmt: skip
        write_report(report, reports[-1])
    settings = {
        "experiments": experiments,
        "corpora": {name: corpus for name, _ in used},
        "models": {model: {"url": "a.nemo"} for model in bases.values()},
        "decoding": {},
        "steps": ["finetune_model", "transcribe"],
    }
    benchmark = folder / "benchmarks/finetune_model" / f"{next(iter(experiments))}.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\th:m:s\tmax_rss\tcpu_time\n12.5\t0:00:12\t1000\t11.0\n")
    return [
        *("--table", folder / "results/wer.tsv", "--comparisons", folder / "results/wer_comparisons.tsv"),
        *("--scores", *scores, "--train", *accounts, "--ledgers", *ledgers, "--doctor", *reports),
        *("--base", *(f"{name}={model}" for name, model in bases.items())),
        *("--settings", json.dumps(settings), "--benchmarks", folder / "benchmarks"),
        *("--page", folder / "results/report.html", "--figures", folder / "results/figures"),
    ]
