"""Download a pretrained model of the Hugging Face Hub or of NGC by its NeMo name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command
from nuptse.pretrained import fetch_pretrained
from nuptse.runtime import prepare_runtime


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="such as nvidia/stt_en_conformer_ctc_small")
    parser.add_argument("--sha256", help="expected checksum, hexadecimal")
    parser.add_argument("--bytes", type=int, dest="size", help="expected size in bytes")
    parser.add_argument("--model", type=Path, required=True, help="output, .nemo")
    args = parser.parse_args(argv)
    prepare_runtime()
    print(fetch_pretrained(args.name, args.model, sha256=args.sha256, size=args.size))


if __name__ == "__main__":
    run_command(main)
