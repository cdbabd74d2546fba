"""The processes of one training on several devices: rank 0 is the command itself, it starts the others."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any


def rank() -> int:
    """Return which of the processes this one is; Lightning's launcher sets it for those that it starts."""
    return int(os.environ.get("LOCAL_RANK", 0))


def end_with_parent() -> None:
    """Have Linux kill this process when rank 0 dies: it would wait for it, with its GPU, for a long time."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # noqa: N806  # its name in <sys/prctl.h>
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def gather(trainer: Any, values: Sequence[float]) -> list[list[float]]:
    """Return the values of every rank, in the order of ranks; all ranks must call this together."""
    if trainer.world_size == 1:
        return [list(values)]
    import torch  # here, because a command asks for its rank before it needs so much

    own = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    rows: list[list[float]] = trainer.strategy.all_gather(own).tolist()
    return rows
