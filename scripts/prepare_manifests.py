"""Read a corpus from its source and keep its recordings and supervisions."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from nuptse.archive_ledger import check_tree
from nuptse.converting import Converter, Policy
from nuptse.corpus_import import Import, import_corpus
from nuptse.errors import run_command
from nuptse.source_settings import Source


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="corpus", help="its name, for messages")
    parser.add_argument("--corpus-dir", default="", help="folder that relative paths of the source start from")
    parser.add_argument("--ledger", type=Path, help="what was unpacked there, to be checked first")
    parser.add_argument("--source", type=json.loads, help="kind, parts and options, JSON; or give --recipe")
    parser.add_argument("--recipe", help="name of a Lhotse recipe, such as librispeech")
    parser.add_argument("--recipe-root", default=".", help="folder inside the corpus folder that the recipe is given")
    parser.add_argument("--options", type=json.loads, default={}, help="further arguments of the recipe, JSON")
    parser.add_argument("--policy", type=json.loads, default={}, help="sampling_rate and channels, JSON")
    parser.add_argument("--exclude", action="store_true", help="leave out what has no usable audio instead of failing")
    parser.add_argument("--changes", type=json.loads, default=[], help="changes so far, kept in the ledger, JSON")
    parser.add_argument(
        "--converted-dir", type=Path, default=Path("data/converted"), help="for audio that is converted"
    )
    parser.add_argument("--num-jobs", type=int, default=1)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.ledger:
        check_tree(Path(args.corpus_dir), args.ledger)
    if args.source:
        source = Source(**args.source)
    else:
        source = Source(
            "recipe", {"all": args.recipe}, {"recipe_root": args.recipe_root, "recipe_options": args.options}
        )
    partial = args.output_dir.with_name(args.output_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    converter = Converter(args.converted_dir, Policy(**args.policy), args.corpus)
    task = Import(args.corpus, source, Path(args.corpus_dir), converter, args.num_jobs, args.exclude, args.changes)
    print(import_corpus(task, partial))
    shutil.rmtree(args.output_dir, ignore_errors=True)
    partial.replace(args.output_dir)


if __name__ == "__main__":
    run_command(main)
