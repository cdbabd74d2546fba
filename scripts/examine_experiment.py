"""Examine the data and the plan of one experiment, before it is trained."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.diagnosis import diagnose
from nuptse.errors import announce, log_to, run_command, say
from nuptse.examination import SplitFiles, examine
from nuptse.findings import write_report


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="of the experiment, JSON")
    parser.add_argument("--base", type=Path, required=True, help="base model, .nemo")
    parser.add_argument("--bins", type=Path, required=True, help="duration bins of the experiment, JSON")
    parser.add_argument("--splits", nargs="+", required=True, metavar="CORPUS/SPLIT", help="all that it uses")
    parser.add_argument("--cuts", type=Path, nargs="+", required=True, help="of each split")
    parser.add_argument("--ledgers", type=Path, nargs="+", required=True, help="of each split")
    parser.add_argument(
        "--audio", type=Path, nargs="*", default=[], help="{corpus}_audio_{split}.jsonl.gz, where audio was decoded"
    )
    parser.add_argument("--shards", type=Path, nargs="*", default=[], help="shard ledger of each training split")
    parser.add_argument("--report", type=Path, required=True, help="output, JSON")
    parser.add_argument("--log", type=Path, help="file for the findings; one line stays on the terminal as well")
    args = parser.parse_args(argv)
    if args.log:
        log_to(args.log)
    facts = {path.name: path for path in args.audio}
    audio = [facts.get(f"{name.replace('/', '_audio_')}.jsonl.gz") for name in args.splits]
    splits = [SplitFiles(*files) for files in zip(args.splits, args.cuts, args.ledgers, audio, strict=True)]
    trained_on = [f"{entry['corpus']}/{entry['split']}" for entry in args.settings["train"]]
    shards = dict(zip(trained_on, args.shards, strict=True)) if args.shards else {}
    report = examine(args.settings, args.base, args.bins, splits, shards)
    write_report(report, args.report)
    # Errors are no failure of this step: the report has to be there, and a training refuses it.
    headline, *findings = diagnose([report])
    announce(headline)
    for line in findings:
        say(line)


if __name__ == "__main__":
    run_command(main)
