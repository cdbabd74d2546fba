"""Show what the text profile does to the transcripts of one split."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command, write_atomically
from nuptse.scratch import scratch_database
from nuptse.selection import Tables
from nuptse.text_samples import in_words, sample_texts
from select_utterances import add_selection, selection_of


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_selection(parser)
    parser.add_argument("--samples", type=int, default=3, help="for each step that changes something")
    parser.add_argument("--output", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    selection = selection_of(args)
    names = {"corpus": args.corpus, "split": args.split}
    with scratch_database() as database:
        rows = (row for row, _ in Tables(database, args.recipe_dir, selection).rows())
        report = names | sample_texts(rows, selection.text, selection.language, args.samples)
    with write_atomically(args.output) as partial:
        partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(in_words(report))


if __name__ == "__main__":
    run_command(main)
