"""What a base model says of itself without being loaded: its configuration and its tokenizer."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from nuptse.archive_members import damage_is_a_user_error
from nuptse.errors import UserError
from nuptse.model_kinds import check_kind
from nuptse.word_encoder import WordEncoder


class Tokenizer(Protocol):
    """How a model writes text: ``vocabulary`` are its pieces, ``unknown`` is the id of what it has no piece for."""

    vocabulary: list[str]
    unknown: int | None

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text."""


class SentencePieceTokenizer:
    """A SentencePiece model, read in milliseconds."""

    def __init__(self, content: bytes) -> None:
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor(model_proto=content)
        self.vocabulary = [self.model.id_to_piece(number) for number in range(self.model.get_piece_size())]
        self.unknown: int | None = self.model.unk_id()
        self._content = content

    @cached_property
    def words(self) -> WordEncoder:
        return WordEncoder(self.model, self._content)

    def encode(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.model.encode(texts)
        return ids


class LetterTokenizer:
    """A model that writes letters; NeMo leaves out those that it does not know."""

    unknown: int | None = -1

    def __init__(self, labels: Sequence[str]) -> None:
        self.vocabulary = list(labels)
        self.ids = {label: number for number, label in enumerate(labels)}

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[self.ids.get(letter, -1) for letter in text] for text in texts]


class NemoTokenizer:
    """Any other tokenizer, as NeMo restores it with the model: that takes many seconds."""

    def __init__(self, path: Path) -> None:
        from nuptse.runtime import prepare_runtime

        prepare_runtime()
        from nuptse.models import restore_model

        self.tokenizer = restore_model(path, map_location="cpu").tokenizer
        self.vocabulary = [str(piece) for piece in self.tokenizer.vocab]
        self.unknown: int | None = getattr(self.tokenizer, "unk_id", None)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [self.tokenizer.text_to_ids(text) for text in texts]


@dataclass(frozen=True)
class BaseModel:
    """A model as its .nemo file describes it.

    Attributes:
        config: ``model_config.yaml``.
        tokenizer: None if it is of a kind that cannot be asked about single texts.
        weights_bytes: size of the weights; they are float32.
    """

    path: Path
    config: dict[str, Any]
    tokenizer: Tokenizer | None
    weights_bytes: int

    @property
    def is_ctc(self) -> bool:
        """Whether the training has a CTC loss: a CTC model or a hybrid."""
        return "ctc" in str(self.config.get("target", "")).lower()

    @property
    def parameters(self) -> int:
        return self.weights_bytes // 4

    @property
    def encoder(self) -> dict[str, Any]:
        found: dict[str, Any] = self.config.get("encoder") or {}
        return found

    @property
    def frame_s(self) -> float:
        """Seconds between two feature frames."""
        return float((self.config.get("preprocessor") or {}).get("window_stride") or 0.01)

    @cached_property
    def subsampling(self) -> int | None:
        """Feature frames for each encoder frame; None where the configuration does not say."""
        if factor := self.encoder.get("subsampling_factor"):
            return int(factor)
        strides = [block.get("stride", 1) for block in self.encoder.get("jasper") or []]
        return math.prod(stride[0] if isinstance(stride, list) else stride for stride in strides) if strides else None

    def encoder_frames(self, durations: np.ndarray | float) -> np.ndarray | None:
        """Return how many frames the encoder gives for audio of each of these lengths, s.

        Source: ``FilterbankFeatures.get_seq_len`` and ``calc_length`` of NeMo 3.0: one feature frame for each whole
        hop; convolutions of stride 2 round up each time, stacking rounds down.
        """
        if self.subsampling is None:
            return None
        hops = np.asarray(durations) / self.frame_s
        following = np.ceil(hops)
        # As rounding to six digits does: what lacks next to nothing of a whole hop has it.
        frames = np.where(following - hops < 5e-7, following, np.floor(hops)).astype(np.int64)
        if self.encoder.get("subsampling") == "stacking":
            return frames // self.subsampling
        return -(-frames // self.subsampling)  # ceil(ceil(n / 2) / 2) is ceil(n / 4)

    def describe(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {
            "file": str(self.path),
            "class": str(self.config.get("target", "")).rpartition(".")[2],
            "parameters": self.parameters,
            "pieces": len(self.tokenizer.vocabulary) if self.tokenizer else None,
            "sample_rate": self.config.get("sample_rate"),
            "encoder_frame_s": round(self.frame_s * self.subsampling, 6) if self.subsampling else None,
        }


def read_base_model(path: Path) -> BaseModel:
    """Read configuration and tokenizer of a .nemo file.

    Raises:
        UserError: it is no NeMo model, or one of another kind than CTC and RNN-T.
    """
    with damage_is_a_user_error(path), tarfile.open(path) as archive:
        members = {member.name.removeprefix("./"): member for member in archive}
        if "model_config.yaml" not in members:
            raise UserError(f"{path}: no member model_config.yaml; this is not a model that NeMo saved")
        config = _config(path, _content(archive, members["model_config.yaml"]))
        if target := config.get("target"):
            check_kind(path, str(target).rpartition(".")[2])
        weights = members.get("model_weights.ckpt")
        tokenizer = _tokenizer(path, config, archive, members)
    return BaseModel(path, config, tokenizer, weights.size if weights else 0)


def _config(path: Path, content: bytes) -> dict[str, Any]:
    try:
        config = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: its model_config.yaml is not one that NeMo wrote: {error}") from error
    sections = ("tokenizer", "preprocessor", "encoder", "decoder")
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict | None) for key in sections):
        raise UserError(f"{path}: its model_config.yaml is not one that NeMo wrote")
    return config


def _tokenizer(
    path: Path, config: dict[str, Any], archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]
) -> Tokenizer | None:
    settings = config.get("tokenizer")
    if not settings:
        labels = config.get("labels") or (config.get("decoder") or {}).get("vocabulary")
        return LetterTokenizer(labels) if labels else None
    if settings.get("type") == "agg":
        return None  # one tokenizer for each language
    name = str(settings.get("model_path", "")).removeprefix("nemo:")
    if settings.get("type") == "bpe" and name in members:
        try:
            return SentencePieceTokenizer(_content(archive, members[name]))
        except RuntimeError as error:  # of SentencePiece
            raise UserError(f"{path}: its tokenizer {name} cannot be read: {error}") from error
    return NemoTokenizer(path)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""
