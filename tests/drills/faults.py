"""What may happen to a run. Every fault is a real one: signals, mounts, bytes on a disk or on a line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from mirror import Mirror, Spoiling, cut, refused, stalled, wrong
from runs import DATA, TARGETS, Run, is_at_work


@dataclass(frozen=True)
class Fault:
    """Something that happens to a run of a rule.

    Attributes:
        name: for the table.
        inject: runs the rule and breaks it; returns whether the fault met what it was meant for.
        rules: where it makes sense.
        says: what the user must be told if the broken run fails, without a traceback; empty where nobody can tell.
        mounts: whether it needs a disk of its own, which takes root.
    """

    name: str
    inject: Callable[[Run], bool]
    rules: tuple[str, ...] = tuple(TARGETS)
    says: str = ""
    mounts: bool = False


# --- processes ---

Processes = Callable[[psutil.Process, psutil.Process], list[psutil.Process]]


def _send(number: int, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _signal(who: Processes, number: int) -> Callable[[Run], bool]:
    def inject(run: Run) -> bool:
        with run.at_work() as (driver, job):
            run.wait_a_moment()
            hit = is_at_work(job)
            with suppress(psutil.NoSuchProcess):
                _send(number, who(driver, job))
        return hit

    return inject


def _with_family(driver: psutil.Process, job: psutil.Process) -> list[psutil.Process]:
    return [driver, *driver.children(recursive=True), job]


def _is_rank(process: psutil.Process) -> bool:
    return "LOCAL_RANK" in process.environ()


def _is_worker(process: psutil.Process) -> bool:
    # Python starts one anew, or forks it, with the words of the job; other children are short-lived programs.
    words = " ".join(process.cmdline())
    return "spawn_main" in words or ("scripts/" in words and not _is_rank(process))


def _kill_child(which: Callable[[psutil.Process], bool]) -> Callable[[Run], bool]:
    """Kill a process that the job started. Where a rule has none by itself, it is given two."""

    def inject(run: Run) -> bool:
        options = ("--set-threads", f"{run.rule}=2")
        if run.rule == "finetune_model":
            options = ()
            settings = {"trainer": {"devices": 2}, "train_ds": {"num_workers": 1}}
            run.configure({"experiments": {"finetune_from_nemo_tarred": settings}}, same_results=False)
        with run.at_work(*options) as (_, job):
            child = _wait_for_child(job, which)
            time.sleep(run.chance.uniform(0, run.seconds / 4))
            hit = child is not None and is_at_work(child)
            if child is not None:
                _send(signal.SIGKILL, [child])
        return hit

    return inject


def _wait_for_child(job: psutil.Process, which: Callable[[psutil.Process], bool]) -> psutil.Process | None:
    while is_at_work(job):
        with suppress(psutil.NoSuchProcess):
            if found := [child for child in job.children() if which(child)]:
                return found[0]
        time.sleep(0.005)
    return None


# --- disks ---

# Whether the rule writes below results/ or data/.
_RESULTS = (
    "estimate_duration_bins",
    "examine_experiment",
    "finetune_model",
    "transcribe",
    "score_wer",
    "summarize_wer",
)
_RESULTS += ("write_model_card", "write_report")


def can_mount() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None


def _disk(run: Run) -> Path:
    """Put the folder that the rule writes to on a disk of its own, a tmpfs with some room."""
    folder = run.folder / ("results" if run.rule in _RESULTS else "data")
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.mkdir()
    size = sum(path.stat().st_size for path in aside.rglob("*")) + (64 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "nuptse-drill", str(folder)], check=True)
    # Lazily: a job that outlived Snakemake may still be there.
    run.cleanup.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
    shutil.copytree(aside, folder, dirs_exist_ok=True, symlinks=True)
    shutil.rmtree(aside)
    return folder


def _fill_disk(run: Run) -> bool:
    disk = _disk(run)
    filler = disk / ".filler"
    made = sum(path.stat().st_size for path in artefacts(run)) or 1 << 14
    with run.at_work():
        state = os.statvfs(disk)
        room = state.f_bavail * state.f_frsize
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room - int(run.chance.uniform(0, made))))
    filler.unlink()
    return run.failed


def _make_read_only(run: Run) -> bool:
    disk = _disk(run)
    remount = ["mount", "-o", "remount,ro", str(disk)]
    with run.at_work() as (_, job):
        run.wait_a_moment()
        # It is refused while a file is being written.
        while subprocess.run(remount, capture_output=True, check=False).returncode and is_at_work(job):
            pass
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    return run.failed


# --- files ---

# What a rule makes and another one reads.
_MADE = {
    "download_archive": ["data/downloads/*/*.tar.gz"],
    "extract_archives": ["data/raw/*.json", "data/raw/**/*.flac", "data/raw/**/*.wav", "data/raw/**/*.txt"],
    "prepare_manifests": ["data/recipes/*/*_recordings.jsonl.gz", "data/recipes/*/*_supervisions.jsonl.gz"],
    "select_utterances": ["data/manifests/*_selected_*.jsonl.gz", "data/manifests/*_selection_*.json"],
    "check_audio": ["data/manifests/quickstart_audio_*.jsonl.gz", "data/audio_checks/quickstart_*/cache/*.jsonl"],
    "build_cutset": ["data/manifests/*_cuts_*.jsonl.gz"],
    "export_nemo_manifest": ["data/manifests/*_nemo_train.json"],
    "plan_shards": ["data/shards/*/plan.bin"],
    "tar_shards": ["data/shards/*/*.tar", "data/shards/*/sharded_manifests/*.json", "data/shards/*/ledger/**/*.json"],
    "index_shards": ["data/shards/quickstart_train/ledger.json"],
    "count_durations": ["data/manifests/*_durations_*.npz"],
    "estimate_duration_bins": ["results/finetune_from_nemo_tarred/duration_bins.json"],
    "download_model": ["data/models/*.nemo"],
    "examine_experiment": ["results/doctor/*.json"],
    "finetune_model": ["results/*/train.json"],
    "transcribe": ["results/transcripts/*/*.json*"],
    "score_wer": ["results/scores/*/*.json"],
    "summarize_wer": ["results/wer.tsv", "results/wer_comparisons.tsv"],
}

# Who reads it. Snakemake sees a file of another time by itself, but not what is in a folder, or a link to nothing.
_READER = {
    "download_archive": "extract_archives",
    "extract_archives": "prepare_manifests",
    "prepare_manifests": "select_utterances",
    "select_utterances": "build_cutset",
    "check_audio": "examine_experiment",
    "build_cutset": "export_nemo_manifest",
    "export_nemo_manifest": "plan_shards",
    "plan_shards": "tar_shards",
    "tar_shards": "index_shards",
    "index_shards": "examine_experiment",
    "count_durations": "estimate_duration_bins",
    "estimate_duration_bins": "examine_experiment",
    "download_model": "examine_experiment",
    "examine_experiment": "write_report",
    "finetune_model": "write_report",
    "transcribe": "score_wer",
    "score_wer": "summarize_wer",
    "summarize_wer": "write_report",
}


def artefacts(run: Run) -> list[Path]:
    """Return what the rule made, if there is something in it."""
    found = {path for pattern in _MADE.get(run.rule, []) for path in run.folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.stat().st_size)


def _damage(how: Callable[[Run, Path], object]) -> Callable[[Run], bool]:
    """Damage something that the rule has made; whatever reads it finds out."""

    def inject(run: Run) -> bool:
        path = run.chance.choice(artefacts(run))
        run.note = str(path.relative_to(run.folder))
        how(run, path)
        run.targets = tuple(dict.fromkeys((*TARGETS[_READER[run.rule]], *run.targets)))
        run.options = ("--forcerun", _READER[run.rule])
        run.go_on()
        return True

    return inject


def _truncate(run: Run, path: Path) -> None:
    os.truncate(path, run.chance.randrange(path.stat().st_size))


def _link_to_nothing(run: Run, path: Path) -> None:
    path.unlink()
    path.symlink_to(f"/nowhere/{path.name}")


def _files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for root, _, names in os.walk(folder):
            yield from (Path(root, name) for name in sorted(names))


def _jump_clock(run: Run) -> bool:
    """Give half of what is there the time of a clock that is wrong by up to ten years, before or after."""
    then = time.time() + run.chance.uniform(-1, 1) * 10 * 365 * 86400
    with run.at_work() as (_, job):
        run.wait_a_moment()
        hit = is_at_work(job)
        for path in _files(run.folder / "data", run.folder / "results"):
            with suppress(FileNotFoundError):
                if run.chance.random() < 0.5:
                    os.utime(path, (then, then))
    return hit


def _change_corpus(run: Run) -> bool:
    """Let a recording of an unpacked corpus grow or shrink, or vanish."""
    with run.at_work() as (_, job):
        run.wait_a_moment()
        hit = is_at_work(job)
        paths = [path for path in _files(run.folder / "data/raw") if path.suffix in (".flac", ".wav", ".txt")]
        path = run.chance.choice(paths)
        run.note = str(path.relative_to(run.folder))
        content = path.read_bytes()
        changed = [content + content, content[: run.chance.randrange(len(content))], None]
        if (new := run.chance.choice(changed)) is None:
            path.unlink()
        else:
            path.write_bytes(new)
    return hit


def _change_own_corpus(run: Run) -> bool:
    """Let a file of the user's own folder get other content, in two halves, while a job reads the folder."""
    files = sorted(run.add_own_corpus().iterdir())
    path = run.chance.choice(files)
    other = run.chance.choice([file for file in files if file.suffix == path.suffix and file != path]).read_bytes()
    run.note = str(path.relative_to(run.folder))
    run.wanted = run.as_if_undisturbed(lambda folder: Path(folder, run.note).write_bytes(other))
    with run.at_work() as (_, job):
        run.wait_a_moment()
        hit = is_at_work(job)
        with path.open("wb", buffering=0) as file:
            file.write(other[: len(other) // 2])
            run.wait_a_moment()
            file.write(other[len(other) // 2 :])
    run.targets = DATA
    return hit


_READS_CORPUS = ("prepare_manifests", "check_audio", "tar_shards")


# --- mirrors ---


def _from_mirror(spoiling: Spoiling, most: int) -> Callable[[Run], bool]:
    """Download from a mirror that spoils up to ``most`` answers for each file, then from the same one when it is well."""

    def inject(run: Run) -> bool:
        folder, times = run.folder / "resources/quickstart", run.chance.randint(1, most)
        mirror = run.cleanup.enter_context(Mirror(folder, spoiling, times, run.chance))
        run.configure({"mirrors": {"quickstart": [mirror.url]}}, same_results=True)
        with run.at_work():
            pass
        mirror.recover()
        return mirror.spoiled.total() > 0

    return inject


_DOWNLOADS = ("download_archive", "download_model")

FAULTS = [
    Fault("kill -9 of the job", _signal(lambda driver, job: [job], signal.SIGKILL)),
    Fault("SIGTERM to the job", _signal(lambda driver, job: [job], signal.SIGTERM)),
    Fault("kill -9 of a worker", _kill_child(_is_worker), ("tar_shards", "finetune_model"), "worker|has died"),
    Fault("kill -9 of a rank", _kill_child(_is_rank), ("finetune_model",), "has died"),
    Fault("kill -9 of Snakemake", _signal(lambda driver, job: [driver], signal.SIGKILL)),
    Fault("Ctrl-C", _signal(lambda driver, job: [driver, *driver.children(recursive=True)], signal.SIGINT)),
    Fault("power cut", _signal(_with_family, signal.SIGKILL)),
    Fault("disk full", _fill_disk, says="No space left on device", mounts=True),
    Fault("disk turned read-only", _make_read_only, says="Read-only file system|Write-protected", mounts=True),
    Fault("file cut short", _damage(_truncate), tuple(_READER), "ERROR: |is a link to"),
    Fault("dead link", _damage(_link_to_nothing), tuple(_READER), "ERROR: |is a link to"),
    Fault("clock jump", _jump_clock),
    Fault("corpus changes", _change_corpus, _READS_CORPUS, "ERROR: "),
    Fault("own corpus changes", _change_own_corpus, _READS_CORPUS, "ERROR: "),
    Fault("mirror stalls", _from_mirror(stalled, 1), _DOWNLOADS, "no data for 60 s"),
    Fault("mirror cuts the line", _from_mirror(cut, 7), _DOWNLOADS, "the line broke"),
    Fault("mirror gives wrong bytes", _from_mirror(wrong, 1), _DOWNLOADS, "wrong sha256"),
    Fault("mirror answers 503", _from_mirror(refused(503), 6), _DOWNLOADS, "HTTP 503"),
    Fault("mirror answers 429", _from_mirror(refused(429, 1), 6), _DOWNLOADS, "HTTP 429"),
]
