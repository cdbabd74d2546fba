"""One training on two devices: two processes of the CPU, started by the command itself as they are on two GPUs."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import accumulate, islice
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from transducers import transducer_config

from nuptse.plan import Plan

pytestmark = pytest.mark.slow


class Training:
    """The command that trains one experiment on the data of a finished run."""

    def __init__(self, checkout, experiment, folder, *, devices=2, max_steps=4, **settings):
        self.checkout, self.folder = checkout, folder / f"{experiment}-{devices}"
        config = yaml.safe_load((checkout.folder / "config/config.yaml").read_text())
        own = config["experiments"][experiment]
        workers = {"num_workers": 1} if own["layout"] == "tarred" else {}
        own["train_ds"] = {"batch_duration": 30, "quadratic_duration": None, "perturb_speed": False} | workers
        own["trainer"] = {"max_steps": max_steps, "val_check_interval": max_steps, "log_every_n_steps": 1}
        own["trainer"] |= {"devices": devices} | settings
        schema = yaml.safe_load((checkout.folder / "config/schema.yaml").read_text())
        here = Path.cwd()
        os.chdir(checkout.folder)
        plan = Plan(config, schema, checkout.folder)
        os.chdir(here)
        self.command = [
            sys.executable,
            "scripts/finetune.py",
            "--experiment",
            "x",
            "--base",
            plan.base_model(experiment),
        ]
        self.command += ["--bins", f"results/{experiment}/duration_bins.json", "--every-n-steps", "1", "--threads", "2"]
        self.command += ["--train", *plan.training_data(experiment), "--validation", *plan.validation_data(experiment)]
        self.command += ["--doctor", f"results/doctor/{experiment}.json"]
        self.command += ["--output-dir", str(self.folder), "--log", str(self.log), "--", *plan.overrides(experiment)]

    @property
    def log(self):
        return self.folder.with_suffix(".log")

    def start(self):
        return subprocess.Popen(
            self.command, cwd=self.checkout.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self):
        """Train to the end; return the report."""
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output + self.log.read_text()
        return json.loads((self.folder / "train.json").read_text())


@pytest.mark.parametrize("name", ["cutset", "nemo_json", "nemo_tarred", "nemo_multidataset"])
def test_two_devices_see_batches_of_their_own(finished, tmp_path, name):
    report = Training(finished, f"finetune_from_{name}", tmp_path).run()
    rows = report["train"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert report["effective_batch"]["devices"] == 2
    assert report["effective_batch"]["utterances"] == sum(row["utterances"] for row in rows) / 4
    assert 30 < report["effective_batch"]["audio_seconds"] <= 60, "two batches of at most 30 s"
    assert all(sum(row["by_source"].values()) == row["utterances"] for row in rows)


class Ids:
    """A dataset of what would be in a batch."""

    def __getitem__(self, cuts):
        return [cut.id for cut in cuts]


@pytest.mark.parametrize("name", ["cutset", "nemo_json", "nemo_tarred", "nemo_multidataset"])
def test_no_two_devices_see_the_same_batch(finished, tmp_path, monkeypatch, name):
    from nuptse.runtime import prepare_runtime

    prepare_runtime()
    from nemo.collections.common.data.lhotse import get_lhotse_dataloader_from_config

    from nuptse import training

    command = Training(finished, f"finetune_from_{name}", tmp_path).command
    options = command[command.index("--") + 1 :]
    monkeypatch.chdir(finished.folder)
    bins = Path(command[command.index("--bins") + 1])
    config = training.resolve_options(training.Job("x", tmp_path, bins, [], [], tmp_path, options, 1)).model.train_ds
    config.sample_rate = 16000
    ranks = []
    for rank in (0, 1):
        loader = get_lhotse_dataloader_from_config(config, global_rank=rank, world_size=2, dataset=Ids())
        ranks.append([frozenset(batch) for batch in islice(loader, 10)])
    assert not set(ranks[0]) & set(ranks[1])
    if name in ("cutset", "nemo_json"):
        seen = [frozenset.union(*batches[:4]) for batches in ranks]
        assert not seen[0] & seen[1], "in an epoch no utterance is seen by both"


@pytest.mark.parametrize("name", ["cutset", "nemo_json"])
def test_an_epoch_that_ends_in_between_does_not_hang(finished, tmp_path, name):
    """180 utterances are a few batches of 200 s: the last are shared out, and a new epoch begins on both devices."""
    training = Training(finished, f"finetune_from_{name}", tmp_path, max_steps=6, accumulate_grad_batches=2)
    training.command[training.command.index("model.train_ds.batch_duration=30")] = "model.train_ds.batch_duration=200"
    report = training.run()
    assert report["global_step"] == 6
    seen = list(accumulate(row["utterances"] for row in report["train"]))
    assert len(seen) == 12
    assert {180, 360} <= set(seen), "every utterance once in an epoch, on one of the two"


def test_half_precision_and_accumulated_batches(finished, tmp_path):
    half, full = (
        Training(
            finished, "finetune_from_cutset", tmp_path / name, max_steps=2, accumulate_grad_batches=2, precision=name
        ).run()
        for name in ("bf16-mixed", "32-true")
    )
    assert len(half["train"]) == 4
    assert half["effective_batch"] == full["effective_batch"]
    assert half["effective_batch"]["accumulate_grad_batches"] == 2
    assert half["effective_batch"]["utterances"] == sum(row["utterances"] for row in half["train"]) / 2
    losses = [[row["loss"] for row in report["train"]] for report in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_the_word_error_rate_is_of_all_utterances(finished, tmp_path):
    from nuptse.runtime import prepare_runtime

    training = Training(finished, "finetune_from_cutset", tmp_path, max_steps=2)
    # 53 utterances in rounds of 2 × 13 leave one for two devices: Lhotse would have both transcribe it.
    cuts, fewer = "data/manifests/quickstart_cuts_dev.jsonl.gz", tmp_path / "cuts.jsonl.gz"
    lines = gzip.decompress((finished.folder / cuts).read_bytes()).splitlines(keepends=True)
    fewer.write_bytes(gzip.compress(b"".join(lines[:53])))
    report, counted = "results/doctor/finetune_from_cutset.json", tmp_path / "doctor.json"
    counted.write_text((finished.folder / report).read_text().replace('"utterances": 54', '"utterances": 53'))
    for written, taken in ((cuts, fewer), (report, counted)):
        training.command = [word.replace(written, str(taken)) for word in training.command]
    batches = {"model.validation_ds.batch_size": 13, "model.validation_ds.batch_duration": 1000}
    for place, (name, _, _) in enumerate([word.partition("=") for word in training.command]):
        if name in batches:
            training.command[place] = f"{name}={batches.pop(name)}"
    assert not batches
    report = training.run()
    prepare_runtime()
    from nemo.collections.asr.metrics.wer import word_error_rate
    from nemo.collections.asr.models import ASRModel

    manifest = finished.folder / "data/manifests/quickstart_nemo_dev.json"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()][:53]
    model = ASRModel.restore_from(str(training.folder / "checkpoints/x.nemo"), map_location="cpu")
    audio = [str(finished.folder / row["audio_filepath"]) for row in rows]
    # One by one: NeMo's transcribe() pads no batch to whole stacks, so that neighbours would change what is heard.
    heard = [hypothesis.text for hypothesis in model.transcribe(audio, batch_size=1, verbose=False)]
    assert report["best"]["val_wer"] == pytest.approx(word_error_rate(heard, [row["text"] for row in rows]), abs=1e-6)


def save_transducer(path, texts):
    """Write a tiny RNN-T whose joint takes one utterance at a time; its tokenizer knows the characters of ``texts``."""
    from nuptse.runtime import prepare_runtime

    prepare_runtime()
    import lightning.pytorch as pl
    from nemo.collections.asr.models import EncDecRNNTBPEModel
    from omegaconf import OmegaConf

    from nuptse.models import train_tokenizer

    train_tokenizer(texts, 64, path.parent)
    pl.seed_everything(0, verbose=False)
    config = transducer_config(path.parent, fuse_loss_wer=True, fused_batch_size=1)
    EncDecRNNTBPEModel(OmegaConf.create(config)).save_to(str(path))


def test_a_fused_transducer_is_validated_by_ranks_whose_batches_are_of_other_sizes(finished, tmp_path):
    manifest = finished.folder / "data/manifests/quickstart_nemo_dev.json"
    save_transducer(tmp_path / "b.nemo", [json.loads(line)["text"] for line in manifest.read_text().splitlines()])
    short = "model.validation_ds.batch_duration="
    for steps in (2, 3):  # the second goes on from a checkpoint of the first
        training = Training(finished, "finetune_from_cutset", tmp_path, max_steps=steps, val_check_interval=2)
        training.command[training.command.index("--base") + 1] = str(tmp_path / "b.nemo")
        training.command = [f"{short}20" if word.startswith(short) else word for word in training.command]
        report = training.run()
    assert report["resumed"] == [2] and [row["step"] for row in report["validation"]] == [2, 3]
    assert all(row["val_wer"]["quickstart_dev"] > 0 for row in report["validation"])


def kill_second_rank(training, process, *, after):
    """Kill it once ``after`` holds, and wait for the end of the training."""
    deadline = time.monotonic() + 120

    def second():
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [pid for pid in children if b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes()]

    while not (second() and after()):
        assert time.monotonic() < deadline and process.poll() is None, training.log.read_text()
        time.sleep(0.05)
    os.kill(int(second()[0]), signal.SIGKILL)
    process.communicate(timeout=60)
    said = training.log.read_text()
    assert process.returncode == 143
    assert said.count("a process of this training has died, of memory perhaps") == 1
    assert "Traceback" not in said
    assert not (training.folder / "train.json").exists()


@pytest.mark.parametrize("moment", ["before its imports", "before ranks have met"])
def test_a_training_tells_of_a_rank_that_dies_before_the_ranks_have_met(finished, tmp_path, moment):
    training = Training(finished, "finetune_from_cutset", tmp_path)
    log = training.log.with_suffix(".rank1.log")  # a rank names its device when it has read its model
    has_model = moment == "before ranks have met"
    kill_second_rank(
        training, training.start(), after=lambda: not has_model or (log.exists() and "device" in log.read_text())
    )


def test_a_rank_that_is_killed_ends_the_job_and_the_next_goes_on(finished, tmp_path):
    training = Training(finished, "finetune_from_cutset", tmp_path, max_steps=30)
    process = training.start()
    kill_second_rank(training, process, after=lambda: training.log.exists() and "step 3/30" in training.log.read_text())
    report = training.run()
    assert report["resumed"] and report["resumed"][0] >= 2, "the line of a step comes before its checkpoint"
    assert [row["step"] for row in report["train"]] == list(range(1, 31))
    undisturbed = Training(finished, "finetune_from_cutset", tmp_path / "again", max_steps=30).run()
    assert report["train"] == undisturbed["train"]
    assert not re.search("Traceback", training.log.read_text())


def test_devices_that_are_told_to_end_while_they_validate_lose_no_step(finished, tmp_path):
    def training(name):
        made = Training(finished, "finetune_from_cutset", tmp_path / name, max_steps=6, val_check_interval=3)
        never = made.command.index("--every-n-steps")
        del made.command[never : never + 2]  # only the signal has it save
        short = "model.validation_ds.batch_duration="
        made.command = [f"{short}5" if word.startswith(short) else word for word in made.command]
        return made

    broken, deadline = training("broken"), time.monotonic() + 120
    process = broken.start()
    while not (broken.log.exists() and "step 3/6" in broken.log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    said = broken.log.read_text()
    assert "step 3/6  val_wer" not in said and "Traceback" not in said
    report, undisturbed = broken.run(), training("undisturbed").run()
    assert report["resumed"] == [3]
    assert [row["step"] for row in report["validation"]] == [3, 6]
    for key in ("train", "validation", "best", "model_sha256"):
        assert report[key] == undisturbed[key]
