"""What is put together of words is what the whole texts have, for any text and any SentencePiece model."""

import io
import itertools
import random
from functools import cache

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from nuptse import text_measures
from nuptse.base_model import LetterTokenizer, SentencePieceTokenizer
from nuptse.text_measures import CAPITALS, LETTERS, PUNCTUATION, REPEATS, TOKENS, UNKNOWN, WORDS, TextMeasures
from nuptse.word_encoder import NEVER

LINES = [
    "the bird will sing at noon after rain in town and ten ships sail from home",
    "aaa aa abab baba bab abba ba ab a b aab bba banana nana anna bananas",
    "été naïve à l'école, où ça va? STRASSE Straße ﬁnale 12 % of it's well-known",
    "мир и дом, в котором мы живём; 今日 は 良い 天気",
]
APART = {
    "bpe": {},
    "unigram": {"model_type": "unigram"},
    "unigram with bytes": {"model_type": "unigram", "byte_fallback": True, "vocab_size": 400},
    "bpe with bytes": {"byte_fallback": True, "vocab_size": 400},
    "symbols": {"user_defined_symbols": ["ab", "<x>", "▁the"]},
    "unigram with symbols": {"model_type": "unigram", "user_defined_symbols": ["ab", "<x>", "▁the"]},
    "identity": {"normalization_rule_name": "identity"},
    "folded": {"normalization_rule_name": "nmt_nfkc_cf"},
}
WHOLE = {
    "pieces over words": {"split_by_whitespace": False},
    "unigram over words": {"model_type": "unigram", "split_by_whitespace": False},
    "no mark in front": {"add_dummy_prefix": False},
    "spaces count": {"remove_extra_whitespaces": False},
    "marks behind": {"treat_whitespace_as_suffix": True},
    "a symbol over words": {"user_defined_symbols": ["the▁bird"]},
    "characters": {"model_type": "char"},
}
SPACES = [
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\u00a0",
    "\t",
    "\n",
    "\u3000",
    "\u2003",
    "\u200b",
    "\x01",
    "\u2581",
    " \u0308",
    "",
]
words = st.one_of(
    st.sampled_from(" ".join(LINES).split()),
    st.text("ab", max_size=9),
    st.text(max_size=6),
    st.sampled_from(["e\u0301", "\u0308", "ﷺ", "¨", "Σ", "ΑΣ", "ǅ", "\u0345", "\x00", "<unk>", "<x>", "▁", "'", "—", "🙂", "ж"]),
)  # fmt: skip
texts = st.lists(st.tuples(words, st.sampled_from(SPACES)), max_size=12).map(lambda p: "".join(map("".join, p)))


@cache
def tokenizer(name):
    options = {"model_type": "bpe", "vocab_size": 110, "hard_vocab_limit": False, "minloglevel": 2}
    options |= {"character_coverage": 0.98, **(APART | WHOLE)[name]}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES * 3), model_writer=model, **options)
    return SentencePieceTokenizer(model.getvalue())


def measured_whole(model, text):
    (tokens,) = model.encode([text])
    known = {letter: model.unknown not in model.encode([letter])[0] for letter in set(text) - {" "}}
    return [
        len(text) - text.count(" "),
        len(text.split()),
        len(tokens),
        sum(one == other for one, other in itertools.pairwise(tokens)),
        not all(known.values()),
        text != text.lower(),
        any(text_measures._is_punctuation(character) for character in text),
    ]


def measured(measures, texts):
    rows = measures.of(texts)
    rows[[UNKNOWN, CAPITALS, PUNCTUATION]] = rows[[UNKNOWN, CAPITALS, PUNCTUATION]] > 0
    return rows.T.tolist()


@pytest.mark.parametrize("name", APART)
def test_models_whose_words_are_encoded_apart(name):
    assert tokenizer(name).words.possible


@pytest.mark.parametrize("name", WHOLE)
def test_models_whose_texts_are_encoded_whole(name):
    assert not tokenizer(name).words.possible


@pytest.mark.parametrize("name", [*APART, *WHOLE])
@given(st.lists(texts, min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_words_put_together_are_the_whole_text(name, batch):
    model = tokenizer(name)
    assert measured(TextMeasures(model), batch) == [measured_whole(model, text) for text in batch]


@pytest.mark.parametrize("name", APART)
def test_long_texts_of_words_with_rival_tokens(name, monkeypatch):
    """In a long text of a unigram model rounding decides between tokens that are as good; and the memory is bounded."""
    monkeypatch.setattr(text_measures, "MOST_WORDS", 200)
    model, chance = tokenizer(name), random.Random(0)
    known, measures = " ".join(LINES).split(), TextMeasures(model)
    for _ in range(20):
        batch = [
            " ".join(
                chance.choice(known)
                if chance.random() < 0.7
                else "".join(chance.choices("abn", k=chance.randint(1, 30)))
                for _ in range(chance.choice([3, 30, 300]))
            )
            for _ in range(10)
        ]
        assert measured(measures, batch) == [measured_whole(model, text) for text in batch]
        assert measures._table.shape[1] <= 200


def test_where_rounding_decides_the_text_is_encoded_whole():
    """Some words have two ways to be encoded, of one score: float32 and what comes before in the text decide."""
    chance, model = random.Random(0), io.BytesIO()
    words = ["".join(chance.choices("detr", k=chance.randint(2, 9))) for _ in range(3000)]
    options = {"model_type": "unigram", "vocab_size": 90, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(words), model_writer=model, **options)
    model = SentencePieceTokenizer(model.getvalue())
    other = []
    for word in words:
        before = " ".join(chance.choices(words, k=chance.randint(1, 40)))
        first, alone = model.encode([before, word])
        if model.encode([f"{before} {word}"])[0] != first + alone:
            other.append((before, word))
    assert other, "there are such words"
    _, costs = model.words.encode([word for _, word in other])
    assert set(costs) == {NEVER}
    _, costs = model.words.encode(words)
    assert costs.count(NEVER) < len(words) / 10
    batch = [f"{before} {word}" for before, word in other]
    assert measured(TextMeasures(model), batch) == [measured_whole(model, text) for text in batch]


def test_a_word_is_encoded_once(monkeypatch):
    model = SentencePieceTokenizer(tokenizer("unigram").model.serialized_model_proto())
    asked = []
    encode = model.words.encode
    monkeypatch.setattr(model.words, "encode", lambda new: asked.append(new) or encode(new))
    measures = TextMeasures(model)
    measures.of(["the bird will sing", "sing the bird"])
    measures.of(["the bird", "at noon"])
    assert asked == [["the", "bird", "will", "sing"], ["at", "noon"]]


def test_letters_and_no_tokenizer():
    letters = TextMeasures(LetterTokenizer(list(" abc"))).of(["abba c", "ad"])
    assert letters[TOKENS].tolist() == [6, 2] and letters[REPEATS].tolist() == [1, 0]
    assert letters[UNKNOWN].tolist() == [0, 1]
    nothing = TextMeasures(None).of(["Abba c.", "  "])
    assert nothing[[LETTERS, WORDS, TOKENS]].tolist() == [[6, 0], [2, 0], [0, 0]]
    assert nothing[[CAPITALS, PUNCTUATION]].tolist() == [[1, 0], [1, 0]]
