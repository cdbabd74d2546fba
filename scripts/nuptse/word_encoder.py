"""Words that SentencePiece encodes within a text as it encodes them alone.

Of the words of a text nearly all stood in other texts before. Where this holds, each needs to be encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

MARK = "\u2581"  # what SentencePiece writes for a space
# What comes with SentencePiece: none of these normalisers replaces anything that has a space (U+0020) in it.
RULES = frozenset({"identity", "nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf"})
LONGEST = 64  # characters of a word
# Costs of the words of a text, added up, to which it may be put together of them, and the cost of one that may not.
MOST_COST = 2048
NEVER = 1 << 16
# For each character of a word: each of two paths makes at most one addition there, which errs by half the distance of
# two floats. Twice that, for a path beside the best may have a score beyond MOST_COST.
ROUNDING = 2 * float(np.spacing(np.float32(MOST_COST)))


class WordEncoder:
    """Encodes the words between the spaces (U+0020) of texts; a text has exactly the tokens of its words.

    Spaces at the ends of a text and repeated ones are taken out, one is put in front, and each becomes a mark (U+2581).
    If no piece has a mark but at its start, none reaches over two words. If the mark alone is a piece, no word begins
    with an unknown token, which would become one with such a token before it.

    BPE merges by rank, and what is merged in one word changes nothing in another. A unigram model adds up scores from
    the start of the text, in float32: there a word is encoded by itself only if its second best tokens are worse by
    more than rounding can make up, within a text whose scores add up to at most ``MOST_COST``.

    Source: ``Normalizer::Normalize``, ``bpe::Model::Encode``, ``unigram::Model::EncodeOptimized`` and
    ``SentencePieceProcessor::PopulateSentencePieceText`` of SentencePiece 0.2.

    Args:
        model: a ``SentencePieceProcessor``.
        content: its model, serialized.
    """

    def __init__(self, model: Any, content: bytes) -> None:
        from sentencepiece import sentencepiece_model_pb2

        form: Any = sentencepiece_model_pb2  # its classes are made when it is imported
        proto = form.ModelProto.FromString(content)
        self._model, self._unigram = model, proto.trainer_spec.model_type == form.TrainerSpec.UNIGRAM
        self._lengths = [len(piece.piece) for piece in proto.pieces]
        self._scores = [piece.score for piece in proto.pieces]
        self._normal = [piece.type == form.ModelProto.SentencePiece.NORMAL for piece in proto.pieces]
        self.possible = self._unigram or proto.trainer_spec.model_type == form.TrainerSpec.BPE
        self.possible &= _joins_words_by_marks(proto)
        self.possible &= self._normal[model.piece_to_id(MARK)]
        self.possible &= not any(MARK in piece.piece[1:] or " " in piece.piece for piece in proto.pieces)

    def encode(self, words: list[str]) -> tuple[list[list[int]], list[int]]:
        """Return the tokens of each word, and its cost; ``NEVER`` if its tokens within a text may be others."""
        rows: list[list[int]] = self._model.encode(words)
        costs = [NEVER if MARK in word else 0 for word in words]
        if self._unigram:
            best = self._model.nbest_encode(words, nbest_size=2)
            costs = [cost or self._cost(word, two) for cost, word, two in zip(costs, words, best, strict=True)]
        return rows, costs

    def _cost(self, word: str, best: Sequence[list[int]]) -> int:
        """Return the score of a word of a unigram model, rounded up and without its sign."""
        if len(word) > LONGEST or not all(self._normal[token] for tokens in best for token in tokens):
            return NEVER
        scores = [sum(self._scores[token] for token in tokens) for tokens in best]
        length = sum(self._lengths[token] for tokens in best[:1] for token in tokens)
        if len(scores) > 1 and scores[0] - scores[1] <= length * ROUNDING:
            return NEVER
        return int(max(map(abs, scores[:1]), default=0)) + 1


def _joins_words_by_marks(proto: Any) -> bool:
    normalizer = proto.normalizer_spec
    return bool(
        normalizer.name in RULES
        and normalizer.add_dummy_prefix
        and normalizer.remove_extra_whitespaces
        and normalizer.escape_whitespaces
        and not proto.trainer_spec.treat_whitespace_as_suffix
    )
