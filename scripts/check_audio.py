"""Decode the audio of every cut of a split, once, and write what it is; or do so for a group of its files ahead."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from nuptse.audio_cache import AudioCache
from nuptse.audio_checking import check_audio, facts
from nuptse.audio_facts import AudioFacts
from nuptse.audio_problems import AudioLimits, problems_of
from nuptse.audio_tally import Tally
from nuptse.errors import run_command, write_atomically
from nuptse.jsonl import row_writer
from nuptse.scratch import scratch_database


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--selected", type=Path, required=True, help="cuts of select_utterances.py")
    parser.add_argument("--cache", type=Path, required=True, help="folder of what earlier runs measured")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--limits", type=_limits, default=AudioLimits(), help="JSON; only for what is printed")
    parser.add_argument("--facts", type=Path, help="output, JSONL.gz: one row for each cut, in their order")
    parser.add_argument(
        "--group", type=int, nargs=2, metavar=("G", "N"), help="group G (from 0) of N of the files only"
    )
    parser.add_argument("--ledger", type=Path, help="output of a group, JSON; what it measured is in the cache")
    args = parser.parse_args(argv)
    group = tuple(args.group) if args.group else None
    tally = Tally()
    with ExitStack() as stack:
        database = stack.enter_context(scratch_database())
        cache = AudioCache(args.cache, database)
        effort = check_audio(args.selected, cache, database, args.workers, group)
        # Groups run side by side: none may tidy up what another one is about to read.
        cache.close(tidy=group is None)
        write = stack.enter_context(row_writer(args.facts)) if args.facts else None
        for row in facts(database):
            found = _decode(row)
            tally.add(found, problems_of(found, args.limits))
            if write:
                write(msgspec.Raw(row))
    if args.ledger:
        with write_atomically(args.ledger) as partial:
            partial.write_text(json.dumps({**dataclasses.asdict(effort), "utterances": tally.all.utterances}) + "\n")
    print("\n".join([*tally.lines(), f"{args.selected}: {effort}; {tally}"]))


_decode = msgspec.json.Decoder(AudioFacts).decode


def _limits(text: str) -> AudioLimits:
    return msgspec.json.decode(text, type=AudioLimits)


if __name__ == "__main__":
    run_command(main)
