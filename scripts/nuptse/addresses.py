"""Addresses of downloads on their way from the configuration to the jobs.

An address may hold a password. Snakemake shows the command and the params of a job that fails, keeps them in its log
and its metadata, and everybody on the machine sees a command line. So the addresses go through a file that only the
user may read, and that is there only as long as Snakemake runs.

Standard library only: Snakemake writes the file when it starts.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Mapping
from pathlib import Path

from nuptse.errors import UserError, write_atomically


def hand_over(store: Path, addresses: Mapping[str, list[str]]) -> None:
    """Write the addresses of files, mode 0600, for the time of this process.

    Args:
        store: the file to write, JSON.
        addresses: the mirrors of each file that is to be downloaded, by its path; if none is, nothing is written.
    """
    store.unlink(missing_ok=True)  # of a Snakemake that was killed
    if not addresses:
        return
    atexit.register(store.absolute().unlink, missing_ok=True)  # with --directory, Snakemake ends in another folder
    with write_atomically(store) as partial:
        partial.touch(mode=0o600, exist_ok=False)
        partial.write_text(json.dumps(addresses), encoding="utf-8")


def handed_over(store: Path, file: Path) -> list[str]:
    """Return the mirrors of ``file``.

    Raises:
        UserError: they are not there, as after the end of Snakemake.
    """
    try:
        mirrors: list[str] = json.loads(store.read_bytes())[str(file)]
    except (FileNotFoundError, KeyError):
        raise UserError(
            f"{store} has no address of {file}: Snakemake writes it, and deletes it when it ends; run"
            f" `snakemake {file}`, or give --url in place of --addresses"
        ) from None
    return mirrors
