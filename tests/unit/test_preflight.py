"""What NeMo would train on without a word is refused before it starts."""

import pytest
import sentencepiece

from nuptse.errors import UserError
from nuptse.jsonl import write_rows
from nuptse.models import train_tokenizer
from nuptse.preflight import check_data, unknown_characters

TEXTS = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"]


class Tokenizer:
    """As NeMo wraps SentencePiece."""

    def __init__(self, folder):
        self.pieces = train_tokenizer(TEXTS * 20, 64, folder)
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        self.unk_id = self._model.unk_id()

    def text_to_ids(self, text):
        return self._model.encode(text)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def manifest(tmp_path):
    def write(texts):
        (tmp_path / "a.wav").touch()
        rows = [{"id": str(i), "audio_filepath": str(tmp_path / "a.wav"), "text": text} for i, text in enumerate(texts)]
        write_rows(tmp_path / "m.json", rows)
        return tmp_path / "m.json"

    return write


def test_nemo_files_of_the_tokenizer(tmp_path):
    pieces = train_tokenizer(TEXTS * 20, 64, tmp_path)
    assert len((tmp_path / "vocab.txt").read_text().splitlines()) == pieces - 1, "all pieces but <unk>"
    again = tmp_path / "again"
    again.mkdir()
    train_tokenizer(TEXTS * 20, 64, again)
    assert (again / "tokenizer.model").read_bytes() == (tmp_path / "tokenizer.model").read_bytes()


def test_too_few_pieces_name_the_setting(tmp_path):
    with pytest.raises(UserError, match="different characters: set tokenizer.vocab_size to"):
        train_tokenizer(TEXTS, 16, tmp_path)


def test_unknown_characters_are_counted(tokenizer):
    assert unknown_characters(["the THE", "fox!"], tokenizer) == {"T": 1, "H": 1, "E": 1, "!": 1}


def test_upper_case_for_a_lower_case_tokenizer_is_refused_with_its_remedy(tokenizer, manifest):
    data = manifest([text.upper() for text in TEXTS])
    with pytest.raises(UserError, match="does not know 100% of the characters .* add `lower` to the `text` profile"):
        check_data("libri/train", data, tokenizer)


def test_a_few_unknown_characters_are_told(tokenizer, manifest):
    line = check_data("libri/train", manifest(TEXTS * 5 + ["fox!"]), tokenizer)
    assert line.startswith("libri/train: 11 utterances, unknown to the tokenizer: 0.29%")
    assert "'!'" in line


def test_known_text_passes(tokenizer, manifest):
    assert check_data("libri/train", manifest(TEXTS), tokenizer).endswith("unknown to the tokenizer: 0.00%")


def test_missing_audio_is_refused(tokenizer, manifest, tmp_path):
    data = manifest(TEXTS)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UserError, match=r"libri/train: 2 of 2 audio files in .*m.json are missing, such as .*a.wav"):
        check_data("libri/train", data, tokenizer)
