"""Select the utterances of one split: apply its text profile, and account for every one that is left out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command
from nuptse.ledgers import Ledger
from nuptse.selection import select_utterances


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe-dir", type=Path, required=True, help="output folder of prepare_manifests.py")
    parser.add_argument("--part", required=True, help="the recipe's name of the split")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--text", type=json.loads, required=True, help="text profile, JSON list of steps")
    parser.add_argument("--selected", type=Path, required=True, help="output, cuts, JSONL.gz")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    ledger = Ledger(args.corpus, args.split)
    select_utterances(args.recipe_dir, args.part, args.selected, args.text, args.language, ledger)
    ledger.write(args.ledger)
    print(ledger)


if __name__ == "__main__":
    run_command(main)
