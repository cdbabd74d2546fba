"""Decide which utterance of a NeMo manifest goes into which shard."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import nuptse.one_thread  # noqa: F401 -- before NumPy
from nuptse.errors import UserError, run_command
from nuptse.shard_plan import ShardPlan, load_plan, save_plan
from nuptse.shard_planning import plan_shards


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="NeMo manifest, JSONL")
    parser.add_argument("--num-shards", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True, help="another seed gives another order")
    parser.add_argument(
        "--plan", type=Path, required=True, help="output; if it is there, a corpus that grew keeps its shards"
    )
    args = parser.parse_args(argv)
    plan = plan_shards(args.manifest, args.num_shards, args.seed, earlier_plan(args.plan))
    save_plan(plan, args.plan)
    print(
        f"{args.manifest}: {plan.utterances} utterances and {plan.duration_s / 3600:.2f} hours in, "
        f"planned for {plan.num_shards} shards, dropped 0; {plan.kept} stay in their shards"
    )


def earlier_plan(path: Path) -> ShardPlan | None:
    """Return the plan that stands there, unless there is none, or one of an earlier release."""
    if not path.exists():
        return None
    try:
        return load_plan(path)
    except UserError:
        return None


if __name__ == "__main__":
    run_command(main)
