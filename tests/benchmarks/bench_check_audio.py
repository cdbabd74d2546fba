"""How much the check of audio costs beside decoding the same files: `make bench`, or `make bench ARGS=path/to/audio`.

Prints CPU seconds, for one core: a plain decode by soundfile, the check with an empty cache (cold), the check of files that are known
(warm), and the start of the process, which is in none of them. Takes the fastest of several rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import soundfile

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import check_audio
from nuptse.folder_state import files_below, is_audio
from nuptse.jsonl import write_rows

ROUNDS = 5
COLD_LIMIT, WARM_LIMIT = 1.5, 0.05


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, nargs="?", help="folder of audio; the quickstart's LibriSpeech by default")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        audio = args.audio or unpacked(scratch)
        files = [path for path in files_below(audio) if is_audio(path)]
        seconds = write_cuts(files, scratch / "selected.jsonl.gz")
        report(measure(files, scratch), len(files), seconds)


def unpacked(scratch: Path) -> Path:
    for archive in sorted((ROOT / "resources/quickstart").glob("*/*clean*.tar.gz")):
        with tarfile.open(archive) as tar:
            tar.extractall(scratch / "audio", filter="data")
    return scratch / "audio"


def write_cuts(files: Sequence[str], path: Path) -> float:
    """Write a cut for each file; return the seconds of all."""
    rows, seconds = [], 0.0
    for file in files:
        header = soundfile.info(file)
        duration = header.frames / header.samplerate
        recording = {"id": file, "sources": [{"type": "file", "channels": [0], "source": file}]}
        recording |= {"sampling_rate": header.samplerate, "duration": duration}
        rows.append({"id": file, "start": 0.0, "duration": duration, "channel": 0, "recording": recording})
        seconds += duration
    write_rows(path, rows)
    return seconds


def measure(files: Sequence[str], scratch: Path) -> dict[str, float]:
    """Return the seconds of each kind of work, the fastest of all rounds; they take turns, so that all share the noise."""
    time.sleep(2.5)  # until the stamps of files that were just unpacked are trusted

    def decode() -> None:
        for file in files:
            soundfile.read(file, dtype="int16")

    def check(cache: str) -> None:
        paths = {"selected": "selected.jsonl.gz", "cache": cache, "facts": "facts.jsonl.gz"}
        with contextlib.redirect_stdout(io.StringIO()):
            check_audio.main([text for key, path in paths.items() for text in (f"--{key}", str(scratch / path))])

    def start() -> None:
        command = [sys.executable, str(ROOT / "scripts/check_audio.py"), "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    best: dict[str, float] = {}
    for number in range(ROUNDS):
        # A cache of its own is empty.
        work: dict[str, Callable[[], None]] = {"decode": decode, "cold": lambda n=number: check(f"cache{n}")}  # type: ignore[misc]
        for name, call in (work | {"warm": lambda: check("cache0"), "start": start}).items():
            clock = time.perf_counter if name == "start" else time.process_time
            begin = clock()
            call()
            best[name] = min(best.get(name, float("inf")), clock() - begin)
    return best


def report(best: dict[str, float], files: int, seconds: float) -> None:
    print(f"{files} files, {seconds / 3600:.3f} h of audio; one core, the fastest of {ROUNDS} rounds")
    print(f"{'':8}{'s':>9}{'/ decode':>10}{'utterances/s':>14}{'hours/s':>9}")
    for name in ("decode", "cold", "warm"):
        taken = best[name]
        print(f"{name:8}{taken:9.3f}{taken / best['decode']:10.3f}{files / taken:14.0f}{seconds / 3600 / taken:9.2f}")
    print(f"start   {best['start']:9.3f}")
    for name, limit in (("cold", COLD_LIMIT), ("warm", WARM_LIMIT)):
        verdict = "reached" if best[name] / best["decode"] <= limit else "MISSED"
        print(f"{name}: at most {limit} of the decode: {verdict}")


if __name__ == "__main__":
    main()
