"""Download a .nemo file like any other, and refuse it if it is not a harmless archive."""

from __future__ import annotations

from collections.abc import Sequence

from download import main as download
from nuptse.errors import run_command
from nuptse.nemo_archive import check_nemo_archive


def main(argv: Sequence[str] | None = None) -> None:
    download(argv, check=check_nemo_archive)


if __name__ == "__main__":
    run_command(main)
