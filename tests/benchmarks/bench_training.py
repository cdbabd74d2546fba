"""Fine-tunes beside NeMo's own script, and the time to the first batch; rows of bench.py.

NeMo's speech_to_text_finetune.py is in its git repository, not in its package: NEMO_REPO names a checkout, or any folder
that holds `examples/asr/speech_to_text_finetune.py` with its `conf/asr_finetune/`. Both train the quickstart's base model on
the tutorial's data, in its four layouts and with its settings, but on the CPU: 40 batches of 60 s, two validations.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml
from corpora import mirror, mirror_overlay
from harness import ROOT, Cost, Row, Work, by_turns, median, run
from snakemake.utils import update_config

from nuptse.config import load_config
from nuptse.overrides import finetune_overrides
from nuptse.settings import resolve_experiment

STEPS, INTERVAL, BATCH_S, WARMUP, LR = 40, 20, 60, 4, 1e-3
OVERLAY = {
    "corpora": {"mini_librispeech": {"text": ["lower", {"map": {"'": ""}}]}},  # the model knows no apostrophe
    "defaults": {
        "model": "quickstart_base",
        "train_ds": {"batch_duration": BATCH_S, "num_workers": 0},
        "validation_ds": {"num_workers": 0},
        "optim": {"lr": LR},
        "trainer": {"max_steps": STEPS, "val_check_interval": INTERVAL},
    },
}
EXPERIMENTS = [f"finetune_from_{name}" for name in ("cutset", "nemo_json", "nemo_tarred", "nemo_multidataset")]


def finetune(scratch: Path, rounds: int) -> list[Row]:
    """All four fine-tunes: ours by Snakemake on two cores, NeMo's one after the other, each with both cores."""
    made = _side_by_side(scratch, min(rounds, 3), EXPERIMENTS)
    if made is None:
        return []
    speeds, wers = made.told("speed", ".1f"), made.told("val_wer", ".1%")
    return [
        made.row("fine-tunes", "wall_s", 0.6, f"steps per second of each, ours two at a time, {speeds}"),
        made.row("fine-tunes", "cpu_s", None, f"val_wer at the end {wers}"),
        made.row("fine-tunes", "memory_mb", 0.5, "the largest process"),
    ]


def alone(scratch: Path, rounds: int) -> list[Row]:
    """One fine-tune by itself, with both cores; and beside a process that keeps one of them busy."""
    made = _side_by_side(scratch, min(rounds, 3), EXPERIMENTS[1:2])
    if made is None:
        return []
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        beside = _side_by_side(scratch, 1, EXPERIMENTS[1:2])
    finally:
        busy.kill()
        busy.wait()
    note = f"steps per second {made.told('speed', '.1f')}"
    rows = [made.row("a fine-tune alone", "wall_s", None, note)]
    if beside is not None:
        note = f"steps per second {beside.told('speed', '.1f')}"
        rows.append(beside.row("a fine-tune beside a busy process", "wall_s", None, note))
    return rows


class SideBySide(NamedTuple):
    """Trainings of ours and of NeMo's script: what they cost, and what each reached (``training``)."""

    rounds: int
    costs: Mapping[str, Cost]
    ours: Sequence[Mapping[str, float]]
    theirs: Sequence[Mapping[str, float]]

    def told(self, value: str, form: str) -> str:
        return " and ".join(", ".join(format(one[value], form) for one in side) for side in (self.ours, self.theirs))

    def row(self, name: str, measure: str, limit: float | None, note: str) -> Row:
        amount = f"{len(self.ours)} x {STEPS} steps of {BATCH_S} s, 2 validations"
        costs = self.costs["ours"], self.costs["theirs"]
        return Row(name, "NeMo's script", amount, *costs, self.rounds, measure, limit, note)


def _side_by_side(scratch: Path, rounds: int, experiments: Sequence[str]) -> SideBySide | None:
    """Run these experiments by turns with ours and with NeMo's script; None where a part of that is missing."""
    script = Path(os.environ.get("NEMO_REPO", ""), "examples/asr/speech_to_text_finetune.py")
    if "NEMO_REPO" not in os.environ or not script.is_file():
        print("finetune: skipped; NEMO_REPO does not name a folder with examples/asr/speech_to_text_finetune.py")
        return None
    folder = scratch / "run" if (scratch / "run").exists() else prepared(scratch, OVERLAY)
    if folder is None:
        return None
    theirs_at = scratch / "nemo"

    def forget() -> None:
        for name in experiments:
            for made in ("checkpoints", "training", "tensorboard", "train.json", "config.yaml"):
                path = folder / "results" / name / made
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def forget_theirs() -> None:
        shutil.rmtree(theirs_at, ignore_errors=True)

    models = [f"results/{name}/checkpoints/{name}.nemo" for name in experiments]
    ours = snakemake(folder, scratch, *models)
    if len(experiments) == 1:  # by itself, where Snakemake would leave a core to the next training
        ours += ["--set-threads", "finetune_model=2"]
    works = {
        "ours": Work([ours], forget),
        "theirs": Work([nemo_command(script, name, theirs_at) for name in experiments], forget_theirs, folder),
    }
    return SideBySide(
        rounds,
        by_turns(works, rounds),
        [training(folder / "results" / name) for name in experiments],
        [training(theirs_at / name) for name in experiments],
    )


def prepared(scratch: Path, overlay: Mapping[str, object]) -> Path | None:
    """Return a folder in which all is made that a fine-tune of the tutorial needs; None without a mirror."""
    archives = mirror()
    if not archives:
        print("skipped: OPENSLR_MIRROR does not name a folder with resources/31/train-clean-5.tar.gz")
        return None
    folder = scratch / "run"
    folder.mkdir()
    (folder / "resources").symlink_to(ROOT / "resources")
    (scratch / "mirror.yaml").write_text(yaml.safe_dump(mirror_overlay(archives)))
    (scratch / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    run(Work([snakemake(folder, scratch, "shards", "manifests", "bins", "doctor")]))
    return folder


def snakemake(folder: Path, scratch: Path, *targets: str) -> list[str | Path]:
    configs = [ROOT / "config/tutorial.yaml", scratch / "mirror.yaml", scratch / "overlay.yaml"]
    command = [sys.executable, "-m", "snakemake", *targets, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    return [*command, "--cores", "2", "--configfile", *configs]


def nemo_command(script: Path, experiment: str, output: Path) -> list[str | Path]:
    """Return the tutorial's command, for the CPU, with a warm-up that ends before the training and one loading process.

    Eight, the default of the script, are slower on two cores and take more memory.
    """
    cuts, shards = "data/manifests/mini_librispeech_cuts_{}.jsonl.gz", "data/shards/{}_train/"
    jsons = "data/manifests/{}_nemo_{}.json"
    libri, yesno = shards.format("mini_librispeech"), shards.format("yesno")
    pattern, tars = "sharded_manifests/manifest__OP_0..{}_CL_.json", "audio__OP_0..{}_CL_.tar"
    dev = jsons.format("mini_librispeech", "dev")
    data = {
        "finetune_from_cutset": [
            "model.train_ds.manifest_filepath=null",
            f"+model.train_ds.cuts_path={cuts.format('train')}",
            "model.validation_ds.manifest_filepath=null",
            f"+model.validation_ds.cuts_path={cuts.format('dev')}",
        ],
        "finetune_from_nemo_json": [
            f"model.train_ds.manifest_filepath={jsons.format('mini_librispeech', 'train')}",
            f"model.validation_ds.manifest_filepath={dev}",
        ],
        "finetune_from_nemo_tarred": [
            f"model.train_ds.manifest_filepath={libri}{pattern.format(31)}",
            f"model.train_ds.tarred_audio_filepaths={libri}{tars.format(31)}",
            f"model.validation_ds.manifest_filepath={dev}",
            f"+trainer.limit_train_batches={INTERVAL}",
        ],
        "finetune_from_nemo_multidataset": [
            f"model.train_ds.manifest_filepath=[[{libri}{pattern.format(31)},0.8],[{yesno}{pattern.format(0)},0.2]]",
            f"model.train_ds.tarred_audio_filepaths=[[{libri}{tars.format(31)}],[{yesno}{tars.format(0)}]]",
            f"model.validation_ds.manifest_filepath=[{dev},{jsons.format('yesno', 'test')}]",
            f"+trainer.limit_train_batches={INTERVAL}",
        ],
    }
    return [
        *(sys.executable, script, "init_from_nemo_model=data/models/quickstart_base.nemo", f"name={experiment}"),
        *(f"exp_manager.exp_dir={output}", *data[experiment]),
        *("+model.train_ds.use_lhotse=true", "model.train_ds.batch_size=null", "+model.train_ds.use_bucketing=true"),
        *("+model.train_ds.num_buckets=30", f"+model.train_ds.batch_duration={BATCH_S}"),
        *("+model.train_ds.quadratic_duration=15", "model.train_ds.num_workers=1", "model.train_ds.pin_memory=false"),
        *("+model.validation_ds.use_lhotse=true", "model.validation_ds.batch_size=64"),
        *(
            "model.validation_ds.num_workers=1",
            "model.validation_ds.pin_memory=false",
            "model.train_ds.max_duration=null",
        ),
        *(f"model.optim.lr={LR}", f"model.optim.sched.warmup_steps={WARMUP}", f"trainer.max_steps={STEPS}"),
        *(f"++trainer.val_check_interval={INTERVAL}", "+trainer.use_distributed_sampler=false"),
        *("trainer.devices=1", "trainer.accelerator=cpu", "trainer.sync_batchnorm=false"),
        "trainer.enable_progress_bar=false",
    ]


def training(folder: Path) -> dict[str, float]:
    """Return what a training in ``folder`` reached, by its TensorBoard: steps a second and the last word error rate.

    A value is logged every ten steps, and a validation follows each second one: the ten steps before it are counted.

    Raises:
        SystemExit: it did not make its steps, or a loss is not finite.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file = min(folder.rglob("events.out.tfevents.*"))  # ours has a second name
    events = EventAccumulator(str(file)).Reload()
    losses = events.Scalars("train_loss")
    if losses[-1].step != STEPS - 1 or not all(abs(loss.value) < float("inf") for loss in losses):
        sys.exit(f"{folder} did not make {STEPS} steps with finite losses: {losses}")
    times = {loss.step: loss.wall_time for loss in losses}
    counted = [times[end - 1] - times[end - 11] for end in range(INTERVAL, STEPS + 1, INTERVAL)]
    return {"speed": 10 * len(counted) / sum(counted), "val_wer": events.Scalars("val_wer")[-1].value}


# --- the first batch ---


def first_batch(scratch: Path, rounds: int) -> list[Row]:
    """From the end of the imports to the first batch, for a small and a large corpus: the same files, many times."""
    overlay = {**OVERLAY, "defaults": {**OVERLAY["defaults"], "trainer": {"max_steps": 1, "val_check_interval": 1}}}
    folder = prepared(scratch, overlay)
    if folder is None:
        return []
    rows = []
    for name, data in (
        ("finetune_from_cutset", "data/manifests/mini_librispeech_cuts_train.jsonl.gz"),
        ("finetune_from_nemo_json", "data/manifests/mini_librispeech_nemo_train.json"),
        ("finetune_from_nemo_tarred", "data/shards/mini_librispeech_train/ledger.json"),
    ):
        original = (folder / data).read_bytes()
        for count in (1_000, 1_000_000):
            if "shards" in data:  # a stream of them has no end, whatever their number: only the ledger says another one
                (folder / data).write_text(json.dumps(json.loads(original) | {"utterances": count}))
            else:
                write_copies(folder / data, original, count)
            bins = folder / "results" / name / "duration_bins.json"
            plan = json.loads(bins.read_text())
            plan["sources"][0]["utterances"] = count
            bins.write_text(json.dumps(plan))
            work = Work(
                [first_step(overlay, name, data)], lambda: shutil.rmtree(folder / "out", ignore_errors=True), folder
            )
            costs, waits = [], []
            for _ in range(rounds):
                costs.append(run(work))
                waits.append(json.loads((folder / "out/train.json").read_text())["setup_seconds"])
            cost = replace(median(costs), wall_s=statistics.median(waits))
            note = "wall time after the imports; CPU time of all, one step included"
            rows.append(Row(f"first batch, {name}", "", f"{count:,} utterances", cost, None, rounds, "wall_s", 3, note))
    return rows


def write_copies(path: Path, original: bytes, count: int) -> None:
    """Write so many utterances to a manifest, those of ``original`` again and again with ids of their own."""
    opened = gzip.open if path.suffix == ".gz" else open
    plain = gzip.decompress(original) if path.suffix == ".gz" else original
    rows = [json.loads(line) for line in plain.splitlines()]
    with opened(path, "wt", encoding="utf-8", **({"compresslevel": 1} if path.suffix == ".gz" else {})) as file:
        for number in range(count):
            row = rows[number % len(rows)]
            file.write(json.dumps(row | {"id": f"{row['id']}-{number}"}) + "\n")


def plan_options(overlay: Mapping[str, object], name: str) -> list[str]:
    """Return the options of an experiment of the tutorial with this overlay."""
    schema = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
    config: dict[str, object] = {}
    for part in (ROOT / "config/config.yaml", ROOT / "config/tutorial.yaml"):
        update_config(config, yaml.safe_load(part.read_text()))
    update_config(config, overlay)
    settings = resolve_experiment(load_config(config, schema), name, schema)
    return finetune_overrides(settings, {"mini_librispeech": 32, "yesno": 1})


def first_step(overlay: Mapping[str, object], name: str, data: str) -> list[str | Path]:
    """Return the command that trains one step of an experiment on ``data``."""
    kind = "cuts_dev.jsonl.gz" if name == "finetune_from_cutset" else "nemo_dev.json"
    command = [sys.executable, ROOT / "scripts/finetune.py", "--experiment", name, "--threads", "2"]
    command += ["--base", "data/models/quickstart_base.nemo", "--bins", f"results/{name}/duration_bins.json"]
    command += ["--train", data, "--validation", f"data/manifests/mini_librispeech_{kind}"]
    return [
        *command,
        "--doctor",
        f"results/doctor/{name}.json",
        "--output-dir",
        "out",
        "--",
        *plan_options(overlay, name),
    ]
