"""Unpack the archives of a corpus into one directory and count what came out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.archives import extract
from nuptse.errors import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--archive",
        action="extend",
        nargs="+",
        type=Path,
        required=True,
        dest="archives",
        help="tar or zip; repeat for more",
    )
    parser.add_argument("--output", type=Path, required=True, help="directory to make")
    parser.add_argument("--ledger", type=Path, required=True, help="counts of files and bytes, JSON")
    args = parser.parse_args(argv)
    made = extract(args.archives, args.output, args.ledger)
    packed = sum(archive.bytes for archive in made.archives)
    shadowed = sum(archive.shadowed for archive in made.archives)
    print(
        f"{args.output}: {len(made.archives)} archives, {packed} bytes in;"
        f" {made.files} files, {made.bytes} bytes out; {shadowed} shadowed"
    )


if __name__ == "__main__":
    run_command(main)
