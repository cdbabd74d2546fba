"""What it costs to feed a model, by layout: data loaders alone, without a model, as a table of bench.py.

Lhotse CutSet, NeMo JSON, NeMo tar shards and Lhotse Shar of the same speech, real LibriSpeech from the mirror that
OPENSLR_MIRROR names, read by NeMo's loader with our options. The page cache is emptied of the files before each run. The
slow disk is the same one with a limit on reads that the kernel enforces (blkio of cgroup v1, which takes root): a stand-in
for network storage, whose price is the single read.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "scripts")]

from bench_training import OVERLAY, plan_options, prepared
from harness import ENVIRONMENT, report_lines

LAYOUTS = {"cutset": "Lhotse CutSet", "nemo_json": "NeMo JSON", "tarred": "NeMo tar shards", "shar": "Lhotse Shar"}
# 34 batches are the data once: no layout reads a second time what the first pass has left in the page cache.
BATCHES, BATCH_S, QUADRATIC_S = 34, 300.0, 15.0
READS_PER_S, BYTES_PER_S = 100, 50_000_000
BLKIO = Path("/sys/fs/cgroup/blkio")
HEADER = (
    "| disk | layout | workers | audio hours per second | CPU s per audio hour | first batch, s | MB | padding | fill |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="nuptse-bench-") as scratch:
        folder = prepared(Path(scratch), OVERLAY)
        if folder is None:
            return
        write_shar(folder)
        slow = slow_disk(folder)
        if slow is None:
            print("the slow disk: skipped, no blkio of cgroup v1 that this user may set")
        lines = HEADER.splitlines()
        for disk, group in [("local", None)] + ([(f"{READS_PER_S} reads/s", slow)] if slow else []):
            for layout in LAYOUTS:
                for workers in (1, 2):
                    forget_pages(folder / "data")
                    cells = measured(folder, layout, workers, group)
                    lines.append(f"| {disk} | {LAYOUTS[layout]} | {workers} {cells}")
                    print(lines[-1], flush=True)
        if slow:
            slow.rmdir()
        report_lines("feeding", lines)


def measured(folder: Path, layout: str, workers: int, group: Path | None) -> str:
    """Run the measurement in a process of its own, in that cgroup; return the cells of the table."""
    command = [sys.executable, __file__, layout, str(workers), str(group or "")]
    run = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{command} failed:\n{run.stderr[-4000:]}")
    found = json.loads(run.stdout.splitlines()[-1])
    return (
        "| {hours_per_s:.2f} | {cpu_s_per_hour:.1f} | {first_s:.1f} | {megabytes:.0f} | {padding:.1%} | {fill:.0%} |"
    ).format(**found)


def write_shar(folder: Path) -> None:
    """Write the training data as Lhotse Shar, FLAC as it is, in 32 shards like ours."""
    from lhotse import CutSet

    cuts = CutSet.from_file(folder / "data/manifests/mini_librispeech_cuts_train.jsonl.gz").to_eager()
    cuts = CutSet.from_cuts(cut.with_recording_path_prefix(str(folder)) for cut in cuts)
    (folder / "data/shar").mkdir()
    cuts.to_shar(folder / "data/shar", fields={"recording": "flac"}, shard_size=-(-len(cuts) // 32))


def forget_pages(folder: Path) -> None:
    """Have Linux read the files below ``folder`` from the disk the next time."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def slow_disk(folder: Path) -> Path | None:
    """Return a cgroup whose processes read slowly from the disk of ``folder``; None where it cannot be made."""
    device = folder.stat().st_dev
    group = BLKIO / "nuptse-bench"
    try:
        group.mkdir(exist_ok=True)
        for name, limit in (("read_iops_device", READS_PER_S), ("read_bps_device", BYTES_PER_S)):
            whole = f"{os.major(device)}:{os.minor(device)}"
            (group / f"blkio.throttle.{name}").write_text(f"{whole} {limit}")
    except OSError:
        return None
    return group


# --- one measurement ---


def measure(layout: str, workers: int, group: str) -> dict[str, float]:
    """Iterate over the batches of one layout in this process, in that cgroup once all is imported; return what it took."""
    from nuptse.runtime import prepare_runtime

    prepare_runtime()
    from nemo.collections.asr.data.audio_to_text_lhotse import LhotseSpeechToTextBpeDataset
    from nemo.collections.common.data.lhotse import get_lhotse_dataloader_from_config
    from nemo.collections.common.tokenizers import SentencePieceTokenizer
    from omegaconf import OmegaConf

    options = OmegaConf.from_dotlist(plan_options(OVERLAY, f"finetune_from_{EXPERIMENT[layout]}"))
    plan = json.loads(Path(f"results/finetune_from_{EXPERIMENT[layout]}/duration_bins.json").read_text())
    config = options.model.train_ds
    utterances = plan["sources"][0]["utterances"]
    changes = {"batch_duration": BATCH_S, "quadratic_duration": QUADRATIC_S, "num_workers": workers}
    changes |= {"num_buckets": plan["num_buckets"], "bucket_duration_bins": plan["bucket_duration_bins"]}
    changes |= {
        name: min(config[name] or utterances, utterances) for name in ("shuffle_buffer_size", "bucket_buffer_size")
    }
    changes |= {"shard_seed": "randomized", "sample_rate": 16000}
    config = OmegaConf.merge(config, changes)
    if layout == "shar":
        del config["cuts_path"]
        config.shar_path = "data/shar"
    with tempfile.TemporaryDirectory() as unpacked, tarfile.open("data/models/quickstart_base.nemo") as archive:
        (name,) = (name for name in archive.getnames() if name.endswith("_tokenizer.model"))
        archive.extract(name, unpacked, filter="data")
        tokenizer = SentencePieceTokenizer(str(Path(unpacked, name)))
    if group:
        Path(group, "tasks").write_text(str(os.getpid()))
    cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    begin = time.perf_counter()
    dataset = LhotseSpeechToTextBpeDataset(tokenizer)
    loader = get_lhotse_dataloader_from_config(
        config, global_rank=0, world_size=1, dataset=dataset, tokenizer=tokenizer
    )
    samples = padded = fill = 0.0
    first_s, megabytes = 0.0, 0.0
    for number, (audio, lengths, *_) in enumerate(islice(endless(loader), BATCHES)):
        if not number:
            first_s = time.perf_counter() - begin
        samples, padded = samples + float(lengths.sum()), padded + audio.numel()
        longest = float(lengths.max()) / 16000
        fill += len(lengths) * (longest + longest**2 / QUADRATIC_S) / BATCH_S / BATCHES
        if number == BATCHES - 1:
            megabytes = memory_of_all()
    took = time.perf_counter() - begin
    del loader, audio
    stop_workers()
    cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) - cpu
    hours = samples / 16000 / 3600
    return {
        "hours_per_s": hours / took,
        "cpu_s_per_hour": cpu / hours,
        "first_s": first_s,
        "megabytes": megabytes,
        "padding": 1 - samples / padded,
        "fill": fill,
    }


EXPERIMENT = {"cutset": "cutset", "nemo_json": "nemo_json", "tarred": "nemo_tarred", "shar": "cutset"}


def endless(loader: object) -> Iterator[tuple[object, ...]]:
    """Yield batches of epoch after epoch; shards have one without end."""
    epoch = 0
    while True:
        if hasattr(loader.sampler, "set_epoch"):  # type: ignore[attr-defined]
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader  # type: ignore[misc]
        epoch += 1


def memory_of_all() -> float:
    """Return the memory of this process and its workers, MB; what they share counts once (PSS)."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in ("self", *children))
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")) / 1024


def stop_workers() -> None:
    """Wait until the worker processes have gone, so that their CPU time is counted."""
    import gc

    gc.collect()
    for _ in range(100):
        if not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
