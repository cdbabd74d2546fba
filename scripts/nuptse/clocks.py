"""Files from a time that is yet to come, as a clock leaves them that was wrong for a while.

Snakemake refuses the output of a job that is older than its input: nothing could be made from such a file before its
time has come. Standard library only: Snakemake uses it at the start of a run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nuptse.folder_state import SNAKEMAKE_STAMP


def bring_back(files: Iterable[str]) -> list[str]:
    """Give the files and folders whose time is yet to come the time of now; return them.

    Only below ``data/`` and ``results/``: no other file is ours. A file that cannot be changed stays as it is.
    """
    changed, now = [], time.time()
    for file in dict.fromkeys(files):
        if not file.startswith(("data/", "results/")):
            continue
        stamp = Path(file, SNAKEMAKE_STAMP)
        carrier = stamp if stamp.exists() else Path(file)  # of a folder Snakemake looks at the stamp in it
        with suppress(OSError):
            if carrier.stat().st_mtime > now:
                os.utime(carrier)
                changed.append(file)
    return changed
