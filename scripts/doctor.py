"""Show the findings about all experiments at once; the exit status is 1 if there are errors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nuptse.diagnosis import diagnose, refusal
from nuptse.errors import UserError, run_command
from nuptse.findings import read_report


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=Path, nargs="+", required=True, help="results/doctor/<experiment>.json")
    args = parser.parse_args(argv)
    reports = [read_report(path) for path in args.reports]
    for line in diagnose(reports):
        print(line, flush=True)
    if reason := refusal(reports):
        raise UserError(reason)


if __name__ == "__main__":
    run_command(main)
