"""How much memory a training step may need: an estimate of the order of magnitude, and what there is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from nuptse.base_model import BaseModel
from nuptse.ranks import visible_gpus

# Measured on NeMo 3.0's Conformer (what autograd keeps of one forward pass; d_model 96 to 256, 4 and 8 layers, batches
# of 60 s): floats for each encoder frame and unit of d_model in a layer, and for each attention score of a head.
FLOATS_OF_A_LAYER = 51
FLOATS_OF_A_SCORE = 3
# The same for each output of the convolutions that subsample.
FLOATS_OF_SUBSAMPLING = 2.2
# Weights, gradients and two moments of Adam, in float32.
BYTES_OF_A_PARAMETER = 16
BYTES_OF_A_FLOAT = {"32-true": 4.0, "16-mixed": 2.5, "bf16-mixed": 2.5}


def training_bytes(base: BaseModel, batch_s: float, longest_s: float, precision: str) -> int | None:
    """Return about how many bytes the weights and one batch take; None for encoders that are no Conformers.

    Args:
        batch_s: audio of a batch, padding included, s.
        longest_s: its longest utterance, s: what attention looks at, unless it is local.
    """
    encoder, frames_each = base.encoder, base.subsampling
    if not frames_each or "d_model" not in encoder or "n_layers" not in encoder:
        return None
    width, layers, heads = encoder["d_model"], encoder["n_layers"], encoder.get("n_heads", 4)
    frames = batch_s / base.frame_s / frames_each
    seen = longest_s / base.frame_s / frames_each
    if encoder.get("self_attention_model") == "rel_pos_local_attn":  # else what lies outside is computed and masked
        seen = min(seen, _widest(encoder.get("att_context_size", [-1, -1]), seen))
    layer = FLOATS_OF_A_LAYER * width + FLOATS_OF_A_SCORE * heads * seen
    floats = frames * (layers * layer + _subsampling_floats(encoder, frames_each))
    return int(floats * BYTES_OF_A_FLOAT[precision] + base.parameters * BYTES_OF_A_PARAMETER)


def _widest(contexts: list[Any], all_of_it: float) -> float:
    """Return how many frames attention looks at, left and right, with the widest context of one or several.

    >>> _widest([128, 64], 1000), _widest([[70, 13], [-1, 0]], 1000)
    (192, 1000)
    """
    several = contexts if isinstance(contexts[0], list) else [contexts]
    return max(sum(all_of_it if side < 0 else side for side in context) for context in several)


def _subsampling_floats(encoder: dict[str, Any], factor: int) -> float:
    """Floats for each encoder frame: the convolutions halve frames and bands again and again."""
    if "striding" not in str(encoder.get("subsampling")):
        return 20.0 * float(encoder["d_model"])
    channels = encoder.get("subsampling_conv_channels", -1)
    outputs, frames, bands = 0.0, float(factor), float(encoder.get("feat_in") or 80)
    while frames > 1:
        frames, bands = frames / 2, bands / 2
        outputs += frames * bands
    return FLOATS_OF_SUBSAMPLING * outputs * float(channels if channels > 0 else encoder["d_model"])


def machine_memory() -> tuple[int, str] | None:
    """Return the memory (bytes) of the smallest visible GPU, else of this machine, and what it is; None: not known.

    A SLURM job that sees no GPU runs on another machine than the training.
    """
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):  # which nvidia-smi does not look at
        query.append(f"--id={chosen.replace(' ', '')}")
    if chosen is None or visible_gpus():
        try:
            found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.split()
            return min(int(number) for number in found) * 2**20, "the GPU"
        except (OSError, subprocess.SubprocessError, ValueError):
            if chosen:
                return None  # a part of a GPU (MIG), perhaps
    if "SLURM_JOB_ID" in os.environ:
        return None
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    return int(meminfo.read_text().split()[1]) * 1024, "this machine"
