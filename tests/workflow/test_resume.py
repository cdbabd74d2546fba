"""A training that dies and goes on gives the same batches, losses and model as one that was never disturbed."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from nuptse.plan import Plan

pytestmark = pytest.mark.slow


def kept(folder):
    """The names of what a run leaves to go on from."""
    return {path.name for path in folder.glob("training/*")}


class Killed(BaseException):
    """Stands for the death of the process right after a checkpoint: nothing else is written any more."""


class Runs:
    """Fine-tunes of 7 steps on the data of a finished run, in small epochs."""

    def __init__(self, checkout, experiment, num_workers, folder, monkeypatch):
        from nuptse.runtime import prepare_runtime

        prepare_runtime()
        from nuptse import training

        self.training, self.folder, self.monkeypatch = training, folder, monkeypatch
        config = yaml.safe_load((checkout.folder / "config/config.yaml").read_text())
        settings = config["experiments"][experiment]
        settings["train_ds"] = {"num_workers": num_workers, "batch_duration": 200, "quadratic_duration": None}
        settings["train_ds"]["perturb_speed"] = False  # or seven steps would be less than an epoch
        settings["trainer"] = {"max_steps": 7, "val_check_interval": 3, "log_every_n_steps": 1}
        if settings["layout"] == "tarred":
            settings["trainer"]["limit_train_batches"] = 4
        schema = yaml.safe_load((checkout.folder / "config/schema.yaml").read_text())
        monkeypatch.chdir(checkout.folder)
        plan = Plan(config, schema, checkout.folder)
        self.job = {
            "experiment": "x",
            "base": Path(plan.base_model(experiment)),
            "bins": Path(f"results/{experiment}/duration_bins.json"),
            "train": [Path(path) for path in plan.training_data(experiment)],
            "validation": [Path(path) for path in plan.validation_data(experiment)],
            "options": plan.overrides(experiment),
            "threads": 1,
            "every_n_steps": 1,
        }

    def options(self, max_steps):
        """The options of a run of another length: as of a configuration that differs in `max_steps` only."""
        text = "\n".join(self.job["options"])
        text = re.sub(r"(\w*\.max_steps)=7\b", rf"\1={max_steps}", text)
        return text.split("\n")

    def run(self, name, until=None, after="last", **changes):
        """Train to the end, or die after the checkpoint of step `until`; return the report."""
        save = self.training.RunFolder.save

        def save_and_die(run, trainer, kind, position):
            save(run, trainer, kind, position)
            if kind == after and trainer.global_step == until:
                raise Killed

        with self.monkeypatch.context() as patch:
            patch.setattr(self.training.RunFolder, "save", save_and_die)
            job = self.training.Job(**self.job | {"output_dir": self.folder / name} | changes)
            if until is None:
                return self.training.finetune(job)
            with pytest.raises(Killed):
                self.training.finetune(job)
            return None


@pytest.mark.parametrize(
    ("experiment", "num_workers", "breaks"),
    [
        ("finetune_from_cutset", 0, [2, 5]),  # an epoch ends at step 4 or so
        ("finetune_from_nemo_json", 2, [3]),
        ("finetune_from_nemo_tarred", 2, [3, 5]),  # 3: the turn of the second worker; 4: a pseudo-epoch ends
        ("finetune_from_nemo_multidataset", 0, [4]),
    ],
)
def test_a_broken_run_equals_an_undisturbed_one(finished, tmp_path, monkeypatch, experiment, num_workers, breaks):
    runs = Runs(finished, experiment, num_workers, tmp_path, monkeypatch)
    undisturbed = runs.run("undisturbed")
    for step in breaks:
        runs.run("broken", until=step)
    started = time.monotonic()
    broken = runs.run("broken")
    assert broken["seconds"] > time.monotonic() - started, "what came before is counted"
    assert broken["resumed"] == breaks
    assert undisturbed["resumed"] == []
    assert broken["train"] == undisturbed["train"]
    assert [row["step"] for row in broken["train"]] == [1, 2, 3, 4, 5, 6, 7]
    assert broken["validation"] == undisturbed["validation"]
    assert [row["step"] for row in broken["validation"]] == [3, 6, 7]
    assert broken["model_sha256"] == undisturbed["model_sha256"]
    assert kept(tmp_path / "broken") == {"ledger.json", "history.json", "tensorboard", "last-00000007.ckpt"} | {
        f"best-{broken['best']['step']:08}.ckpt"
    }
    best, last = (tmp_path / f"broken/checkpoints/{name}.ckpt" for name in ("best", "last"))
    steps = {best: broken["best"]["step"], last: 7}
    for published, step in steps.items():
        of_the_run = tmp_path / f"broken/training/{published.stem}-{step:08}.ckpt"
        assert published.samefile(of_the_run), "a second name of the same file takes no room"
    assert best.samefile(last) == (steps[best] == steps[last]), "nor does it where the last step is the best"


@pytest.mark.parametrize(
    ("experiment", "until"),
    [("finetune_from_cutset", None), ("finetune_from_nemo_tarred", None), ("finetune_from_nemo_multidataset", 3)],
)
def test_a_run_that_gets_more_steps_goes_on(finished, tmp_path, monkeypatch, capsys, experiment, until):
    """From the step where it stood, on the batches and by the learning rate that a run of the new length has there."""
    runs = Runs(finished, experiment, 0, tmp_path, monkeypatch)
    undisturbed = runs.run("undisturbed")
    short = runs.run("longer", until=until, options=runs.options(max_steps=4))
    if short:
        for published in (tmp_path / "longer/checkpoints").iterdir():
            published.unlink()  # as Snakemake does before it starts a job anew
    runs.run("longer", until=6)
    longer = runs.run("longer")
    assert "longer/training: to make 7 steps instead of 4" in capsys.readouterr().out
    made = until or 4
    assert (longer["lengthened"], longer["resumed"], longer["global_step"]) == ([4], [made, 6], 7)
    seen = [[{**row, "loss": 0, "lr": 0} for row in report["train"]] for report in (longer, undisturbed)]
    assert seen[0] == seen[1]
    rates = [[row["lr"] for row in report["train"]] for report in (longer, undisturbed)]
    assert rates[0][made:] == rates[1][made:]
    assert rates[0][:made] != rates[1][:made]
    assert [row["step"] for row in longer["validation"]] == ([3, 6, 7] if until else [3, 4, 6, 7])
    if short:
        assert longer["train"][:4] == short["train"]
        assert longer["best"]["val_wer"] <= short["best"]["val_wer"]


def test_fewer_steps_start_anew_and_say_why(finished, tmp_path, monkeypatch, capsys):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    runs.run("broken", until=5)
    report = runs.run("broken", options=runs.options(max_steps=3))
    assert (report["resumed"], report["global_step"]) == ([], 3)
    assert "the run there is of 7 steps, more than the 3 that are wanted now; starting anew" in capsys.readouterr().out


def test_a_finished_run_is_published_again_and_not_trained_again(finished, tmp_path, monkeypatch, capsys):
    """As when Snakemake was killed and its job was not, so that the job is started a second time."""
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    options = runs.options(max_steps=3)
    first = runs.run("x", options=options)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "x/training").glob("*.ckpt")}
    (tmp_path / "x/train.json").unlink()
    for published in (tmp_path / "x/checkpoints").iterdir():
        published.unlink()
    capsys.readouterr()
    again = runs.run("x", options=options)
    folder = tmp_path / "x/training"
    told = capsys.readouterr().out
    assert f"all 3 steps are made; to train from the start, delete {folder} and run again" in told
    assert "step 3/3" not in told, "nothing is trained or validated again"
    differ = {key for key in first if first[key] != again[key]}
    assert differ <= {"memory"}, "nor did it take longer, or less"
    assert written == {path: path.stat().st_mtime_ns for path in folder.glob("*.ckpt")}
    assert (tmp_path / "x/checkpoints/last.ckpt").exists()
    shutil.rmtree(folder)
    afresh = runs.run("x", options=options)
    assert "step 3/3  loss" in capsys.readouterr().out, "it is trained"
    assert (afresh["train"], afresh["model_sha256"]) == (first["train"], first["model_sha256"])


def test_a_run_that_was_killed_before_it_published_goes_on_there(finished, tmp_path, monkeypatch):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    undisturbed = runs.run("undisturbed")
    runs.run("broken", until=7)
    broken = runs.run("broken")
    assert broken["resumed"] == [7]
    for key in ("train", "validation", "best", "model_sha256"):
        assert broken[key] == undisturbed[key]


def test_a_longer_run_whose_last_checkpoint_was_lost_has_one_history(finished, tmp_path, monkeypatch):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    undisturbed = runs.run("undisturbed")
    runs.run("longer", options=runs.options(max_steps=4))
    for checkpoint in (tmp_path / "longer/training").glob("*.ckpt"):
        checkpoint.unlink()
    longer = runs.run("longer")
    for key in ("train", "validation", "model_sha256"):
        assert longer[key] == undisturbed[key]


def test_other_samples_in_the_same_manifest_start_anew(finished, tmp_path, monkeypatch, capsys):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    options = runs.options(max_steps=2)
    runs.run("x", options=options, audio={"quickstart/train": "1"})
    runs.run("x", options=options, audio={"quickstart/train": "2"})
    assert "the run there is of other audio; starting anew" in capsys.readouterr().out


def test_two_processes_never_train_in_one_folder(finished, tmp_path, monkeypatch):
    from nuptse.errors import UserError
    from nuptse.folder_lock import folder_lock

    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    impatient = functools.partial(folder_lock, patience_s=0.1)
    monkeypatch.setattr(runs.training, "folder_lock", impatient)
    with (
        folder_lock(tmp_path / "held"),
        pytest.raises(UserError, match=f"held is in the hands of process {os.getpid()}"),
    ):
        runs.run("held")
    assert not kept(tmp_path / "held")


@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("mount"), reason="a disk of its own that can be filled wants root"
)
def test_a_full_disk_leaves_the_checkpoint_before(finished, tmp_path, monkeypatch):
    from nuptse.errors import UserError

    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", disk]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this container may not mount a disk")
    try:
        runs.run("disk/x", until=2)
        ballast = disk / "ballast"
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(bytes(free - 1_000_000))
        with pytest.raises(
            UserError, match=r"last-00000003.ckpt: the disk or your quota is full .* run again to go on"
        ):
            runs.run("disk/x")
        assert {name for name in kept(disk / "x") if name.endswith("ckpt")} == {
            f"last-0000000{step}.ckpt" for step in (1, 2)
        }
        ballast.unlink()
        assert runs.run("disk/x")["resumed"] == [2, 2]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_damaged_checkpoint_is_passed_over(finished, tmp_path, monkeypatch, capsys):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    runs.run("broken", until=4)
    newest = tmp_path / "broken/training/last-00000004.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert {path.name for path in newest.parent.glob("last-*")} == {"last-00000003.ckpt", newest.name}
    report = runs.run("broken")
    assert report["resumed"] == [3]
    assert f"{newest} is damaged or gone; taking an older checkpoint" in capsys.readouterr().out
    assert [row["step"] for row in report["train"]] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("moment", ["on_validation_start", "on_validation_end"])
def test_what_is_told_to_end_while_it_validates_loses_no_step(finished, tmp_path, monkeypatch, moment):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    runs.job["every_n_steps"] = None  # so that only the signal has it save
    undisturbed = runs.run("undisturbed")
    with monkeypatch.context() as patch:
        react = getattr(runs.training.History, moment)

        def react_and_be_told(history, trainer, model):
            react(history, trainer, model)
            os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(runs.training.History, moment, react_and_be_told)
        for _ in range(2):  # the second time in the same validation, which is made once more
            with pytest.raises(SystemExit):
                runs.run("broken")
    assert "last-00000003.ckpt" in kept(tmp_path / "broken")
    broken = runs.run("broken")
    assert broken["resumed"] == [3, 3]
    assert [row["step"] for row in broken["validation"]] == [3, 6, 7]
    for key in ("train", "validation", "best", "model_sha256"):
        assert broken[key] == undisturbed[key]


def test_the_best_checkpoint_is_one_to_go_on_from(finished, tmp_path, monkeypatch, capsys):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    undisturbed = runs.run("undisturbed")
    runs.run("broken", until=5)
    for checkpoint in (tmp_path / "broken/training").glob("last-*.ckpt"):
        checkpoint.unlink()
    broken = runs.run("broken")
    assert broken["resumed"] == [3], "where it validated for the first time"
    for key in ("train", "validation", "best", "model_sha256"):
        assert broken[key] == undisturbed[key]


def test_a_best_checkpoint_between_two_steps_is_none_to_go_on_from(finished, tmp_path, monkeypatch):
    """It lacks the gradient of the batch before the validation: the next step would be made without it."""
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    two = [option.replace("accumulate_grad_batches=1", "accumulate_grad_batches=2") for option in runs.options(3)]
    undisturbed = runs.run("undisturbed", options=two)
    assert [row["step"] for row in undisturbed["train"]][:4] == [0, 1, 1, 2], "validated after the third"
    runs.run("broken", until=1, after="best", options=two)
    broken = runs.run("broken", options=two)
    assert broken["resumed"] == [1]
    for key in ("train", "validation", "best", "model_sha256"):
        assert broken[key] == undisturbed[key]


def test_another_run_starts_anew_and_says_why(finished, tmp_path, monkeypatch, capsys):
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    runs.run("broken", until=2)
    options = [option.replace("optim.lr=0.004", "optim.lr=0.002") for option in runs.job["options"]]
    assert options != runs.job["options"]
    report = runs.run("broken", options=options)
    assert report["resumed"] == []
    assert "the run there is of other options; starting anew" in capsys.readouterr().out


def test_no_checkpoint_of_another_origin_is_loaded(finished, tmp_path, monkeypatch):
    """Unpickling runs code: a file that the run did not write is never opened, whatever its name."""
    runs = Runs(finished, "finetune_from_cutset", 0, tmp_path, monkeypatch)
    runs.run("broken", until=2)
    folder = tmp_path / "broken/training"
    (folder / "last-00000006.ckpt").write_bytes(b"not a checkpoint")
    (folder / "last-00000002.ckpt").write_bytes(b"not a checkpoint")
    assert runs.run("broken")["resumed"] == [1]
    ledger = json.loads((tmp_path / "broken/train.json").read_text())
    assert ledger["global_step"] == 7
