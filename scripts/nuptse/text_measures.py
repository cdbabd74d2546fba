"""What the doctor counts in transcripts, word by word: what stood in another text before is not looked at again."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from operator import eq

import numpy as np
import pyarrow
from pyarrow import compute

from nuptse.base_model import SentencePieceTokenizer, Tokenizer
from nuptse.word_encoder import MOST_COST, WordEncoder

# Different words that are remembered, 7 MB; LibriSpeech has 90,000.
MOST_WORDS = 1 << 17
# Columns of what is measured. The last three are of words only: see WordEncoder, and the tokens at the ends.
LETTERS, WORDS, TOKENS, REPEATS, UNKNOWN, CAPITALS, PUNCTUATION, COST, FIRST, LAST = range(10)


class TextMeasures:
    """Counts in texts for one tokenizer.

    Args:
        tokenizer: of the base model; None counts no tokens and knows every character.

    Attributes:
        unknown: characters met so far that the tokenizer does not know.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._encoder: WordEncoder | None = None
        if isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.words.possible:
            self._encoder = tokenizer.words
        self.unknown: set[str] = set()
        self._punctuation: set[str] = set()
        self._seen: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._known = pyarrow.array([], pyarrow.string())
        self._table = np.zeros((0, LAST + 1), dtype=np.int32)  # a row for each known word, which is read as a whole

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """Return what stands in each of N texts; int32, (7, N).

        ``LETTERS``: characters that are no spaces. ``WORDS``: between spaces of any kind. ``TOKENS``: of the tokenizer.
        ``REPEATS``: tokens that equal the one before. ``UNKNOWN``, ``CAPITALS`` and ``PUNCTUATION``: above 0 where
        there is such a character, punctuation other than apostrophe and hyphen.
        """
        if self._tokenizer is not None and self._encoder is None:
            return self._measure(texts, self._tokenizer.encode(list(texts)))[:, :COST].T
        sums = self._put_together(texts)
        whole = np.flatnonzero(sums[:, COST] > MOST_COST).tolist()
        if self._tokenizer is not None and whole:
            chosen = [texts[index] for index in whole]
            sums[whole] = self._measure(chosen, self._tokenizer.encode(chosen))[:, :FIRST]
        return sums[:, :COST].T

    def _put_together(self, texts: Sequence[str]) -> np.ndarray:
        """Add up what the words of texts have, and the repeats where one follows another; (N, 8)."""
        # Arrow splits texts and tells words apart without an object for each.
        split = compute.split_pattern(pyarrow.array(texts, pyarrow.string()), " ")
        words = split.values.dictionary_encode()
        numbers = self._number(words.dictionary)
        rows, starts = self._table[numbers].take(words.indices, axis=0), split.offsets.to_numpy()[:-1]
        sums = np.add.reduceat(rows[:, :FIRST], starts, axis=0)
        spoken = np.flatnonzero(rows[:, TOKENS])
        again = np.flatnonzero(rows[:, FIRST][spoken[1:]] == rows[:, LAST][spoken[:-1]])
        one, next_one = (np.searchsorted(starts, spoken[places], "right") - 1 for places in (again, again + 1))
        np.add.at(sums[:, REPEATS], one[one == next_one], 1)
        if len(self._table) > MOST_WORDS:
            self._forget()
        return sums

    def _number(self, words: pyarrow.StringArray) -> np.ndarray:
        """Return the rows of N different words in the table, as indices; those that are new are entered."""
        numbers: np.ndarray = compute.index_in(words, self._known).fill_null(-1).to_numpy().copy()
        new = np.flatnonzero(numbers < 0)
        if len(new):
            numbers[new] = len(self._known) + np.arange(len(new))
            unknown = words.take(pyarrow.array(new))
            self._known = pyarrow.concat_arrays([self._known, unknown])
            self._table = np.concatenate([self._table, self._measure_words(unknown.to_pylist())])
        return numbers

    def _measure_words(self, words: list[str]) -> np.ndarray:
        tokens, costs = self._encoder.encode(words) if self._encoder else ([[]] * len(words), [0] * len(words))
        measured = self._measure(words, tokens)
        measured[:, COST] = costs
        return measured

    def _measure(self, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> np.ndarray:
        """Return all columns for texts, or words, of these tokens; (N, 10)."""
        for text in texts:
            if not self._seen.issuperset(text):
                self._learn(set(text) - self._seen)
        measured = [
            (
                len(text) - text.count(" "),
                len(text.split()),
                len(tokens),
                sum(map(eq, tokens, tokens[1:])),
                not self.unknown.isdisjoint(text),
                text != text.lower(),
                not self._punctuation.isdisjoint(text),
                0,
                tokens[0] if tokens else -1,
                tokens[-1] if tokens else -1,
            )
            for text, tokens in zip(texts, encoded, strict=True)
        ]
        return np.array(measured, dtype=np.int32).reshape(len(texts), LAST + 1)

    def _learn(self, characters: set[str]) -> None:
        self._seen |= characters
        self._punctuation |= set(filter(_is_punctuation, characters))
        if self._tokenizer is not None:
            self.unknown |= unknown_among(characters, self._tokenizer)


def _is_punctuation(character: str) -> bool:
    return character not in "'-’" and not character.isalnum() and unicodedata.category(character)[0] == "P"


def unknown_among(characters: set[str], tokenizer: Tokenizer) -> set[str]:
    """Return the characters that the tokenizer has no piece for; the space is always known."""
    asked = sorted(characters - {" "})
    return {letter for letter, ids in zip(asked, tokenizer.encode(asked), strict=True) if tokenizer.unknown in ids}
