"""Give a model a tokenizer for the given transcripts, and an untrained decoder; all its other weights stay."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command
from nuptse.models import adapt_model
from nuptse.runtime import prepare_runtime


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the model that it is made of, .nemo")
    parser.add_argument("--adaptation", type=json.loads, required=True, help="`tokenizer` and `seed`, JSON")
    parser.add_argument("--cuts", type=Path, nargs="+", required=True, help="cuts whose transcripts it must know")
    parser.add_argument("--model", type=Path, required=True, help="output, .nemo")
    args = parser.parse_args(argv)
    prepare_runtime()
    print(adapt_model(args.base, args.adaptation, args.cuts, args.model))


if __name__ == "__main__":
    run_command(main)
