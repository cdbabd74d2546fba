"""Write one group of shards: tars, their manifests and, last, the ledger of the group."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import UserError, run_command
from nuptse.shard_ledger import group_shards
from nuptse.shard_members import FORMS
from nuptse.shard_plan import load_plan
from nuptse.shard_records import code_state
from nuptse.shards import write_group
from nuptse.sources import source_files


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="the manifest that was planned, JSONL")
    parser.add_argument("--plan", type=Path, required=True, help="output of plan_shards.py")
    parser.add_argument("--group", type=int, required=True, help="which group, from 0")
    parser.add_argument("--shards-per-job", type=int, required=True, help="size of a group; the last may be smaller")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of all shards")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--audio", choices=list(FORMS), help="write all audio in this form; without it as it is")
    parser.add_argument("--repair", default="[]", help="JSON list of repairs so far, kept in the ledger")
    args = parser.parse_args(argv)
    plan = load_plan(args.plan)
    shard_ids = group_shards(args.group, args.shards_per_job, plan.num_shards)
    shards, kept = write_group(
        args.manifest,
        plan,
        shard_ids,
        args.output_dir,
        args.ledger,
        parse_repairs(args.repair),
        args.workers,
        code_state(source_files(Path(__file__))),
        args.audio,
    )
    planned = sum(len(plan.lines(shard_id)) for shard_id in shard_ids)
    written = sum(shard["utterances"] for shard in shards)
    hours = math.fsum(shard["duration_s"] for shard in shards) / 3600
    print(
        f"{args.output_dir}: shards {shard_ids[0]} to {shard_ids[-1]}: {planned} utterances in, "
        f"{written} utterances and {hours:.2f} hours out, dropped {planned - written}; "
        f"{len(shards) - kept} shards written, {kept} were there"
    )


def parse_repairs(text: str) -> list[str]:
    """Read the list of ``nuptse.shard_ledger.repairs`` from JSON."""
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise UserError(f"--repair {text!r} is not JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"--repair {text!r} is not a list of strings")
    return entries


if __name__ == "__main__":
    run_command(main)
