"""Select the utterances of one split: deal them out, apply the text profile and the filters, account for every one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import announce, log_to, run_command
from nuptse.selection import Selection, select_utterances
from nuptse.splits import Shares


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_selection(parser)
    parser.add_argument("--selected", type=Path, required=True, help="output, cuts, JSONL.gz")
    parser.add_argument("--dropped", type=Path, required=True, help="output, what is left out and why, JSONL.gz")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    parser.add_argument("--log", type=Path, help="file that gets all output; warnings also reach the terminal")
    args = parser.parse_args(argv)
    if args.log:
        log_to(args.log)
    ledger, dealt = select_utterances(args.recipe_dir, selection_of(args), args.selected, args.dropped)
    ledger.write(args.ledger)
    for warning in [*(dealt.warnings() if dealt else []), *ledger.remarks(ledger.dropped)]:
        announce(f"WARNING: {warning}")
    for line in dealt.lines() if dealt else []:
        print(line)
    if ledger.removed_characters:
        print("characters removed by `keep`:", ", ".join(f"{c!r} {n}" for c, n in ledger.removed_characters.items()))
    print(ledger)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a split is made of."""
    parser.add_argument("--recipe-dir", type=Path, required=True, help="output folder of prepare_manifests.py")
    parser.add_argument("--part", action="append", required=True, help="the source's name of a part; may be repeated")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--text", type=json.loads, required=True, help="text profile, JSON list of steps")
    parser.add_argument("--filters", type=json.loads, default={}, help="JSON, see nuptse.filters")
    parser.add_argument("--split-by", type=json.loads, help="JSON with unit, key and shares, see nuptse.splits")


def selection_of(args: argparse.Namespace) -> Selection:
    shares = Shares(**args.split_by) if args.split_by else None
    return Selection(args.corpus, args.split, args.part, args.language, args.text, args.filters, shares)


if __name__ == "__main__":
    run_command(main)
