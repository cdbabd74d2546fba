"""Complete a folder of shards: check that no utterance is missing, write its manifest and ledger."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command
from nuptse.shard_index import index_shards
from nuptse.shard_ledger import read_ledger
from nuptse.shard_plan import load_plan


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="output of plan_shards.py")
    parser.add_argument(
        "--group-ledger",
        type=Path,
        required=True,
        action="extend",
        nargs="+",
        help="ledgers of all groups, JSON; may be repeated",
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of all shards")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    plan = load_plan(args.plan)
    stale = index_shards(plan, args.group_ledger, args.output_dir, args.ledger)
    if stale:
        print(f"{args.output_dir}: removed {len(stale)} files of an earlier run: {', '.join(stale)}")
    total = read_ledger(args.ledger)
    print(
        f"{args.output_dir}: {plan.utterances} utterances and {plan.duration_s / 3600:.2f} hours in, "
        f"{total['utterances']} utterances and {total['duration_s'] / 3600:.2f} hours out "
        f"in {total['num_shards']} shards, dropped {plan.utterances - total['utterances']}"
    )


if __name__ == "__main__":
    run_command(main)
