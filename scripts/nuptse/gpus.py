"""GPUs for one training or transcription alone: those of a machine take turns."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from nuptse.errors import UserError, say
from nuptse.leases import leases
from nuptse.ranks import local_rank, visible_gpus

# One place for all processes of a machine: TMPDIR and XDG_RUNTIME_DIR are others in a login, a cron job and a service.
SHARED = Path("/tmp")
DEVICES = Path("/dev")


def lock_folder(shared: Path) -> Path:
    """Return the folder of this user's locks below one where everybody may write; made if absent.

    Raises:
        UserError: somebody else has put something else there.
    """
    folder = shared / f"nuptse-gpus-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError(f"{folder} is not a folder of yours, but the locks of GPUs belong there: have it removed")
    return folder


def _there_are_gpus(devices: Path) -> bool:
    """Whether this process may use an NVIDIA GPU. Those of other jobs SLURM hides: their devices cannot be opened."""
    for device in devices.glob("nvidia[0-9]*") if visible_gpus(devices) else ():
        with suppress(OSError), device.open("rb"):
            return True
    return False


def _unusable(reason: str) -> UserError:
    return UserError(
        f"there are NVIDIA GPUs here, but PyTorch {torch.__version__} cannot use them: {reason}. The driver may be"
        f" too old for CUDA {torch.version.cuda}, PyTorch a build for CPUs, or a container without --nv;"
        " to train on the CPU, set CUDA_VISIBLE_DEVICES= in the environment"
    )


@contextmanager
def gpu(accelerator: str, devices: int = 1) -> Iterator[dict[str, Any]]:
    """Lease as many of the visible GPUs for this process alone; give the trainer's ``accelerator`` and ``devices``.

    The locks go by the GPUs' UUIDs: CUDA_VISIBLE_DEVICES numbers are not the same in two jobs of one machine. Processes
    that are started meanwhile see the leased GPUs only, in the same order. The first of them becomes the current one.

    Raises:
        UserError: fewer GPUs are visible than asked for, or PyTorch cannot use those that are there.
    """
    count = torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 0
    if local_rank() > 0 and count:
        torch.cuda.set_device(local_rank())
        yield {"accelerator": "gpu", "devices": list(range(devices))}  # those that the first process here has leased
        return
    if not count:
        if accelerator == "auto" and _there_are_gpus(DEVICES):  # or it would be a training on the CPU, for days
            raise _unusable("it sees none")
        yield {"accelerator": accelerator, "devices": devices}
        return
    try:
        # Until then the driver's list counts. CUDA may have fewer of it: of all MIG instances a process gets one.
        torch.cuda.init()
        count = torch.cuda.device_count()
        uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(count)]
    except (RuntimeError, AssertionError) as error:
        raise _unusable(str(error).partition("\n")[0]) from error
    if devices > count:
        raise UserError(
            f"`trainer.devices` is {devices}, but the GPUs that are visible here are {count}: lower it, or show more of"
            " them (CUDA_VISIBLE_DEVICES)"
        )
    folder = lock_folder(SHARED)
    slots = [folder / f"{uuid}.lock" for uuid in uuids]
    wanted = "one" if devices == 1 else str(devices)
    with leases(slots, devices, announce=lambda: say(f"waiting for {wanted} of {count} GPUs")) as taken:
        if devices > 1:  # for the processes that Lightning starts; this one has made up its mind
            names = (f"GPU-{uuids[index].removeprefix('GPU-')}" for index in taken)
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
        # NeMo makes streams and launches kernels on the current GPU, wherever the model is; that may be another job's.
        torch.cuda.set_device(taken[0])
        yield {"accelerator": "gpu", "devices": taken}
