"""Write a CutSet as a NeMo JSON manifest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.cutsets import nemo_rows
from nuptse.errors import run_command
from nuptse.jsonl import row_writer
from nuptse.ledgers import Amount


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=Path, required=True, help="cuts, JSONL.gz")
    parser.add_argument("--manifest", type=Path, required=True, help="output, JSON lines")
    args = parser.parse_args(argv)
    written = Amount()
    with row_writer(args.manifest) as write:
        for row in nemo_rows(args.cuts):
            write(row)
            written.add(row["duration"])
    print(f"{args.manifest}: in and out: {written}; dropped: 0")


if __name__ == "__main__":
    run_command(main)
