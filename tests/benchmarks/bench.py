"""Time the data steps and the trainings beside references, by turns: `make bench`, or `make bench ARGS="shards bins --rounds 3"`.

References do the unavoidable part of the same work, in the same session: plain tar, sha256sum, Lhotse's own functions,
a bare Snakemake with empty rules. Results go to benchmarks/results/{row}.json; `--table` prints all that are there as
the table of docs/performance.md. Real archives come from the mirror that OPENSLR_MIRROR names, NeMo's script from NEMO_REPO.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "scripts")]

import bench_check_audio
import bench_feeding
import bench_training
import corpora
import simulate
import yaml
from harness import RESULTS, ROOT, Row, Work, by_turns, load, report, run, table

from nuptse.jsonl import row_writer

PYTHON = sys.executable
SCRIPTS = ROOT / "scripts"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="row", help=f"of {', '.join(ROWS)}; all")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, of which the median counts")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    args = parser.parse_args(argv)
    if args.table:
        saved = [
            row
            for name in ROWS
            if (RESULTS / f"{name}.json").exists()
            for row in load(name)["rows"]
            if isinstance(row, dict)
        ]
        print("\n".join(table(saved)))
        return
    for name in args.rows or ROWS:
        with tempfile.TemporaryDirectory(prefix="nuptse-bench-") as folder:
            if rows := ROWS[name](Path(folder), args.rounds):
                report(name, rows)


def python(script: str, *arguments: str | Path | int) -> list[str]:
    return [PYTHON, str(SCRIPTS / script), *map(str, arguments)]


def settle(ahead_mb: int) -> None:
    """Let nothing that was written or deleted before weigh on what comes, which is to write ``ahead_mb``.

    The host of a virtual machine takes free memory back, and what is written into a page that it has to give anew costs
    five times as much. So the memory of the page cache to come is asked for, and given back, just before.
    """
    os.sync()
    time.sleep(1)
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    subprocess.run([PYTHON, "-I", "-c", f"b'.' * ({min(ahead_mb, memory_mb // 2)} << 20)"], check=True)


# --- the whole data stage ---


def data_stage(scratch: Path, rounds: int) -> list[Row]:
    """Archives to shards and bins, of the tutorial on real speech, or of the quickstart where there is no mirror."""
    archives = corpora.mirror()
    configs = [ROOT / "config/tutorial.yaml", scratch / "mirror.yaml"] if archives else []
    if archives:
        (scratch / "mirror.yaml").write_text(yaml.safe_dump(corpora.mirror_overlay(archives)))
    else:
        archives = sorted((ROOT / "resources/quickstart").rglob("*.tar.gz"))
        print(
            "data_stage: skipped for the tutorial, OPENSLR_MIRROR names no mirror; with the embedded archives instead"
        )
    folder = scratch / "run"

    def fresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    command = [PYTHON, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", 2]
    command += ["shards", "manifests", "bins", *(["--configfile", *configs] if configs else [])]
    unpack = "sha256sum {} && for a in {}; do tar -xzf $a; done".format(*[" ".join(map(str, archives))] * 2)
    works = {"ours": Work([command], fresh), "theirs": Work([["bash", "-c", unpack]], fresh, folder)}
    costs = by_turns(works, min(rounds, 3))
    amount = f"{len(archives)} archives, {sum(a.stat().st_size for a in archives) / 1e6:.0f} MB"
    note = f"sha256sum and tar -xzf of the archives alone take {costs['theirs'].wall_s:.1f} s"
    return [Row("data stage", "", amount, costs["ours"], None, min(rounds, 3), "wall_s", 15, note)]


# --- shards ---


def shards(scratch: Path, rounds: int) -> list[Row]:
    """Plan, write and index shards, beside plain tar of the same files; and audio that is encoded, on two cores."""
    rows = []
    for kilobytes in (16, corpora.UTTERANCE_KB):
        folder = scratch / str(kilobytes)
        folder.mkdir()
        rows += _shards(folder, kilobytes, rounds)
        shutil.rmtree(folder)
    return [*rows, *_encoded_shards(scratch, min(rounds, 3))]


def _sharding(scratch: Path, num_shards: int, workers: int = 1, *options: str) -> list[list[str]]:
    """Return the commands that plan, write and index the shards of manifest.json."""
    manifest, plan, out = scratch / "manifest.json", scratch / "plan.bin", scratch / "out"
    group = out / "ledger/0.json"
    planning = python("plan_shards.py", "--manifest", manifest, "--num-shards", num_shards, "--seed", 0, "--plan", plan)
    writing = python("tar_shards.py", "--manifest", manifest, "--plan", plan, "--group", 0, "--output-dir", out)
    writing += ["--shards-per-job", str(num_shards), "--ledger", str(group), "--workers", str(workers), *options]
    indexing = python("index_shards.py", "--plan", plan, "--group-ledger", group, "--output-dir", out)
    return [planning, writing, [*indexing, "--ledger", str(out / "ledger.json")]]


def _starts(commands: Sequence[Sequence[str]]) -> Work:
    """Return what it takes to start these commands, imports included."""
    return Work([[*command[:2], "--help"] for command in commands])


def _shards(scratch: Path, kilobytes: int, rounds: int) -> list[Row]:
    files = 10_000
    corpora.write_audio(scratch / "audio", files, kilobytes << 10)
    corpora.write_manifest(scratch / "manifest.json", files)
    (scratch / "names").write_text("".join(f"audio/{number:07d}.flac\n" for number in range(files)))
    tar = scratch / "plain.tar"

    def clean() -> None:
        shutil.rmtree(scratch / "out", ignore_errors=True)
        tar.unlink(missing_ok=True)
        settle(files * kilobytes // 1000)

    plain = ["tar", "-cf", tar, "-C", scratch, "-T", scratch / "names"]
    works = {
        "write": Work(_sharding(scratch, 8), clean, scratch),
        "two": Work(_sharding(scratch, 8, 2), clean, scratch),
        "start": _starts(_sharding(scratch, 8)),
        "tar": Work([plain], clean),
        "checked": Work([plain, ["sha256sum", tar]], clean),
    }
    costs = by_turns(works, rounds)
    amount, beyond = f"{files:,} files of {kilobytes} kB", costs["write"].beyond(costs["start"])
    note = f"one core; of which starting Python three times {costs['start'].cpu_s:.2f} s"
    limits = (None, 1.5) if kilobytes < corpora.UTTERANCE_KB else (1.5, None)
    return [
        Row("shards", "tar -cf", amount, costs["write"], costs["tar"], rounds, "cpu_s", limits[0], note),
        Row("shards", "tar -cf", amount, beyond, costs["tar"], rounds, "cpu_s", limits[1], "beyond starting Python"),
        Row(
            "shards", "tar -cf, sha256sum", amount, costs["write"], costs["checked"], rounds, "cpu_s", None, "one core"
        ),
        Row("shards", "tar -cf", amount, costs["two"], costs["tar"], rounds, "wall_s", None, "two cores"),
    ]


def _encoded_shards(scratch: Path, rounds: int) -> list[Row]:
    rows = []
    for form, files in (("flac", 2000), ("opus", 100)):
        shutil.rmtree(scratch / "audio", ignore_errors=True)
        corpora.write_noise(scratch / "audio", files)
        corpora.write_manifest(scratch / "manifest.json", files, audio="audio/{:07d}.wav")
        clean = partial(shutil.rmtree, scratch / "out", ignore_errors=True)
        works = {str(n): Work(_sharding(scratch, 8, n, "--audio", form), clean, scratch) for n in (1, 2)}
        one, two = by_turns(works, rounds).values()
        amount = f"{files:,} WAV files of 10 s"
        rows.append(Row(f"shards, as {form}", "one core", amount, two, one, rounds, "wall_s", 0.6, "two cores"))
    return rows


def append(scratch: Path, rounds: int) -> list[Row]:
    """Add a tenth to a corpus: what its shards cost beside writing all of them."""
    # No larger corpus: memory that was at hand is taken back before the writing of all ends, see `settle`.
    files, rounds = 10_000, min(rounds, 3)
    grown = files + files // 10
    corpora.write_audio(scratch / "audio", grown, corpora.UTTERANCE_KB << 10)
    manifest, saved = scratch / "manifest.json", scratch / "saved"
    plan, out = scratch / "plan.bin", scratch / "out"

    def fresh() -> None:
        shutil.rmtree(out, ignore_errors=True)
        plan.unlink(missing_ok=True)
        corpora.write_manifest(manifest, grown)
        settle(grown * corpora.UTTERANCE_KB // 1000)

    def first() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if not saved.exists():
            plan.unlink(missing_ok=True)
            corpora.write_manifest(manifest, files)
            run(Work(_sharding(scratch, 40), folder=scratch))
            out.rename(saved)
            shutil.copy(plan, scratch / "saved.bin")
            corpora.write_manifest(manifest, grown)
        shutil.copytree(saved, out, copy_function=os.link)  # shards are replaced, never written into
        shutil.copy(scratch / "saved.bin", plan)
        settle(grown * corpora.UTTERANCE_KB // 1000)

    works = {
        "append": Work(_sharding(scratch, 44), first, scratch),
        "same": Work(_sharding(scratch, 40), first, scratch),
        "all": Work(_sharding(scratch, 44), fresh, scratch),
        "start": _starts(_sharding(scratch, 44)),
    }
    costs = by_turns(works, rounds)
    amount, note = f"{grown - files:,} to {files:,} files of {corpora.UTTERANCE_KB} kB", "beyond starting Python"
    rows = []
    for name, work, limit in (("append, 40 to 44 shards", "append", 0.2), ("append, 40 shards stay", "same", None)):
        rows.append(Row(name, "writing all", amount, costs[work], costs["all"], rounds, "cpu_s"))
        beyond = [costs[key].beyond(costs["start"]) for key in (work, "all")]
        rows.append(Row(name, "writing all", amount, *beyond, rounds, "cpu_s", limit, note))
    return rows


# --- manifests and bins ---


def manifests(scratch: Path, rounds: int) -> list[Row]:
    """A NeMo manifest to recordings, supervisions and cuts, by the lines that each step reads and writes."""
    count, recipe, parts = 100_000, scratch / "recipe", {"train": str(scratch / "manifest.json")}
    with row_writer(scratch / "manifest.json") as write:
        simulate.write_utterances(scratch, write, 0, count)
    source = json.dumps({"kind": "nemo_manifest", "options": {}, "parts": parts})
    preparing = python("prepare_manifests.py", "--source", source, "--num-jobs", 2, "--output-dir", recipe)
    selected, ledger = scratch / "selected.jsonl.gz", scratch / "selection.json"
    options = ["--corpus", "c", "--split", "train", "--part", "train", "--language", "en", "--text", '["lower"]']
    selecting = python("select_utterances.py", "--recipe-dir", recipe, *options, "--selected", selected)
    selecting += ["--dropped", str(scratch / "dropped.jsonl.gz"), "--ledger", str(ledger)]
    building = python("build_cutset.py", "--selected", selected, "--selection", ledger)
    for kind in ("recordings", "supervisions", "cuts", "quarantine"):
        building += [f"--{kind}", str(scratch / f"{kind}.jsonl.gz")]
    building += ["--ledger", str(scratch / "ledger.json")]
    commands = {"prepare_manifests": preparing, "select_utterances": selecting, "build_cutset": building}
    for name, module, look in (
        ("headers", "nuptse.audio_headers", "read_header"),
        ("soundfile.info", "soundfile", "info"),
    ):
        looking = (
            f"import glob, sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\nfrom {module} import {look} as look\n"
        )
        commands[name] = [PYTHON, "-c", f"{looking}for path in glob.iglob('audio/*/*.flac'): look(path)"]
    rounds = min(rounds, 3)
    costs = by_turns({name: Work([command], folder=scratch) for name, command in commands.items()}, rounds)
    whole, amount = costs["prepare_manifests"], f"{count:,} utterances"
    costs["prepare_manifests"] = whole.beyond(costs["headers"])
    note = f"headers of the audio included, which take {costs['headers'].cpu_s:.2f} s with the start of Python"
    rows = [
        Row("prepare_manifests", "soundfile.info", amount, whole, costs["soundfile.info"], rounds, "cpu_s", None, note)
    ]
    # Lines for each utterance, in and out: rows of the source, supervisions, recordings, cuts, audio files of a ledger.
    for name, lines in {
        "prepare_manifests": 4 * count,
        "select_utterances": 3 * count,
        "build_cutset": 4 * count,
    }.items():
        rate = f"{lines / costs[name].cpu_s:,.0f} lines/s, in and out"
        note = f"beyond headers of the audio, {rate}" if name == "prepare_manifests" else rate
        rows.append(Row(name, "", amount, costs[name], None, rounds, "cpu_s", lines / 100_000, note))
    return rows


def export(scratch: Path, rounds: int) -> list[Row]:
    """Cuts to a NeMo manifest, beside Lhotse that reads the same cuts."""
    count = 200_000
    cuts = corpora.write_cuts(scratch / "cuts.jsonl.gz", count)
    ours = python("export_nemo_manifest.py", "--cuts", cuts, "--manifest", scratch / "nemo.json")
    lhotse = f"from lhotse import CutSet\nfor cut in CutSet.from_file('{cuts}'): cut.duration"
    works = {
        "ours": Work([ours]),
        "theirs": Work([[PYTHON, "-c", lhotse]]),
        "zcat": Work([["gzip", "-dc", cuts]], quiet=True),
    }
    costs = by_turns(works, rounds)
    rate = f"{count / costs['ours'].cpu_s:,.0f} lines/s"
    limit = count / 100_000
    return [
        Row("NeMo manifest", "", f"{count:,} lines", costs["ours"], None, rounds, "cpu_s", limit, rate),
        Row(
            "NeMo manifest",
            "Lhotse reads the cuts",
            f"{count:,} lines",
            costs["ours"],
            costs["theirs"],
            rounds,
            "cpu_s",
        ),
        Row("NeMo manifest", "gzip -dc", f"{count:,} lines", costs["ours"], costs["zcat"], rounds, "cpu_s"),
    ]


def bins(scratch: Path, rounds: int) -> list[Row]:
    """Bins of a million utterances from their cuts, and again with other weights."""
    count = 1_000_000
    cuts = corpora.write_cuts(scratch / "cuts.jsonl.gz", count)
    durations = scratch / "durations.npz"
    counting = python("count_durations.py", "--cuts", cuts, "--durations", durations)
    options = ["--durations", durations, "--names", "a/train", "--num-buckets", 30, "--bins", scratch / "bins.json"]
    weighing = python("estimate_duration_bins.py", *options, "--weights", "[1]")
    lhotse = f"""
from lhotse import CutSet
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets
estimate_duration_buckets(CutSet.from_file('{cuts}'), 30)"""
    works = {
        "ours": Work([counting, weighing]),
        "zcat": Work([["gzip", "-dc", cuts]], quiet=True),
        "again": Work([weighing]),
        "start": Work([[PYTHON, "-c", "import numpy, msgspec, argparse, json"]]),
    }
    costs = by_turns(works, rounds)
    costs |= by_turns({"lhotse": Work([[PYTHON, "-c", lhotse]])}, 1)
    amount = f"{count:,} utterances"
    more = f"other weights; {costs['again'].cpu_s - costs['start'].cpu_s:.2f} s more, at most 0.1 s"
    return [
        Row("duration bins", "", amount, costs["ours"], None, rounds, "cpu_s", 3),
        Row("duration bins", "gzip -dc", amount, costs["ours"], costs["zcat"], rounds, "cpu_s"),
        Row("duration bins", "Lhotse's estimate", amount, costs["ours"], costs["lhotse"], rounds, "cpu_s"),
        Row("duration bins", "starting Python", amount, costs["again"], costs["start"], rounds, "cpu_s", None, more),
    ]


# --- the doctor ---


def doctor(scratch: Path, rounds: int) -> list[Row]:
    """Examine a million transcripts with words as in books, beside SentencePiece, which encodes the same ones."""
    count, base = 1_000_000, ROOT / "resources/quickstart/base.nemo"
    arguments = corpora.write_study(scratch, count, base)
    encode = f"""
import itertools, sentencepiece
model = sentencepiece.SentencePieceProcessor({str(scratch / "tokenizer.model")!r})
lines = open({str(scratch / "texts")!r}, encoding="utf-8")
while batch := list(itertools.islice(lines, 4096)): model.encode(batch, num_threads=1)"""
    works = {
        "ours": Work([python("examine_experiment.py", *arguments, "--report", scratch / "x.json")]),
        "theirs": Work([[PYTHON, "-c", encode]]),
        "zcat": Work([["gzip", "-dc", scratch / "a_cuts_train.jsonl.gz"]], quiet=True),
    }
    rounds = min(rounds, 3)
    costs = by_turns(works, rounds)
    amount, rate = f"{count:,} utterances", f"{count / costs['ours'].cpu_s:,.0f} lines/s"
    return [
        Row("doctor", "", amount, costs["ours"], None, rounds, "cpu_s", count / 100_000, rate),
        Row("doctor", "SentencePiece encodes the texts", amount, costs["ours"], costs["theirs"], rounds, "cpu_s"),
        Row("doctor", "gzip -dc", amount, costs["ours"], costs["zcat"], rounds, "cpu_s"),
    ]


# --- nothing to do ---


def no_op(scratch: Path, rounds: int) -> list[Row]:
    """A run that finds everything made, beside a bare Snakemake with as many jobs; and parsing alone."""
    made = scratch / "made"
    made.mkdir()
    ours = [PYTHON, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", made, "--cores", 2, "-q"]
    targets = ["shards", "manifests", "bins"]
    ours = [*ours[:3], *targets, *ours[3:]]
    by_turns({"first": Work([ours])}, 1)
    jobs = sum(path.is_file() for path in (made / "logs").rglob("*.log"))
    bare, empty = scratch / "bare", scratch / "empty"
    for folder, text in ((bare, _empty_jobs(jobs)), (empty, "rule all:\n    input: []\n")):
        folder.mkdir()
        (folder / "Snakefile").write_text(text)
    reference = [PYTHON, "-m", "snakemake", "--directory", bare, "--snakefile", bare / "Snakefile", "--cores", 2, "-q"]
    by_turns({"first": Work([reference])}, 1)
    listing = ["--list-target-rules"]
    works = {
        "ours": Work([ours]),
        "bare": Work([reference]),
        "parse": Work([[PYTHON, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", made, *listing]]),
        "empty": Work(
            [[PYTHON, "-m", "snakemake", "--snakefile", empty / "Snakefile", "--directory", empty, *listing]]
        ),
    }
    costs = by_turns(works, max(rounds, 5))
    more = costs["parse"].cpu_s - costs["empty"].cpu_s
    return [
        Row(
            "no-op", f"bare Snakemake, {jobs} jobs", f"{jobs} jobs", costs["ours"], costs["bare"], rounds, "cpu_s", 1.3
        ),
        Row(
            "parse",
            "empty Snakefile",
            "",
            costs["parse"],
            costs["empty"],
            rounds,
            "cpu_s",
            None,
            f"{more:.2f} s more; at most 1.5 s",
        ),
    ]


def audio(scratch: Path, rounds: int) -> list[Row]:
    """The check of audio beside a plain decode; it prints a table of its own."""
    bench_check_audio.main([])
    return []


def sampling(scratch: Path, rounds: int) -> list[Row]:
    """Padding and fill by sampler setting; it prints a table of its own."""
    import bench_sampling  # imports NeMo

    bench_sampling.main()
    return []


def feeding(scratch: Path, rounds: int) -> list[Row]:
    """Data loaders alone, by layout; it prints a table of its own."""
    bench_feeding.main()
    return []


def _empty_jobs(jobs: int) -> str:
    return f"""\
rule all:
    input: [f"out/{{n}}" for n in range({jobs})]

rule empty:
    output: "out/{{n}}"
    shell: "touch {{output}}"
"""


ROWS: dict[str, Callable[[Path, int], list[Row]]] = {
    "data_stage": data_stage,
    "audio": audio,
    "shards": shards,
    "append": append,
    "manifests": manifests,
    "export": export,
    "bins": bins,
    "doctor": doctor,
    "no_op": no_op,
    "finetune": bench_training.finetune,
    "alone": bench_training.alone,
    "first_batch": bench_training.first_batch,
    "sampling": sampling,
    "feeding": feeding,
}


if __name__ == "__main__":
    main()
