"""Count how many cuts of a split last how long."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.durations import count_durations, save_durations
from nuptse.errors import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=Path, required=True, help="cuts, JSONL(.gz)")
    parser.add_argument("--durations", type=Path, required=True, help="output, NPZ")
    args = parser.parse_args(argv)
    counted = count_durations(args.cuts)
    save_durations(counted, args.durations)
    print(
        f"{args.durations}: {counted.utterances} utterances, {counted.seconds / 3600:.3f} h in and out;"
        f" {len(counted.values)} distinct durations"
    )


if __name__ == "__main__":
    run_command(main)
