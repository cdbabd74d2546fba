"""Download a file from the first of several mirrors that gives it whole."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from nuptse.addresses import handed_over
from nuptse.downloads import fetch
from nuptse.errors import run_command


def main(argv: Sequence[str] | None = None, check: Callable[[Path], None] | None = None) -> None:
    """Run the command; ``check`` refuses a file before it gets its name."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--url", action="extend", nargs="+", dest="urls", help="http(s), file:/// or a path; repeat for mirrors"
    )
    source.add_argument("--addresses", type=Path, help="JSON, the mirrors of each output: not to be seen in `ps`")
    parser.add_argument("--sha256", help="expected checksum, hexadecimal")
    parser.add_argument("--bytes", type=int, dest="size", help="expected size in bytes")
    parser.add_argument("--locks", type=Path, required=True, help="directory of the lock files")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    args = parser.parse_args(argv)
    urls = args.urls or handed_over(args.addresses, args.output)
    fetch(urls, args.output, sha256=args.sha256, size=args.size, locks=args.locks, check=check)


if __name__ == "__main__":
    run_command(main)
