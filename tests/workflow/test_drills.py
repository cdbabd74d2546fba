"""Faults at random moments: the next run converges. All of them: `make drills`; here one of each kind of job."""

import random
import shutil
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "drills"))
from drills import FAULTS, fingerprints, run_drill

pytestmark = pytest.mark.slow

BY_NAME = {fault.name: fault for fault in FAULTS}
TEST = ("--configfile", "config/test.yaml")
SPLITS = [("quickstart", split) for split in ("train", "dev", "test")]
SPLITS += [("quickstart_yesno", split) for split in ("train", "test")]


@pytest.fixture(scope="module")
def reference(finished, tmp_path_factory):
    """A complete run with the manifests of all splits, and its fingerprints."""
    folder = tmp_path_factory.mktemp("reference")
    shutil.copytree(finished.folder, folder, dirs_exist_ok=True, symlinks=True)
    finished.of(folder).snakemake("manifests", "shards", "bins", *TEST)
    return folder, fingerprints(folder)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("prepare_manifests", "power cut"),
        ("select_utterances", "kill -9 of the job"),
        ("tar_shards", "kill -9 of Snakemake"),
        ("tar_shards", "Ctrl-C"),
        ("finetune_model", "power cut"),
        ("transcribe", "SIGTERM to the job"),
    ],
)
def test_a_broken_run_is_put_right_by_the_next_one(reference, rule, fault):
    folder, wanted = reference
    assert run_drill(folder, wanted, rule, BY_NAME[fault], random.Random(f"{rule} {fault}")).lost == ""


def test_an_edit_whose_first_job_failed_still_reaches_the_results(reference, finished, tmp_path):
    """Snakemake by itself need not ask again for what the failed jobs were to make."""
    folder, _ = reference
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, symlinks=True)
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
