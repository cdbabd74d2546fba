"""Where a program runs: what it needs of its process, versions, the commit of the workflow."""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import platform
import re
import subprocess
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Options of glibc's mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
PACKAGES = ("nemo-toolkit", "lhotse", "torch", "lightning", "sentencepiece", "numpy")
# Turns of a loop in which a thread of OpenMP looks whether the others are done before it sleeps: some 0.3 ms.
SPINS = "10000"


def prepare_runtime(threads: int = 1) -> None:
    """Set what must be set before torch and NeMo are imported: quiet logs, and how threads wait for each other.

    What a user has to know, our programs print themselves.

    Args:
        threads: that a training computes with.
    """
    set_waiting(threads)
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    for name in ("", ".api.config", ".training_telemetry.api.training_telemetry_provider"):
        logging.getLogger(f"nv_one_logger{name}").setLevel(logging.CRITICAL)
    import nemo.collections.asr  # noqa: F401  # it and what it imports set levels of their own
    from nemo.utils import logging as nemo_logging

    for package in ("lightning.fabric", "lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(package).setLevel(logging.ERROR)
    nemo_logging.setLevel(nemo_logging.ERROR)


def set_waiting(threads: int) -> None:
    """Have so many threads of OpenMP sleep while they wait for each other; on an idle machine, look around first.

    By default they spin. With one more busy process on the machine (a second training, a test run) a step of the
    quickstart takes three to ten times as long then; with sleeping threads, as long as alone. Where nothing else runs,
    a step is a third faster with threads that spin for a moment. What the environment says goes first.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if 1 < threads <= idle_cpus():
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def idle_cpus(seconds: float = 0.2) -> float:
    """Return how many CPUs of this process nobody used in the next ``seconds``, to a half; 0 if that is not known."""
    try:
        before = _idle_ticks()
        time.sleep(seconds)
        after = _idle_ticks()
    except (OSError, ValueError):
        return 0
    # Containers may show other numbers than those of their CPUs: of these nothing is known.
    cpus = os.sched_getaffinity(0) & before.keys() & after.keys()
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    return round(2 * sum(after[cpu] - before[cpu] for cpu in cpus) / ticks) / 2


def _idle_ticks(stat: Path = Path("/proc/stat")) -> dict[int, int]:
    """Return how long each CPU had nothing to do, or only waited for a disk, see proc_stat(5)."""
    rows = [line.split() for line in stat.read_text().splitlines() if re.match(r"cpu\d", line)]
    return {int(name[3:]): int(idle) + int(waiting) for name, _, _, _, idle, waiting, *_ in rows}


def prepare_device(kind: str) -> None:
    """Set what makes a model fast on ``cpu`` or ``cuda``; it changes no result of a CPU.

    On a GPU products of float32 matrices are computed in TF32, as torch computes convolutions anyway: operands are
    rounded to 10 bits after the point, and sums are kept in full. ``bf16-mixed`` rounds to 7.
    """
    if kind == "cpu":
        keep_freed_memory()
    elif kind == "cuda":
        import torch

        torch.set_float32_matmul_precision("high")


def describe_device(device: torch.device) -> dict[str, Any]:
    """Return the name of a device and, of a GPU, how it multiplies float32 matrices."""
    import torch

    if device.type != "cuda":
        return {"device": "CPU"}
    return {"device": torch.cuda.get_device_name(device), "matmul": torch.get_float32_matmul_precision()}


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors for the next ones, for a model on the CPU; elsewhere nothing happens.

    It gives every block above 32 MB (at first above 128 kB) back to Linux at once, and gets it again page by page, each
    filled with zeros: on the CPU a third of the time of a validation. A process may then hold a bit more than its
    largest batch needs.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(option, value)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a model."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def git_commit(folder: Path) -> str | None:
    """Return the commit checked out in ``folder``, with ``+changes`` if files differ from it; None outside of git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")
