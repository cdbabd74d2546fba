"""Write the recordings, supervisions, cuts and ledger of one split, with bad audio in quarantine if so wished."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nuptse.audio_problems import AudioLimits
from nuptse.cutsets import build_cutset
from nuptse.errors import announce, log_to, run_command
from nuptse.ledgers import Ledger


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--selected", type=Path, required=True, help="cuts of select_utterances.py")
    parser.add_argument("--selection", type=Path, required=True, help="its ledger")
    parser.add_argument("--rejected", type=Path, action="append", default=[], help="what the import left out, JSONL.gz")
    parser.add_argument("--audio", type=Path, help="output of check_audio.py: bad audio goes into quarantine")
    parser.add_argument("--limits", type=_limits, help="what bad audio is, JSON")
    for kind in ("recordings", "supervisions", "cuts", "quarantine"):
        parser.add_argument(f"--{kind}", type=Path, required=True, help="output, JSONL.gz")
    parser.add_argument("--ledger", type=Path, required=True, help="output, JSON")
    parser.add_argument("--log", type=Path, help="file that gets all output; warnings also reach the terminal")
    args = parser.parse_args(argv)
    if args.log:
        log_to(args.log)
    ledger = Ledger.read(args.selection)
    outputs = {kind: getattr(args, kind) for kind in ("recordings", "supervisions", "cuts", "quarantine")}
    build_cutset(args.selected, outputs, ledger, args.audio, args.limits, args.rejected)
    ledger.write(args.ledger)
    for warning in ledger.remarks(ledger.quarantined):
        announce(f"WARNING: {warning}")
    print(ledger)


def _limits(text: str) -> AudioLimits:
    return msgspec.json.decode(text, type=AudioLimits)


if __name__ == "__main__":
    run_command(main)
