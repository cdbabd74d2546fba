"""A run of the workflow that is broken on purpose: started, watched, put right and compared with an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "workflow"))
from conftest import Checkout  # noqa: E402

CONFIG = ("config/test.yaml",)
OVERLAY = "config/drill.yaml"
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
# A corpus of the user's own, copied from another one; an experiment makes its splits wanted.
OWN_FOLDER = "mine"
OWN_CORPUS = {
    "corpora": {
        "mine": {"audio_folder": {"folder": OWN_FOLDER}, "splits": {"train": "all"}, "language": "en", "text": ["lower"], "num_shards": 2}
    },
    "experiments": {"mine": {"layout": "tarred", "train": [{"corpus": "mine", "split": "train"}]}},
}  # fmt: skip
OWN_TARGETS = (
    "data/manifests/mine_audio_train.jsonl.gz",
    "data/manifests/mine_durations_train.npz",
    "data/shards/mine_train/ledger.json",
)
# The command of a rule, where its name is another one.
SCRIPTS = {"download_archive": "download.py", "extract_archives": "extract.py", "finetune_model": "finetune.py"}
# What a job would not do again: it is removed, so that the job has work to be broken in.
SAVES_WORK = {
    "check_audio": "data/audio_checks/*/cache",
    "tar_shards": "data/shards/*/ledger/shards",
    "finetune_model": "results/*/training",
}
# Nothing of a job, of Snakemake or of a fault lasts longer; what does is a hang.
PATIENCE_S = 300
# How many messages a user follows before the patience is gone, too: a damaged file may be several steps away.
REMEDIES = 4


class Lost(Exception):
    """Why a drill was lost."""


class Run:
    """A copy of a complete run, in which one rule runs once more and is broken.

    Attributes:
        rule: the rule.
        chance: for the moments and the places.
        seconds: how long its longest job takes.
        targets: what is asked for.
        options: with what else, until it has ended well once.
        folder: of the copy.
        settings: what a fault added to the configuration and makes other results, YAML.
        wanted: the fingerprints that it must have in the end, if not those of an undisturbed run with these settings.
        shown: what the terminal showed of the broken run.
        failed: whether that failed.
        note: what was broken, where there is a choice.
        cleanup: what is undone when the drill is over.
    """

    def __init__(self, reference: Path, rule: str, chance: random.Random) -> None:
        self.rule, self.chance, self.seconds = rule, chance, job_seconds(reference, rule)
        self.targets = TARGETS[rule]
        self.options: tuple[str, ...] = ()
        self.folder = Path(tempfile.mkdtemp(prefix="nuptse-drill-"))
        shutil.copytree(reference, self.folder, dirs_exist_ok=True, symlinks=True)
        self.checkout = Checkout.of(self.folder)
        self._configfiles, self.settings = list(CONFIG), ""
        self.wanted: dict[str, str] | None = None
        self.shown, self.failed, self.note = "", False, ""
        self.cleanup = ExitStack()

    def configure(self, settings: dict[str, Any], *, same_results: bool) -> None:
        """Add settings to the configuration of all that follows."""
        content = yaml.safe_dump(settings)
        (self.folder / OVERLAY).write_text(content)
        self._configfiles.append(OVERLAY)
        self.settings = "" if same_results else content

    def add_own_corpus(self) -> Path:
        """Add a corpus of the user's own, make its data, and ask for no other; return its folder."""
        own = self.folder / OWN_FOLDER
        own.mkdir()
        for transcripts in sorted(self.folder.glob("data/raw/quickstart/LibriSpeech/dev-clean-2/*/*/*.trans.txt")):
            utterance, _, text = transcripts.read_text().splitlines()[0].partition(" ")
            shutil.copyfile(transcripts.with_name(f"{utterance}.flac"), own / f"{utterance}.flac")
            (own / f"{utterance}.txt").write_text(f"{text}\n")
        self.configure(OWN_CORPUS, same_results=True)
        self.checkout.snakemake(*DATA, *self._configuration())
        self.targets = OWN_TARGETS
        return own

    def as_if_undisturbed(self, change: Callable[[Path], object]) -> dict[str, str]:
        """Return what the folder is like after such a change, and a run that begins only then."""
        with tempfile.TemporaryDirectory(prefix="nuptse-reference-") as folder:
            shutil.copytree(self.folder, folder, dirs_exist_ok=True, symlinks=True)
            change(Path(folder))
            Checkout.of(Path(folder)).snakemake(*DATA, *self._configuration())
            return fingerprints(Path(folder))

    # --- the broken run ---

    def command(self) -> tuple[str, ...]:
        return (*self.targets, *self._configuration())

    def _configuration(self) -> tuple[str, ...]:
        return ("--configfile", *self._configfiles)

    @contextmanager
    def at_work(self, *options: str) -> Iterator[tuple[psutil.Process, psutil.Process]]:
        """Run the rule again, and give Snakemake and a job of the rule; then wait for the end.

        Raises:
            Lost: there is no job, or no end.
        """
        for folder in self.folder.glob(SAVES_WORK.get(self.rule, "-")):
            shutil.rmtree(folder)
        log = self.folder / "drill.log"
        with log.open("w") as file:
            command = self.checkout.command(*self.command(), "--forcerun", self.rule, *options)
            started = subprocess.Popen(
                command, cwd=self.folder, env=self.checkout.environment, stdout=file, stderr=file, start_new_session=True
            )  # fmt: skip
        try:
            driver = psutil.Process(started.pid)
            job = job_of(driver, SCRIPTS.get(self.rule, f"{self.rule}.py"))
            if job is None:
                raise Lost("no job of the rule was seen")
            yield driver, job
            started.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Lost("Snakemake hangs after the fault") from None
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
            self.shown, self.failed = log.read_text(errors="replace"), started.returncode != 0

    def wait_a_moment(self) -> None:
        time.sleep(self.chance.uniform(0, self.seconds))

    # --- what follows ---

    def go_on(self) -> None:
        """Give the command once more, as a user would who does not yet know of the fault."""
        run = self.checkout.snakemake(*self.command(), *self.options, check=False)
        self.shown, self.failed = run.stdout, run.returncode != 0

    def put_right(self) -> None:
        """Give the command once more, and do what the messages say.

        Raises:
            Lost: it does not end well.
        """
        command = self.command()
        for _ in range(REMEDIES):
            run = self.checkout.snakemake(*command, *self.options, check=False)
            if "Traceback" in run.stdout:
                raise Lost("the next run shows a traceback")
            if run.returncode == 0:
                break
            if "LockException" in run.stdout:
                self.checkout.snakemake(*command, "--unlock")
            elif not self._follow(run.stdout):
                raise Lost(f"the next run fails: {' '.join(messages(run.stdout))}")
        else:
            raise Lost(f"the remedies do not help: {' '.join(messages(run.stdout))}")
        if jobs := self.checkout.scheduled(*command):
            raise Lost(f"a further run still has something to do: {', '.join(sorted(jobs)[:3])}")

    def _follow(self, shown: str) -> bool:
        """Delete what the messages say; return whether they said anything."""
        found = False
        for name in re.findall(r"delete ((?:data|results)/[^\s,;]+)", shown):
            path = self.folder / name
            if os.path.lexists(path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                found = True
        return found


def messages(shown: str) -> list[str]:
    """Return our messages, one line each."""
    return list(dict.fromkeys(re.findall(r"^\s*(ERROR: .*|.* is a link to .*)$", shown, re.MULTILINE)))


def job_of(driver: psutil.Process, script: str) -> psutil.Process | None:
    """Wait for a process of the command, and return it; None if Snakemake ends without one."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and is_at_work(driver):
        with suppress(psutil.NoSuchProcess):
            for child in driver.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    words = child.cmdline()
                    if len(words) > 1 and "python" in Path(words[0]).name and words[1].endswith(f"scripts/{script}"):
                        return child
        time.sleep(0.005)
    return None


def is_at_work(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def job_seconds(reference: Path, rule: str) -> float:
    """Return how long the longest job of the rule took."""
    tables = (reference / "benchmarks" / rule).rglob("*.tsv")
    return max(float(table.read_text().splitlines()[1].split("\t")[0]) for table in tables)


# --- what must be the same in the end ---

# Where times of files and of jobs stand, and what only saves work.
SKIPPED = ("/cache/", "/ledger/shards/", "data/downloads/.locks/", ".snakemake_timestamp")

# What a group of shards has lost so far: history, not data.
_LOSSES = re.compile(rb'"repairs": \[[^]]*\]')


def fingerprints(folder: Path) -> dict[str, str]:
    """Return the checksum of all data, of every model and of the error rates, by path; unfinished files included."""
    found = {}
    for path in sorted((folder / "data").rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not any(part in name for part in SKIPPED):
            content = _LOSSES.sub(b"", path.read_bytes()) if "/ledger/" in name else path.read_bytes()
            found[name] = hashlib.sha256(content).hexdigest()
    for path in sorted((folder / "results").glob("*/train.json")):
        report = json.loads(path.read_text())
        found[f"{path.parent.name}: model"] = report["model_sha256"]
        found[f"{path.parent.name}: losses"] = str([row["loss"] for row in report["train"]])
    table = (folder / "results/wer.tsv").read_text().splitlines()
    found["wer.tsv"] = "\n".join("\t".join(line.split("\t")[:16]) for line in table)  # without times
    return found


def differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return f"{len(names)} files differ, such as {', '.join(names[:3])}" if names else ""


def make_reference(folder: Path) -> None:
    """Make a complete run."""
    checkout = Checkout(folder)
    checkout.snakemake("all", *DATA, "--configfile", *CONFIG)
    if left := checkout.scheduled("--configfile", *CONFIG):
        raise SystemExit(f"the reference is not up to date with itself: {left}")


@cache
def undisturbed(reference: Path, rule: str, settings: str = "") -> dict[str, str]:
    """Return the fingerprints of a run that nothing broke, with these settings beside the usual ones."""
    if not settings:
        return fingerprints(reference)
    with tempfile.TemporaryDirectory(prefix="nuptse-reference-") as folder:
        shutil.copytree(reference, folder, dirs_exist_ok=True, symlinks=True)
        Path(folder, OVERLAY).write_text(settings)
        Checkout.of(Path(folder)).snakemake(*TARGETS[rule], "--configfile", *CONFIG, OVERLAY)
        return fingerprints(Path(folder))
