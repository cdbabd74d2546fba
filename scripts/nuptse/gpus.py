"""One GPU for one process: trainings and transcriptions of a machine take turns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nuptse.leases import lease


@contextmanager
def gpu(accelerator: str) -> Iterator[dict[str, Any]]:
    """Lease one of the visible GPUs for this process alone; give the trainer's ``accelerator`` and ``devices``.

    The lock goes by the GPU's UUID: CUDA_VISIBLE_DEVICES numbers are not the same in two jobs of one machine.
    """
    count = torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 0
    if not count:
        yield {"accelerator": accelerator, "devices": 1}
        return
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp", f"nuptse-gpus-{os.getuid()}")
    slots = [folder / f"{torch.cuda.get_device_properties(index).uuid}.lock" for index in range(count)]
    with lease(slots, announce=lambda: print(f"waiting for one of {count} GPUs", flush=True)) as index:
        yield {"accelerator": "gpu", "devices": [index]}
