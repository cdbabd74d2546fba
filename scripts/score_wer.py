"""Count the word and character errors of one recogniser on one set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.bootstrap import RESAMPLES
from nuptse.errors import run_command
from nuptse.jsonl import read_rows
from nuptse.scoring import Transcript, make_normalizer, read_timing, score_utterances, summarize_set, write_scores


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transcripts", type=Path, required=True, help="id, duration, text, pred_text; JSONL(.gz)")
    parser.add_argument("--timing", type=Path, help="seconds, audio_seconds and device of the decoding, JSON")
    parser.add_argument("--recogniser", required=True, help="name of the model")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--normalizer", required=True, help="none, lower or whisper_english")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="of the bootstrap; default: %(default)s")
    parser.add_argument("--seed", type=int, required=True, help="of the bootstrap")
    parser.add_argument("--scores", type=Path, required=True, help="output, JSON")
    args = parser.parse_args(argv)
    make_normalizer(args.normalizer)  # a wrong name shows before a long file is read
    timing = read_timing(args.timing) if args.timing else None
    utterances = score_utterances(read_rows(args.transcripts, Transcript), args.normalizer)
    what = {"recogniser": args.recogniser, "corpus": args.corpus, "split": args.split, "normalizer": args.normalizer}
    result = summarize_set(utterances, resamples=args.resamples, seed=args.seed)
    write_scores(args.scores, what | {"timing": timing} | result)
    words, characters = result["words"], result["characters"]
    rates = "" if words["rate"] is None else f": WER {100 * words['rate']:.2f} %, CER {100 * characters['rate']:.2f} %"
    print(
        f"{args.transcripts}: {result['utterances']} utterances and {result['hours']:.2f} hours in, dropped 0;"
        f" {args.recogniser} makes {words['errors']} errors on {words['length']} words{rates}"
    )


if __name__ == "__main__":
    run_command(main)
