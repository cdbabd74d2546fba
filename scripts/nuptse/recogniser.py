"""A NeMo model that turns audio into text: restored, given its decoding options, and asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nemo.collections.asr.models import ASRModel, EncDecCTCModel
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecodingConfig
from nemo.collections.asr.parts.submodules.ngram_lm.constants import DEFAULT_TOKEN_OFFSET
from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTDecodingConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nuptse.errors import UserError
from nuptse.models import restore_model

# How NeMo's decoders refuse: an assertion without words is an ARPA file of another kind.
_REFUSALS = (
    *(OmegaConfBaseException, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError),
    *(TypeError, ValueError),
)


def load_model(path: Path, device: torch.device) -> ASRModel:
    """Return the model, in evaluation mode.

    Raises:
        UserError: the file is no NeMo speech recogniser, or one of another kind than CTC and RNN-T.
    """
    return restore_model(path, map_location=device).to(device).eval()


def set_decoding(model: ASRModel, options: Mapping[str, Any]) -> None:
    """Merge ``options`` over the decoding options of the model, and try them.

    Raises:
        UserError: NeMo does not know an option, or lacks a package that it needs.
    """
    known, works = (
        (CTCDecodingConfig, "greedy, greedy_batch and beam_batch")
        if isinstance(model, EncDecCTCModel)
        else (RNNTDecodingConfig, "greedy, greedy_batch, beam, maes_batch and malsd_batch")
    )
    try:
        OmegaConf.merge(OmegaConf.structured(known), options)  # NeMo itself passes over names that it does not know
        # A copy: what a model was restored with takes no key that its own block lacks.
        own = OmegaConf.to_container(model.cfg.get("decoding") or OmegaConf.create())
        model.change_decoding_strategy(OmegaConf.merge(own, options), verbose=False)
        hear(model, [torch.zeros(model.cfg.preprocessor.sample_rate)])  # some decoders look for their packages only now
    except _REFUSALS as error:
        message = " ".join(str(error).split()) or "NeMo cannot read what it names"
        raise UserError(
            f"`decoding` {json.dumps(options)} does not suit {type(model).__name__}: {message}; strategies that need no"
            f" further package are {works}; a language model is an ARPA file over the tokens of this model, each"
            f" written as the character {DEFAULT_TOKEN_OFFSET} + its number, or a .nemo file"
        ) from error


def hear(model: ASRModel, audio: Sequence[torch.Tensor]) -> list[str]:
    """Return the text of each of B waveforms (T,) at the model's sampling rate: the best hypothesis."""
    lengths = torch.tensor([len(samples) for samples in audio], device=model.device)
    signal = torch.nn.utils.rnn.pad_sequence(list(audio), batch_first=True).to(model.device)
    with torch.inference_mode():
        outputs = model.forward(input_signal=signal, input_signal_length=lengths)
        # As NeMo's metric does, with log probabilities (B, T, V) of CTC or encodings (B, D, T) of RNN-T.
        hypotheses = model.wer.decode(outputs[0], outputs[1], None, None)
    return [(found[0] if isinstance(found, list) else found).text for found in hypotheses]  # a beam's best comes first
