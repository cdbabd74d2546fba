"""The processes of one training on several devices.

On a node the command itself is rank 0, and Lightning has it start the others. On several nodes of a SLURM job one such
command runs on each: the job starts one, which has `srun` start them all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nuptse.errors import UserError

# A name that all processes of one start of a training know, and those of no other start.
LAUNCH = "NUPTSE_LAUNCH"
DIED = (
    "a process of this training has died, of memory perhaps; what it said is in the log with `rank` in its name; run"
    " the same command again"
)
# How long this process may take to notice by itself that another one has died, and to end in good order.
PATIENCE_S = 10


def local_rank() -> int:
    """Return which of the processes on its node this one is; Lightning's launcher sets it for those that it starts."""
    return int(os.environ.get("LOCAL_RANK", 0))


def node_rank() -> int:
    """Return which of the nodes this one is."""
    return int(os.environ.get("NODE_RANK", 0))


def is_first() -> bool:
    """Tell whether this is rank 0 of all: the one process that holds the folder and writes results."""
    return node_rank() == local_rank() == 0


def log_suffix() -> str:
    """Return what tells the log of a process from that of the first: empty for that one."""
    if is_first():
        return ""
    return f".node{node_rank()}.rank{local_rank()}" if node_rank() else f".rank{local_rank()}"


def check_nodes(experiment: str, nodes: int, slurm: bool) -> None:
    """Refuse a training that nothing would start on its nodes.

    Raises:
        UserError: several nodes, and no SLURM.
    """
    if nodes > 1 and not slurm:
        raise UserError(
            f"`trainer.num_nodes` of {experiment} is {nodes}, and no SLURM is here to start it on that many: run with"
            " `--workflow-profile profiles/slurm`, or set `num_nodes: 1` and `devices` to the GPUs of this machine"
        )


def enter_nodes(experiment: str, nodes: int, threads: int) -> None:
    """Return in the first process of each node; that of the job becomes the `srun` that starts them.

    When one of them ends with an error, `srun` ends the others.

    Args:
        experiment: its name, for the message.
        nodes: of the SLURM job, all of them.
        threads: CPUs of each node.

    Raises:
        UserError: several nodes, and no SLURM job, or no `srun`.
    """
    if local_rank() > 0:
        return
    job = os.environ.get("SLURM_JOB_ID")
    check_nodes(experiment, nodes, slurm=job is not None)
    # Of which job: a name that came with the environment of whoever submitted this one is not of this start.
    if nodes > 1 and os.environ.get(LAUNCH, "").startswith(f"{job}."):  # a task of `srun`
        # Where Lightning looks for them; the job began on the first node.
        os.environ["NODE_RANK"] = os.environ["SLURM_NODEID"]
        os.environ["MASTER_ADDR"] = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
        return
    os.environ[LAUNCH] = f"{job}.{uuid.uuid4().hex}"
    if nodes > 1 and job is not None:
        # Below the ports that systems give away by themselves, and another one for each of the jobs of a node.
        os.environ["MASTER_PORT"] = str(10_000 + int(job) % 20_000)
        one_task_each = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={threads}"]
        end_together = ["--kill-on-bad-exit=1", "--wait=0"]
        command = [*one_task_each, *end_together, "--mpi=none", "--input=none", sys.executable, *sys.argv]
        try:
            os.execvp("srun", ["srun", *command])
        except FileNotFoundError:
            raise UserError(
                f"`trainer.num_nodes` of {experiment} is {nodes}, and `srun` is not found in PATH: in a container a"
                " training cannot reach other nodes; run without `--sdm=apptainer`, or set `num_nodes: 1`"
            ) from None


def end_with_parent() -> None:
    """Have Linux kill this process when the first of its node dies: it would wait for it, with its GPU, for long."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # noqa: N806  # its name in <sys/prctl.h>
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tell_of_dead_ranks(experiment: str) -> None:
    """Have this process say so and end if one that it started dies; Lightning would kill it without a word."""
    from lightning.pytorch.strategies.launchers import subprocess_script  # here, as a command asks for its rank first

    def observe(children: Sequence[subprocess.Popen[bytes]]) -> None:
        threading.Thread(target=_end_with, args=(children, f"interrupted: {experiment}: {DIED}"), daemon=True).start()

    subprocess_script._launch_process_observer = observe  # type: ignore[attr-defined, assignment]


def _end_with(children: Sequence[subprocess.Popen[bytes]], message: str) -> None:
    while not any(child.poll() for child in children):
        time.sleep(0.5)
    # It may wait for that process where no exception reaches it: for ranks to find each other, or in NCCL.
    time.sleep(PATIENCE_S)
    print(message, file=sys.stderr, flush=True)
    for child in children:
        child.kill()
    os._exit(143)


def gather(trainer: Any, values: Sequence[float]) -> list[list[float]]:
    """Return the values of every rank, in the order of ranks; all ranks must call this together."""
    if trainer.world_size == 1:
        return [list(values)]
    import torch  # here, because a command asks for its rank before it needs so much

    own = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    rows: list[list[float]] = trainer.strategy.all_gather(own).tolist()
    return rows


def visible_gpus(devices: Path = Path("/dev")) -> int:
    """Return how many NVIDIA GPUs a job on this machine may use, without importing torch."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([name for name in chosen.split(",") if name.strip() not in ("", "-1")])
    return len(list(devices.glob("nvidia[0-9]*")))
