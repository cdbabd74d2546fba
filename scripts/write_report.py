"""Write the page of results, and every chart of it as SVG and PNG."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.costs import read_costs
from nuptse.errors import run_command, write_atomically
from nuptse.figures import write_figures
from nuptse.gallery import make_gallery
from nuptse.page import Account, render_page
from nuptse.results import read_run
from nuptse.wer_table import parse_bases


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    several = {"nargs": "*", "action": "extend", "default": []}
    parser.add_argument("--table", type=Path, required=True, help="results/wer.tsv")
    parser.add_argument("--comparisons", type=Path, required=True, help="results/wer_comparisons.tsv")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="outputs of score_wer.py")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="results/<experiment>/train.json")
    parser.add_argument("--ledgers", type=Path, nargs="+", required=True, help="of the splits that are used")
    parser.add_argument("--doctor", type=Path, nargs="+", required=True, help="results/doctor/<experiment>.json")
    parser.add_argument("--base", **several, metavar="EXPERIMENT=BASE", help="what was fine-tuned from what")
    parser.add_argument("--same-data", **several, metavar="A,B", help="experiments that differ in layout only")
    parser.add_argument("--settings", type=json.loads, required=True, help="of the page, JSON")
    parser.add_argument("--configfile", **several, help="configuration files that the run was started with")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of what the jobs cost")
    parser.add_argument("--page", type=Path, required=True, help="output, HTML")
    parser.add_argument("--figures", type=Path, required=True, help="output, a folder")
    args = parser.parse_args(argv)
    run = read_run(
        settings=args.settings,
        bases=parse_bases(args.base),
        same_data=[group.split(",") for group in args.same_data],
        table=args.table,
        comparisons=args.comparisons,
        scores=args.scores,
        experiments=[path.parent for path in args.train],
        ledgers=args.ledgers,
        reports=args.doctor,
    )
    names = {name for split in run.ledgers for name in (split[0], "_".join(split))} | {*run.recognisers, "all"}
    names |= set(args.settings["models"])  # those too that a base was made from
    account = Account(*read_costs(args.benchmarks, args.settings["steps"], names))
    gallery = make_gallery(run, account.costs)
    number = write_figures(gallery.charts, args.figures)
    with write_atomically(args.page) as partial:
        partial.write_text(render_page(run, gallery, account, args.configfile), "utf-8")
    print(f"{args.figures}: {number} charts, each as SVG and PNG")
    print(f"The page of results: {args.page.resolve().as_uri()}")


if __name__ == "__main__":
    run_command(main)
