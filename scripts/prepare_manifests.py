"""Run the Lhotse recipe of a corpus and keep its recordings and supervisions."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from nuptse.archive_ledger import check_tree
from nuptse.errors import run_command
from nuptse.manifests import prepare_recipe


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True, help="name of a Lhotse recipe, such as librispeech")
    parser.add_argument("--corpus-dir", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--ledger", type=Path, help="what was unpacked there, to be checked first")
    parser.add_argument("--recipe-root", default=".", help="folder inside it that the recipe is given")
    parser.add_argument("--options", type=json.loads, default={}, help="further arguments of the recipe, JSON")
    parser.add_argument("--num-jobs", type=int, default=1)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.ledger:
        check_tree(args.corpus_dir, args.ledger)
    partial = args.output_dir.with_name(args.output_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    print(prepare_recipe(args.recipe, args.corpus_dir / args.recipe_root, args.options, partial, args.num_jobs))
    shutil.rmtree(args.output_dir, ignore_errors=True)
    partial.replace(args.output_dir)


if __name__ == "__main__":
    run_command(main)
