"""Which of NeMo's models can be used here, by the names of their classes."""

from __future__ import annotations

from pathlib import Path

from nuptse.errors import UserError

# Others (`EncDecMultiTaskModel`), and those derived from these (`...WithPrompt`, `...EOUModel`), take other batches.
USABLE = (
    *("EncDecCTCModel", "EncDecCTCModelBPE", "EncDecRNNTModel", "EncDecRNNTBPEModel"),
    *("EncDecHybridRNNTCTCModel", "EncDecHybridRNNTCTCBPEModel"),
)


def check_kind(path: Path, name: str) -> None:
    """Refuse a model of a class that no training and no transcription here knows how to feed.

    Args:
        path: of the model.
        name: of its class.

    Raises:
        UserError: it is none of ``USABLE``.
    """
    if name not in USABLE:
        raise UserError(
            f"{path} is a {name}; only CTC, RNN-T and hybrid models can be used here: choose one whose class is"
            f" {', '.join(USABLE[:-1])} or {USABLE[-1]}"
        )
