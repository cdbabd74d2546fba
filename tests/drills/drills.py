"""Break the workflow on purpose, at random moments, and see that the next run puts everything right.

    make drills                            # every fault in every rule, once
    make drills ARGS="--rules tar_shards finetune_model --rounds 5 --seed 7"

A complete run of config/test.yaml is the reference. Each drill copies it, runs one rule again, injects one fault while its
job is at work, and then gives the same command once more, after `--unlock` where Snakemake asks for it. It has survived if
that command ends well, and all data and every model are the same bytes as in the reference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "workflow"))
from conftest import Checkout  # noqa: E402

TEST = ("--configfile", "config/test.yaml")
DATA = ("manifests", "shards", "bins")
TRAINING = ("results/finetune_from_nemo_tarred/train.json",)
RESULTS = ("evaluate", "report", "model_cards")
# What is asked for, by rule: as little as shows that the rule's work arrives.
TARGETS = {
    **dict.fromkeys(
        ("download_archive", "extract_archives", "prepare_manifests", "select_utterances", "check_audio", "build_cutset"), DATA
    ),
    **dict.fromkeys(
        ("export_nemo_manifest", "plan_shards", "tar_shards", "index_shards", "count_durations", "estimate_duration_bins"), DATA
    ),
    "download_model": ("data/models/quickstart_base.nemo",),
    "examine_experiment": TRAINING,
    "finetune_model": TRAINING,
    **dict.fromkeys(("transcribe", "score_wer", "summarize_wer", "write_model_card", "write_report"), RESULTS),
}  # fmt: skip
# The command of a rule, where its name is another one.
SCRIPTS = {
    "download_archive": "download.py",
    "extract_archives": "extract.py",
    "finetune_model": "finetune.py",
    "score_wer": "score_wer.py",
}
# Nothing of a job, of Snakemake or of a fault lasts longer; what does is a hang.
PATIENCE_S = 300


# --- what must be the same in the end ---

# Where times of files and of jobs stand, and what only saves work.
SKIPPED = ("/cache/", "/ledger/shards/", "data/downloads/.locks/", ".snakemake_timestamp")


def fingerprints(folder: Path) -> dict[str, str]:
    """Return the checksum of all data, of every model and of the error rates, by path; unfinished files included."""
    found = {}
    for path in sorted((folder / "data").rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not any(part in name for part in SKIPPED):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted((folder / "results").glob("*/train.json")):
        report = json.loads(path.read_text())
        found[f"{path.parent.name}: model"] = report["model_sha256"]
        found[f"{path.parent.name}: losses"] = str([row["loss"] for row in report["train"]])
    table = (folder / "results/wer.tsv").read_text().splitlines()
    found["wer.tsv"] = "\n".join("\t".join(line.split("\t")[:16]) for line in table)  # without times
    return found


# --- faults ---


@dataclass(frozen=True)
class Fault:
    """What is done to a run while a job of the rule is at work.

    Attributes:
        name: for the table.
        inject: gets the process of Snakemake and that of the job, which may have ended.
    """

    name: str
    inject: Callable[[psutil.Process, psutil.Process], None]


def _signal(who: Callable[[psutil.Process, psutil.Process], list[psutil.Process]], number: int) -> Callable[..., None]:
    def inject(driver: psutil.Process, job: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in who(driver, job):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    return inject


FAULTS = [
    Fault("kill -9 of the job", _signal(lambda driver, job: [job], signal.SIGKILL)),
    Fault("SIGTERM to the job", _signal(lambda driver, job: [job], signal.SIGTERM)),
    Fault("kill -9 of Snakemake", _signal(lambda driver, job: [driver], signal.SIGKILL)),
    Fault("Ctrl-C", _signal(lambda driver, job: [driver, *driver.children(recursive=True)], signal.SIGINT)),
    Fault("power cut", _signal(lambda driver, job: [driver, *driver.children(recursive=True), job], signal.SIGKILL)),
]


# --- a drill ---


@dataclass(frozen=True)
class Outcome:
    """How a drill went: whether the fault met a job at work, and why it was lost, if it was."""

    hit: bool
    lost: str = ""


def job_of(driver: psutil.Process, script: str, deadline: float) -> psutil.Process | None:
    """Wait for a process of the command, and return it; None if Snakemake ends without one."""
    while time.monotonic() < deadline:
        try:
            if not is_at_work(driver):
                return None
            for child in driver.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    words = child.cmdline()
                    if len(words) > 1 and "python" in Path(words[0]).name and words[1].endswith(f"scripts/{script}"):
                        return child
        except psutil.NoSuchProcess:
            return None
        time.sleep(0.005)
    return None


def is_at_work(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_drill(reference: Path, wanted: dict[str, str], rule: str, fault: Fault, chance: random.Random) -> Outcome:
    """Break one run of one rule, run again, and compare; the folder is removed if all is well."""
    folder = Path(tempfile.mkdtemp(prefix="nuptse-drill-"))
    shutil.copytree(reference, folder, dirs_exist_ok=True, symlinks=True)
    checkout = Checkout.of(folder)
    seconds = job_seconds(reference, rule)
    with (folder / "drill.log").open("w") as log:
        broken = subprocess.Popen(
            checkout.command(*TARGETS[rule], *TEST, "--forcerun", rule),
            cwd=folder, env=checkout.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        driver = psutil.Process(broken.pid)
        job = job_of(driver, SCRIPTS.get(rule, f"{rule}.py"), time.monotonic() + PATIENCE_S)
        if job is None:
            broken.wait()
            return Outcome(False, "no job of the rule was seen")
        time.sleep(chance.uniform(0, seconds))
        hit = is_at_work(job)
        fault.inject(driver, job)
        try:
            broken.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(broken.pid, signal.SIGKILL)
            return Outcome(hit, "Snakemake hangs after the fault")
    lost = put_right(checkout, rule) or differences(wanted, fingerprints(folder))
    if lost:
        return Outcome(hit, f"{lost}; see {folder}")
    shutil.rmtree(folder)
    return Outcome(hit)


def put_right(checkout: Checkout, rule: str) -> str:
    """Give the command again, as a user would; return what is wrong if it does not end well."""
    command = (*TARGETS[rule], *TEST)
    run = checkout.snakemake(*command, check=False)
    if "LockException" in run.stdout:
        checkout.snakemake(*command, "--unlock")
        run = checkout.snakemake(*command, check=False)
    if "Traceback" in run.stdout:
        return "the next run shows a traceback"
    if run.returncode:
        return "the next run fails"
    if checkout.scheduled(*command):
        return "a further run still has something to do"
    return ""


def differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return f"{len(names)} files differ, such as {', '.join(names[:3])}" if names else ""


def job_seconds(reference: Path, rule: str) -> float:
    """Return how long the longest job of the rule took."""
    tables = (reference / "benchmarks" / rule).rglob("*.tsv")
    return max(float(table.read_text().splitlines()[1].split("\t")[0]) for table in tables)


def make_reference(folder: Path) -> dict[str, str]:
    """Make a complete run, and return its fingerprints."""
    checkout = Checkout(folder)
    checkout.snakemake("all", *DATA, *TEST)
    if left := checkout.scheduled(*TEST):
        raise SystemExit(f"the reference is not up to date with itself: {left}")
    return fingerprints(folder)


def drills(
    reference: Path, wanted: dict[str, str], rules: list[str], rounds: int, seed: int
) -> Iterator[tuple[str, Fault, Outcome]]:
    """Yield the outcome of every fault in every rule, ``rounds`` times, each at another moment."""
    for number in range(rounds):
        for rule in rules:
            for fault in FAULTS:
                chance = random.Random(f"{seed} {number} {rule} {fault.name}")
                yield rule, fault, run_drill(reference, wanted, rule, fault, chance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="RULE")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--reference", type=Path, help="folder of a complete run of config/test.yaml, if there is one")
    args = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="nuptse-reference-") as folder:
        reference = args.reference or Path(folder)
        wanted = fingerprints(reference) if args.reference else make_reference(reference)
        for rule, fault, outcome in drills(reference, wanted, args.rules, args.rounds, args.seed):
            counts.setdefault(rule, Counter()).update(
                {"injected": 1, "at work": outcome.hit, "survived": not outcome.lost, "lost": bool(outcome.lost)}
            )
            late = "" if outcome.hit else " (the job had ended)"
            print(f"{rule}: {fault.name}: {outcome.lost or 'survived'}{late}", flush=True)
    print("\n| rule | injected | while at work | survived | lost |\n|---|---:|---:|---:|---:|")
    for rule, count in counts.items():
        print(f"| `{rule}` | {count['injected']} | {count['at work']} | {count['survived']} | {count['lost']} |")
    total = sum(counts.values(), Counter())
    print(f"| all | {total['injected']} | {total['at work']} | {total['survived']} | {total['lost']} |")
    sys.exit(bool(total["lost"]))


if __name__ == "__main__":
    main()
