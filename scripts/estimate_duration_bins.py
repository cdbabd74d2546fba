"""Write the duration-bucket edges of the blend that an experiment trains on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.duration_bins import Source, describe, plan_bins
from nuptse.durations import load_durations
from nuptse.errors import run_command, write_atomically


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--durations", type=Path, nargs="+", required=True, help="output of count_durations.py for each corpus"
    )
    parser.add_argument("--names", nargs="+", required=True, help="corpus/split of each")
    parser.add_argument("--weights", type=json.loads, required=True, help="JSON list: a weight or null for each")
    parser.add_argument("--num-buckets", type=int, required=True)
    parser.add_argument("--min-duration", type=json.loads, help="s or null")
    parser.add_argument("--max-duration", type=json.loads, help="s or null")
    parser.add_argument("--perturb-speed", type=json.loads, default=False, help="true or false")
    parser.add_argument("--bins", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    sources = [
        Source(name, load_durations(durations), weight)
        for name, durations, weight in zip(args.names, args.durations, args.weights, strict=True)
    ]
    plan = plan_bins(
        sources,
        args.num_buckets,
        min_duration=args.min_duration,
        max_duration=args.max_duration,
        perturb_speed=args.perturb_speed,
    )
    with write_atomically(args.bins) as partial:
        partial.write_text(json.dumps(plan, indent=2) + "\n")
    print(f"{args.bins}: {describe(plan)}")


if __name__ == "__main__":
    run_command(main)
