"""Write the recordings, supervisions, cuts and ledger of one split."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command, write_atomically
from nuptse.manifests import Ledger, build_cutset


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe-dir", type=Path, required=True, help="output folder of prepare_manifests.py")
    parser.add_argument("--part", required=True, help="the recipe's name of the split")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--text", type=json.loads, required=True, help="text profile, JSON list of steps")
    for kind in ("recordings", "supervisions", "cuts"):
        parser.add_argument(f"--{kind}", type=Path, required=True, help="output, JSONL.gz")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    ledger = Ledger(args.corpus, args.split)
    outputs = {kind: getattr(args, kind) for kind in ("recordings", "supervisions", "cuts")}
    build_cutset(args.recipe_dir, args.part, outputs, args.text, args.language, ledger)
    with write_atomically(args.ledger) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(ledger), indent=2) + "\n")
    print(ledger)


if __name__ == "__main__":
    run_command(main)
