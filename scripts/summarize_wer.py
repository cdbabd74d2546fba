"""Write the table of error rates and the table of comparisons, and warn of what went wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.bootstrap import RESAMPLES
from nuptse.errors import run_command
from nuptse.wer_table import compare, parse_bases, read_scores, readable, tabulate, warnings_for, write_tsv


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scores", type=Path, nargs="+", action="extend", required=True, help="outputs of score_wer.py"
    )
    several = {"nargs": "*", "action": "extend", "default": []}
    parser.add_argument("--base", **several, metavar="EXPERIMENT=BASE", help="what was fine-tuned from what")
    parser.add_argument("--same-data", **several, metavar="A,B", help="experiments that differ in layout only")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="of the bootstrap; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap; default: %(default)s")
    parser.add_argument("--table", type=Path, required=True, help="output, TSV")
    parser.add_argument("--comparisons", type=Path, required=True, help="output, TSV")
    args = parser.parse_args(argv)
    bases = parse_bases(args.base)
    same_data = [group.split(",") for group in args.same_data]
    scores = read_scores(args.scores, bases, same_data)
    table = tabulate(scores, bases)
    comparisons = compare(scores, bases, resamples=args.resamples, seed=args.seed)
    write_tsv(table, args.table)
    write_tsv(comparisons, args.comparisons)
    print(readable(table))
    for line in warnings_for(comparisons, bases, same_data):
        print(f"WARNING: {line}")
    print(f"{args.table}: {len(table)} rows; {args.comparisons}: {len(comparisons)} rows")


if __name__ == "__main__":
    run_command(main)
