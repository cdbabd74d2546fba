"""List audio of one's own as cuts to transcribe, long recordings cut at their pauses; say what was left out and why."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from nuptse.errors import run_command, write_atomically
from nuptse.recordings import list_audio


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--audio", type=Path, required=True, help="a folder, an audio file, a NeMo manifest or Lhotse cuts"
    )
    parser.add_argument("--threads", type=int, default=1, help="files decoded at a time")
    parser.add_argument("--cuts", type=Path, required=True, help="output, JSONL.gz")
    parser.add_argument("--recordings", type=Path, required=True, help="output, JSONL")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    ledger = list_audio(args.audio, args.cuts, args.recordings, args.threads)
    with write_atomically(args.ledger) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(ledger), indent=1, ensure_ascii=False) + "\n")
    print(ledger)


if __name__ == "__main__":
    run_command(main)
