"""Faults at random moments: the next run converges. All of them: `make drills`; here one of each kind of job."""

import random
import shutil
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "drills"))
from drills import FAULTS, run_drill
from faults import can_mount

pytestmark = pytest.mark.slow

BY_NAME = {fault.name: fault for fault in FAULTS}
TEST = ("--configfile", "config/test.yaml")
SPLITS = [("quickstart", split) for split in ("train", "dev", "test")]
SPLITS += [("quickstart_yesno", split) for split in ("train", "test")]


@pytest.fixture(scope="module")
def reference(finished, tmp_path_factory):
    """A complete run with the manifests of all splits."""
    folder = tmp_path_factory.mktemp("reference")
    shutil.copytree(finished.folder, folder, dirs_exist_ok=True, symlinks=True)
    finished.of(folder).snakemake("manifests", "shards", "bins", *TEST)
    return folder


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("prepare_manifests", "power cut"),
        ("select_utterances", "kill -9 of the job"),
        ("tar_shards", "kill -9 of Snakemake"),
        ("tar_shards", "Ctrl-C"),
        ("finetune_model", "power cut"),
        ("transcribe", "SIGTERM to the job"),
        ("tar_shards", "kill -9 of a worker"),
        ("prepare_manifests", "disk full"),
        ("tar_shards", "disk full"),
        ("select_utterances", "disk turned read-only"),
        ("prepare_manifests", "file cut short"),
        ("build_cutset", "file cut short"),
        ("count_durations", "dead link"),
        ("tar_shards", "clock jump"),
        ("tar_shards", "corpus changes"),
        ("download_archive", "mirror cuts the line"),
        ("download_archive", "mirror gives wrong bytes"),
    ],
)
def test_a_broken_run_is_put_right_by_the_next_one(reference, rule, fault):
    if BY_NAME[fault].mounts and not can_mount():
        pytest.skip("only root can mount a disk of its own")
    assert run_drill(reference, rule, BY_NAME[fault], random.Random(f"{rule} {fault}")).lost == ""


def test_an_edit_whose_first_job_failed_still_reaches_the_results(reference, finished, tmp_path):
    """Snakemake by itself need not ask again for what the failed jobs were to make."""
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True, symlinks=True)
    checkout = finished.of(tmp_path)
    command = tmp_path / "scripts" / "select_utterances.py"
    edited = command.read_text() + "# an edit\n"
    command.write_text(edited + "raise SystemExit('no memory')\n")
    assert checkout.snakemake(*TEST, check=False).returncode != 0
    gone = [f"{corpus}_selection_{split}.json" for corpus, split in SPLITS]
    gone = [name for name in gone if not (tmp_path / "data/manifests" / name).exists()]
    assert gone, "Snakemake removes what failed"
    command.write_text(edited)
    again = {job for job in checkout.scheduled(*TEST) if job.startswith("select_utterances")}
    assert again == {f"select_utterances corpus={corpus}, split={split}" for corpus, split in SPLITS}
    one_file = checkout.snakemake("--dry-run", "results/finetune_from_cutset/train.json", *TEST).stdout
    assert "files are missing that an earlier run was to make, such as data/manifests/quickstart_" in one_file
    assert "WARNING" not in finished.snakemake("--dry-run", "results/finetune_from_cutset/train.json", *TEST).stdout
