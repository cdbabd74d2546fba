"""Write the recordings, supervisions, cuts and ledger of one split."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.cutsets import build_cutset
from nuptse.errors import run_command
from nuptse.ledgers import Ledger


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--selected", type=Path, required=True, help="cuts of select_utterances.py")
    parser.add_argument("--selection", type=Path, required=True, help="its ledger")
    for kind in ("recordings", "supervisions", "cuts"):
        parser.add_argument(f"--{kind}", type=Path, required=True, help="output, JSONL.gz")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    ledger = Ledger.read(args.selection)
    outputs = {kind: getattr(args, kind) for kind in ("recordings", "supervisions", "cuts")}
    build_cutset(args.selected, outputs, ledger)
    ledger.write(args.ledger)
    print(ledger)


if __name__ == "__main__":
    run_command(main)
