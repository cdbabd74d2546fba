"""Transcribe audio of one's own with a NeMo model: a row for each recording, long ones in several pieces."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.decoding import parse_decoding
from nuptse.errors import log_to, run_command
from nuptse.folder_lock import folder_lock
from nuptse.runtime import prepare_runtime


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help=".nemo")
    parser.add_argument("--cuts", type=Path, required=True, help="pieces of the recordings, by list_audio.py")
    parser.add_argument("--recordings", type=Path, required=True, help="the recordings, by list_audio.py")
    parser.add_argument("--transcripts", type=Path, required=True, help="output, JSONL in NeMo's manifest form")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-duration", type=float, default=120.0, help="seconds of audio, padding counted")
    parser.add_argument("--decoding", default="{}", help="JSON, merged over the model's own decoding options")
    parser.add_argument("--log", type=Path, help="file for all output; the progress stays on the terminal as well")
    args = parser.parse_args(argv)
    if args.log:
        log_to(args.log)
    decoding = parse_decoding(args.decoding)
    prepare_runtime()  # before NeMo is imported
    from nuptse.joining import publish_recordings
    from nuptse.transcribing import Task, transcribe

    # As in transcribe.py; the folder is that of all recognisers, who transcribe at the same time.
    folder = args.transcripts.parent
    with folder_lock(folder, folder / f".{args.transcripts.stem}.lock"):
        transcribe(
            args.model,
            [Task(args.cuts, args.transcripts, supervisions=0)],
            threads=args.threads,
            batch_duration=args.batch_duration,
            decoding=decoding,
            publish=publish_recordings(args.recordings),
        )


if __name__ == "__main__":
    run_command(main)
