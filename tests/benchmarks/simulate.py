"""Run the data stage for real on corpora of growing size: `make simulate UTTERANCES=1000000`.

Each corpus is a NeMo manifest with plausible durations, and FLAC files of 512 bytes whose headers state these durations:
every step does all of its work except copying much audio, which `make bench` times. Prints and keeps what each step cost
at each size (benchmarks/results/scale.json, docs/scale.svg), and what a corpus of 100,000 hours would.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "scripts")]

import harness
import yaml
from corpora import RATE, UTTERANCE_KB, cuts
from harness import ENVIRONMENT, RESULTS, ROOT

from nuptse.jsonl import row_writer

# 1,000 utterances of 12 s are 3 h or about 200 MB of FLAC: a shard that loads in seconds.
UTTERANCES_PER_SHARD = 1000
AUDIO_BYTES = 512
# So many files want more room than most disks have: they are links to one file for each 10 ms of duration. So there are
# fewer different durations, which makes their bins cheaper; and what a tenth more costs is not asked.
LINKED_FROM = 5_000_000
STEPS = (
    "prepare_manifests",
    "select_utterances",
    "build_cutset",
    "export_nemo_manifest",
    "count_durations",
    "estimate_duration_bins",
    "plan_shards",
    "tar_shards",
    "index_shards",
    "append a tenth",
    "nothing to do",
)
# Rules call plain `python`: one that tells what each command cost, its children included.
WRAPPER = """\
#!/bin/sh
exec {python} -I {cost} {log} {python} "$@"
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("utterances", type=int, nargs="*", help="sizes of the corpora")
    parser.add_argument("--table", action="store_true", help="print what was measured before, and draw it")
    args = parser.parse_args(argv)
    kept = {size["utterances"]: size for size in harness.load("scale")["rows"]} if _has_results() else {}  # type: ignore[attr-defined]
    for utterances in args.utterances:
        with tempfile.TemporaryDirectory(prefix="nuptse-scale-") as folder:
            kept[utterances] = simulate(Path(folder), utterances)
        harness.save("scale", [kept[size] for size in sorted(kept)])
    sizes = [kept[size] for size in sorted(kept)]
    print("\n".join(table(sizes)))
    if len(sizes) > 1:
        draw(sizes, ROOT / "docs/scale.svg")
    if len(sizes) > 1 and (RESULTS / "shards.json").exists():
        print("\n".join(["", *outlook(sizes)]))


def _has_results() -> bool:
    return (RESULTS / "scale.json").exists()


# --- a run ---


def simulate(folder: Path, utterances: int) -> dict[str, Any]:
    """Return what every step cost: ``wall_s``, ``cpu_s``, ``memory_mb`` of its largest process, and ``jobs``."""
    manifest, config, log = folder / "manifest.json", folder / "corpus.yaml", make_wrapper(folder)
    with row_writer(manifest) as write:
        seconds = write_utterances(folder, write, 0, utterances)
    write_config(config, folder, math.ceil(utterances / UTTERANCES_PER_SHARD))
    total = run_workflow(folder, config)
    steps = costs_of(log)
    steps["nothing to do"] = {**run_workflow(folder, config), "jobs": 0}
    result = {"utterances": utterances, "hours": seconds / 3600}
    result |= {"files": count_files(folder / "data"), "snakemake": total}
    if utterances < LINKED_FROM:
        log.unlink()
        with row_writer(folder / "more.json") as write:
            write_utterances(folder, write, utterances, utterances // 10)
        with manifest.open("ab") as old, (folder / "more.json").open("rb") as new:
            shutil.copyfileobj(new, old)
        write_config(config, folder, math.ceil(utterances / UTTERANCES_PER_SHARD * 1.1))
        run_workflow(folder, config)
        # Only the writing of shards: the manifests of all utterances are made anew.
        steps["append a tenth"] = costs_of(log)["tar_shards"]
    return result | {"steps": steps}


def write_utterances(folder: Path, write: Callable[[Any], object], first: int, count: int) -> float:
    """Write audio and rows of a manifest; return how long all of it is, s."""
    seconds = 0.0
    for number, cut in enumerate(cuts(count, audio=str(folder / "audio/{:07d}.flac"), first=first, seed=first), first):
        path = Path(cut["recording"]["sources"][0]["source"])
        path = path.parent / path.stem[:-3] / path.name
        if not number % 1000 or number == first:
            path.parent.mkdir(parents=True, exist_ok=True)
        samples = cut["recording"]["num_samples"]
        if first + count < LINKED_FROM:
            write_audio(path, samples)
        else:
            samples -= samples % 160
            # A file has 65,000 links at most on ext4, and many utterances are of the longest duration.
            original = folder / f"originals/{samples}-{number // 500_000}.flac"
            if not original.exists():
                original.parent.mkdir(exist_ok=True)
                write_audio(original, samples)
            os.link(original, path)
        row = {"id": cut["id"], "audio_filepath": str(path), "duration": samples / RATE}
        write(row | {"text": cut["supervisions"][0]["text"]})
        seconds += samples / RATE
    return seconds


def write_audio(path: Path, samples: int) -> None:
    path.write_bytes(flac_header(samples).ljust(AUDIO_BYTES, b"\0"))


def flac_header(samples: int, rate: int = RATE) -> bytes:
    """Return the start of a FLAC file of 16-bit mono: the stream information alone, as RFC 9639, 8.2 lays it out."""
    sizes = (4096).to_bytes(2, "big") * 2 + bytes(6)
    packed = (rate << 44 | 0 << 41 | 15 << 36 | samples).to_bytes(8, "big")
    return b"fLaC" + b"\x80" + (34).to_bytes(3, "big") + sizes + packed + bytes(16)


def write_config(path: Path, folder: Path, num_shards: int) -> None:
    entry = [{"corpus": "scale", "split": "train"}]
    corpus = {"nemo_manifest": {"train": str(folder / "manifest.json")}, "splits": {"train": "train"}, "language": "en"}
    corpus |= {"text": ["lower"], "num_shards": num_shards}
    names = yaml.safe_load((ROOT / "config/config.yaml").read_text())["experiments"]
    experiments = dict.fromkeys(names) | {
        "scale": {"layout": "tarred", "train": entry, "validation": entry, "test": []}
    }
    path.write_text(yaml.safe_dump({"corpora": {"scale": corpus}, "experiments": experiments}))


def make_wrapper(folder: Path) -> Path:
    """Put the wrapper first on the path; return the file that it appends to."""
    log, wrapper = folder / "costs.jsonl", folder / "bin/python"
    wrapper.parent.mkdir()
    wrapper.write_text(WRAPPER.format(python=sys.executable, cost=harness.COST, log=log))
    wrapper.chmod(0o755)
    ENVIRONMENT["PATH"] = f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"
    return log


def run_workflow(folder: Path, config: Path) -> dict[str, float]:
    targets = ["data/shards/scale_train/ledger.json", "results/scale/duration_bins.json"]
    command = [sys.executable, "-m", "snakemake", *targets, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    cost = harness.run(harness.Work([[*command, "--cores", 2, "-q", "--configfile", config]]))
    return {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "memory_mb": cost.memory_mb}


def costs_of(log: Path) -> dict[str, dict[str, float]]:
    """Add up what the jobs of each rule cost."""
    steps: dict[str, dict[str, float]] = {}
    for name, wall, cpu, memory in map(json.loads, log.read_text().splitlines()):
        step = steps.setdefault(name.removesuffix(".py"), {"wall_s": 0, "cpu_s": 0, "memory_mb": 0, "jobs": 0})
        step["wall_s"] += wall
        step["cpu_s"] += cpu
        step["memory_mb"] = max(step["memory_mb"], memory)
        step["jobs"] += 1
    return steps


def count_files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


# --- what it tells ---


def table(sizes: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table: CPU time, memory and jobs at each size, and how CPU time grows."""
    heads = [f"{size['utterances']:,}" for size in sizes]
    lines = [
        "| step | " + " | ".join(f"{head}: CPU, memory, jobs" for head in heads) + " | µs each | exponent |",
        "|---|" + "---:|" * (len(sizes) + 2),
    ]
    for step in STEPS:
        costs = [size["steps"].get(step) for size in sizes]
        cells = ["{cpu_s:.1f} s, {memory_mb:.0f} MB, {jobs}".format(**cost) if cost else "" for cost in costs]
        lines.append(f"| {step} | {' | '.join(cells)} | {slope(sizes, step)} |")
    files = " | ".join(f"{size['files']:,} files" for size in sizes)
    return [*lines, f"| what is made | {files} | | |"]


def slope(sizes: Sequence[dict[str, Any]], step: str) -> str:
    """Return CPU time for each further utterance, µs, and the exponent of growth between the two largest sizes."""
    if len(sizes) < 2:
        return " | "
    (few, less), (many, more) = largest_two(sizes, step)
    return f"{slope_s(sizes, step) * 1e6:.1f} | {math.log(more / less) / math.log(many / few):.2f}"


def outlook(sizes: Sequence[dict[str, Any]], hours: float = 100_000, nodes: int = 64, cores: int = 16) -> list[str]:
    """Return the plan for a large corpus, from the rates of the two largest sizes and of `make bench`: a Markdown table.

    Audio is FLAC of 65 MB an hour, as in LibriSpeech, in utterances of 12 s, divided into splits of 5,000 hours: the steps
    before the shards are one process for each split.
    """
    utterances, splits = hours * 3600 / 12, math.ceil(hours / 5000)
    shards, terabytes = math.ceil(utterances / UTTERANCES_PER_SHARD), hours * 65e-6
    tar_jobs = splits * min(100, math.ceil(shards / splits / 4))
    written = next(row for row in harness.load("shards")["rows"] if f"{UTTERANCE_KB} kB" in row["amount"])  # type: ignore[attr-defined]
    # 10,000 of these files: what hashing and copying a byte takes; all the rest is the small files of the simulation.
    byte_s = written["ours"]["cpu_s"] / (10_000 * (UTTERANCE_KB << 10))
    lines = ["| step | jobs | core hours in all | minutes, one core a job, all side by side |", "|---|---:|---:|---:|"]
    for step in STEPS[:-2]:
        jobs = tar_jobs if step == "tar_shards" else splits
        core_hours = utterances * slope_s(sizes, step) / 3600
        if step == "tar_shards":
            core_hours += terabytes * 1e12 * byte_s / 3600
        minutes = core_hours * 60 / min(jobs, nodes * cores)
        lines.append(f"| {step} | {jobs:,} | {core_hours:.2f} | {minutes:.1f} |")
    facts = f"{utterances / 1e6:.0f} million utterances, {splits} splits, {shards:,} shards of {terabytes / shards * 1e6:.0f} MB, "
    return [
        *lines,
        "",
        facts + f"{terabytes:.1f} TB read and {terabytes:.1f} TB written by {nodes} nodes of {cores} cores",
    ]


def slope_s(sizes: Sequence[dict[str, Any]], step: str) -> float:
    """Return CPU time for each further utterance, s."""
    (few, less), (many, more) = largest_two(sizes, step)
    return max(0.0, (more - less) / (many - few))  # bins of linked audio, see above, cost less


def largest_two(sizes: Sequence[dict[str, Any]], step: str) -> list[tuple[int, float]]:
    """Return utterances and CPU time, s, of the two largest sizes at which a step was measured."""
    found = [(size["utterances"], size["steps"][step]["cpu_s"]) for size in sizes if step in size["steps"]]
    return found[-2:]


def draw(sizes: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw CPU time against size, both logarithmic."""
    import vl_convert

    names = [size["utterances"] for size in sizes]
    points = [
        {"step": step, "utterances": size["utterances"], "seconds": size["steps"][step]["cpu_s"]}
        for size in sizes
        for step in size["steps"]
    ]
    axis = {"type": "quantitative", "scale": {"type": "log"}}
    spec = {
        "width": 460,
        "height": 260,
        "background": "white",
        "data": {"values": points},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "utterances", "axis": {"values": names, "format": ",d"}, **axis},
            "y": {"field": "seconds", "title": "CPU time, s", **axis},
            "color": {"field": "step", "title": None, "sort": STEPS, "scale": {"scheme": "tableau20"}},
            "shape": {"field": "step", "sort": STEPS},
        },
    }
    path.write_text(vl_convert.vegalite_to_svg(spec, vl_version="6.1"), encoding="utf-8")


if __name__ == "__main__":
    main()
