"""Transcribe sets of utterances with a NeMo model, and measure how fast it is; one model, any number of sets."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from nuptse.decoding import parse_decoding
from nuptse.errors import log_to, run_command
from nuptse.folder_lock import folder_lock
from nuptse.runtime import prepare_runtime


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help=".nemo")
    parser.add_argument("--cuts", type=Path, nargs="+", required=True, help="cuts of each set, JSONL(.gz)")
    parser.add_argument("--names", nargs="+", required=True, help="name of each set, for its files")
    parser.add_argument(
        "--output-dir", type=Path, required=True, help="gets NAME.jsonl in NeMo's manifest form and NAME.json"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-duration", type=float, default=120.0, help="seconds of audio, padding counted")
    parser.add_argument("--decoding", default="{}", help="JSON, merged over the model's own decoding options")
    parser.add_argument("--log", type=Path, help="file for all output; the progress stays on the terminal as well")
    args = parser.parse_args(argv)
    if args.log:
        log_to(args.log)
    if len(args.cuts) != len(args.names):
        parser.error("give as many --names as --cuts")
    decoding = parse_decoding(args.decoding)
    prepare_runtime()  # before NeMo is imported
    from nuptse.transcribing import Task, transcribe

    # Not in the folder itself, which Snakemake deletes before a job: what a killed run has done would be lost.
    aside = args.output_dir.with_name(f"{args.output_dir.name}.partial")
    tasks = [Task(cuts, aside / f"{name}.jsonl") for cuts, name in zip(args.cuts, args.names, strict=True)]
    # A job may outlive a Snakemake that was killed. The lock stays where it is when the folder gets its name.
    with folder_lock(aside, args.output_dir.with_name(f".{args.output_dir.name}.lock")):
        aside.mkdir(parents=True, exist_ok=True)  # the one before has given it away
        transcribe(args.model, tasks, threads=args.threads, batch_duration=args.batch_duration, decoding=decoding)
        shutil.rmtree(args.output_dir, ignore_errors=True)
        aside.replace(args.output_dir)


if __name__ == "__main__":
    run_command(main)
