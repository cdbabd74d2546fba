"""Pretrained base models, by the name that NeMo gives them."""

from __future__ import annotations

import shutil
from pathlib import Path

from nuptse.errors import UserError, sha256_of, write_atomically
from nuptse.nemo_archive import check_nemo_archive


def fetch_pretrained(name: str, output: Path, *, sha256: str | None = None, size: int | None = None) -> str:
    """Download the .nemo file of ``name`` to ``output``; return a line with its size and checksum.

    Args:
        name: with a slash a repository of the Hugging Face Hub, without one a model of NGC.
        output: is written whole or not at all.
        sha256: expected checksum; None: any, which is then only reported.
        size: expected size in bytes; None: any.

    Raises:
        UserError: there is no such model, no network, another checksum or size, or the file is no safe .nemo archive.
    """
    from nemo.collections.asr.models import ASRModel

    try:
        cached = Path(ASRModel.from_pretrained(name, return_model_file=True))
    except Exception as error:  # of requests, huggingface_hub, httpx, wget or NeMo itself
        raise UserError(
            f"the model {name} could not be downloaded: {_first_line(error)}\n"
            "Check the name and the network; or download the .nemo file elsewhere and name it in the configuration"
            " (`url: file:///...` and `sha256:` instead of `pretrained:`)."
        ) from error
    if cached.is_dir():
        raise UserError(f"{name} is unpacked in {cached}, not one .nemo file; pack it and name it by `url:` instead")
    check_nemo_archive(cached)
    found = sha256_of(cached)
    length = cached.stat().st_size
    if sha256 not in (None, found) or size not in (None, length):
        raise UserError(
            f"{name}: expected sha256 {sha256 or 'any'} and {size or 'any number of'} bytes, found {found} and"
            f" {length}; if the model was updated, change the configuration"
        )
    with write_atomically(output) as partial:
        shutil.copyfile(cached, partial)
    hint = "" if sha256 else f"; not checked, to pin it add `sha256: {found}` to the model"
    return f"{output}: {length} bytes, sha256 {found}, from {name}{hint}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
