"""Break the workflow on purpose, at random moments, and see that the next run puts everything right.

    make drills                            # every fault in every rule where it makes sense, once
    make drills ARGS="--rules tar_shards finetune_model --rounds 5 --seed 7"
    make drills ARGS="--faults 'disk full' 'file cut short'"

A complete run of config/test.yaml is the reference. Each drill copies it, runs one rule again, injects one fault (see
faults.py), and then gives the same command once more, after `--unlock` or what a message tells to delete. It has survived
if that command ends well, a further one has nothing to do, and all data and every model are the same bytes as in the
reference; and if the user was told, without a traceback, where there is somebody to tell.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faults import FAULTS, Fault, can_mount
from runs import TARGETS, Lost, Run, differences, fingerprints, make_reference, messages, undisturbed


@dataclass(frozen=True)
class Outcome:
    """How a drill went.

    Attributes:
        hit: whether the fault met what it was meant for, such as a job at work.
        shown: what the user was told.
        lost: why it was lost, if it was.
    """

    hit: bool
    shown: str = ""
    lost: str = ""


def run_drill(reference: Path, rule: str, fault: Fault, chance: random.Random) -> Outcome:
    """Break one run of one rule, run again, and compare; the folder is removed if all is well."""
    run, hit, lost = Run(reference, rule, chance), False, ""
    try:
        hit = fault.inject(run)
        _see_message(run, fault)
        run.put_right()
        wanted = run.wanted or undisturbed(reference, rule, run.settings)
        lost = differences(wanted, fingerprints(run.folder))
    except Lost as reason:
        lost = str(reason)
    finally:
        run.cleanup.close()
    shown = " ".join(filter(None, [run.note and f"[{run.note}]", *messages(run.shown)[:1]]))
    if lost:
        return Outcome(hit, shown, f"LOST: {lost}; see {run.folder}")
    shutil.rmtree(run.folder)
    return Outcome(hit, shown)


def _see_message(run: Run, fault: Fault) -> None:
    if not (run.failed and fault.says):
        return
    if re.search(r'^\s*File ".*/scripts/', run.shown, re.MULTILINE):  # Snakemake's own are not ours to mend
        raise Lost("the broken run shows a traceback")
    if not re.search(fault.says, run.shown):
        raise Lost(f"the broken run does not say {fault.says!r}")


def drills(
    reference: Path, rules: list[str], faults: list[Fault], *, rounds: int, seed: int, jobs: int
) -> Iterator[tuple[str, Fault, Outcome, float]]:
    """Yield the outcome of every fault in every rule where it makes sense, ``rounds`` times, each at another moment.

    With the outcome comes how long it took, in seconds.
    """

    def drill(rule: str, fault: Fault, number: int) -> tuple[str, Fault, Outcome, float]:
        began = time.monotonic()
        outcome = run_drill(reference, rule, fault, random.Random(f"{seed} {number} {rule} {fault.name}"))
        return rule, fault, outcome, time.monotonic() - began

    plan = [(rule, fault, n) for n in range(rounds) for rule in rules for fault in faults if rule in fault.rules]
    pool = ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(lambda planned: drill(*planned), plan)
    finally:
        pool.shutdown(cancel_futures=True)


def table(outcomes: list[tuple[str, Fault, Outcome]], title: str, key: Callable[[str, Fault], str]) -> Iterator[str]:
    """Yield the lines of a table of counts."""
    counts: dict[str, Counter[str]] = {"all": Counter()}
    for rule, fault, outcome in outcomes:
        for row in (key(rule, fault), "all"):
            counts.setdefault(row, Counter()).update(
                {
                    "injected": 1,
                    "hit": int(outcome.hit),
                    "survived": int(not outcome.lost),
                    "lost": int(bool(outcome.lost)),
                }
            )
    yield f"\n| {title} | injected | while at work | survived | lost |\n|---|---:|---:|---:|---:|"
    for row in [*(row for row in counts if row != "all"), "all"]:
        yield (
            f"| {row} | "
            + " | ".join(str(counts[row][name]) for name in ("injected", "hit", "survived", "lost"))
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="RULE")
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--faults", nargs="+", choices=names, default=names, metavar="FAULT")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="drills side by side: each waits for most of its time")
    parser.add_argument("--reference", type=Path, help="folder of a complete run of config/test.yaml, if there is one")
    args = parser.parse_args()
    faults = [fault for fault in FAULTS if fault.name in args.faults]
    if not can_mount():
        for fault in [fault for fault in faults if fault.mounts]:
            print(f"{fault.name}: left out, it needs root to mount a disk")
            faults.remove(fault)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="nuptse-reference-") as folder:
        reference = args.reference or Path(folder)
        if not args.reference:
            make_reference(reference)
        amount = {"rounds": args.rounds, "seed": args.seed, "jobs": args.jobs}
        for rule, fault, outcome, seconds in drills(reference, args.rules, faults, **amount):
            outcomes.append((rule, fault, outcome))
            late = "" if outcome.hit else " (it met no job at work)"
            print(f"{rule}: {fault.name}: {outcome.lost or 'survived'}{late}, {seconds:.0f} s", flush=True)
            if outcome.shown:
                print(f"    {outcome.shown}", flush=True)
    for title, key in (("rule", lambda rule, _: f"`{rule}`"), ("fault", lambda _, fault: fault.name)):
        print("\n".join(table(outcomes, title, key)))
    sys.exit(any(outcome.lost for _, _, outcome in outcomes))


if __name__ == "__main__":
    main()
