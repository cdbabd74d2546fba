"""Check tar shards that are used as they are, and write their ledger."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command, write_atomically
from nuptse.ledgers import Ledger
from nuptse.nemo_shards import index_nemo_shards
from nuptse.source_settings import expand_shards


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument(
        "--manifests", required=True, help="one for each shard, as NeMo writes it: a__OP_0..31_CL_.json"
    )
    parser.add_argument("--tars", required=True, help="one for each shard")
    parser.add_argument("--repair", default="[]", help="JSON list of losses so far, kept in the ledger")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the ledger")
    parser.add_argument("--cuts", type=Path, required=True, help="output: cuts without audio, JSONL.gz")
    parser.add_argument("--utterances", type=Path, required=True, help="output: ledger of utterances, JSON")
    args = parser.parse_args(argv)
    ledger = Ledger(args.corpus, args.split)
    found = index_nemo_shards(
        expand_shards(args.manifests),
        expand_shards(args.tars),
        args.output_dir,
        args.cuts,
        ledger,
        args.threads,
        repairs=json.loads(args.repair),
    )
    with write_atomically(args.utterances) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(ledger), indent=2) + "\n")
    print(f"{ledger}; {found['num_shards']} shards, {found['tar_bytes']} bytes, used as they are")


if __name__ == "__main__":
    run_command(main)
