"""Write the model card of an experiment, in the form of the Hugging Face Hub; nothing is looked up there."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command, write_atomically
from nuptse.jsonl import read_json
from nuptse.model_card import model_card, read_data, read_scores


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=json.loads, required=True, help="of the configuration, JSON object")
    parser.add_argument("--train", type=Path, required=True, help="train.json of the experiment")
    parser.add_argument("--cuts", type=Path, nargs="+", required=True, help="training cuts, JSONL.gz")
    parser.add_argument("--ledgers", type=Path, nargs="+", required=True, help="their ledgers, in the same order")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="of the experiment, JSON")
    parser.add_argument("--base-scores", type=Path, nargs="+", required=True, help="of its base, in the same order")
    parser.add_argument("--configfile", nargs="*", default=[], help="configuration files of the run, for its commands")
    parser.add_argument("--template", type=Path, required=True, help="Jinja2")
    parser.add_argument("--card", type=Path, required=True, help="output, Markdown")
    args = parser.parse_args(argv)
    pairs = list(zip(map(read_scores, args.scores), map(read_scores, args.base_scores), strict=True))
    data = [read_data(cuts, ledger) for cuts, ledger in zip(args.cuts, args.ledgers, strict=True)]
    template = args.template.read_text(encoding="utf-8")
    content = model_card(args.facts, read_json(args.train, dict), data, pairs, template, args.configfile)
    with write_atomically(args.card) as partial:
        partial.write_text(content, encoding="utf-8")
    print(f"{args.card}: {len(pairs)} splits, {sum(split.utterances for split in data)} training utterances")


if __name__ == "__main__":
    run_command(main)
