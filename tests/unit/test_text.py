"""What each step of a text profile does to a transcript."""

import pytest

from nuptse.errors import UserError
from nuptse.numerals import _decimal_separator, _known_languages, numeral_language, spell_numbers
from nuptse.text import alphabet_of, apply_profile


@pytest.mark.parametrize(
    ("text", "profile", "expected"),
    [
        ("HELLO World", [], "HELLO World"),
        ("HELLO World", ["lower"], "hello world"),
        ("straße", ["upper"], "STRASSE"),
        ("Hello, world! It’s 'fine'.", ["strip_punctuation"], "Hello world It's fine"),
        ("twenty-one", ["strip_punctuation"], "twenty one"),
        ("a \t b\u00a0 c", ["collapse_spaces"], "a b c"),
        ("ｆｕｌｌ ﬁne", ["nfkc"], "full fine"),
        ("é & co", [{"replace": {"é": "e", "&": "and"}}], "e and co"),
        ("aab", [{"replace": {"a": "1", "aa": "2"}}], "2b"),
        ("[noise] Yes", [{"replace": {"[noise]": ""}}, "lower"], "yes"),
        ("[NOISE] Yes", ["lower", {"replace": {"[noise]": ""}}], "yes"),
        ("  ...  ", ["strip_punctuation"], ""),
        ("cafe\u0301", ["nfc", {"keep": "a-zé"}], "café"),
        ("café Øre й", ["strip_accents"], "cafe Øre и"),
        ("I ŞIK İ", [{"map": {"I": "ı", "İ": "i"}}, "lower"], "ı şık i"),
        ("don’t – no", [{"map": {"’": "'", "–": ""}}, "collapse_spaces"], "don't no"),
        ("a [noise [x]] b <unk> (laughs) c] d", [{"drop_brackets": ["[]", "<>", "()"]}], "a b c] d"),
        ("a (b) [c]", [{"drop_brackets": ["[]"]}], "a (b)"),
        ("uh so um, yes", [{"drop_words": ["uh", "um"]}], "so um, yes"),
        ("Mr. B", [{"regex": {r"\bMr\.": "mister"}}], "mister B"),
        ("né à–là - x9", [{"keep": "-a-zà "}], "n àlà - x"),
    ],
)
def test_profile(text, profile, expected):
    assert apply_profile(text, profile) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "1,021 people in 1984", "one thousand and twenty one people in nineteen eighty four"),
        ("en-US", "the 21st of 3.14 at 10:30", "the twenty first of three point one four at ten:thirty"),
        ("en", "b2b 007 1,984 $5", "b two b zero zero seven one thousand nine hundred and eighty four $five"),
        ("en", "call 12345678901234567", "call one two three four five six seven eight nine zero one two three four five six seven"),
        ("en", "2,5 and 1,0000", "two,five and one,zero zero zero zero"),
        ("en", "THE 21ST CENTURY", "THE twenty first CENTURY"),
        ("de", "1.021 Leute, 3,5 %", "eintausendeinundzwanzig Leute, drei Komma fünf %"),
        ("de-CH", "10'000 Leute, 3,5 %, Fr.1’000.50", "zehntausend Leute, drei Komma fünf %, Fr.eintausend Komma fünf null"),
        ("fr-CH", "10'000 et 3.5", "dix mille et trois virgule cinq"),
        ("it-CH", "3.5", "tre virgola cinque"),
        ("de", "10'000", "zehn'null null null"),
        ("fr", "10 000 personnes", "dix mille personnes"),
        ("fr-FR", "1\u00a0000,5 et 2\u202f000\u202f000", "mille virgule cinq et deux millions"),
        ("fr", "en 2024 10 000 à 10:30 100", "en deux mille vingt quatre dix mille à dix:trente cent"),
        ("fr", "à 10h30 100, 3,5 100", "à dix h trente cent, trois virgule cinq cent"),
        ("fr", "10 0000 01 234", "dix zéro zéro zéro zéro zéro un deux cent trente quatre"),
        ("fr", "10 000.5", "dix mille.cinq"),
        ("sv", "25 000", "tjugofemtusen"),
        ("ru", "10 000", "десять тысяч"),
        ("cs", "1 500", "tisíc pětset"),
        ("pl-PL", "1 500", "tysiąc pięćset"),
        ("pt-PT", "10 000", "dez mil"),
        ("pt-BR", "10 200", "dez duzentos"),
        ("es-CR", "10 000", "diez mil"),
        ("de", "im Jahr 2024 100 Leute, 10 200", "im Jahr zweitausendvierundzwanzig einhundert Leute, zehn zweihundert"),
        ("en", "1\u00a0500 and 10 200", "one thousand five hundred and ten two hundred"),
        ("fr", "81", "quatre vingt un"),
        ("pt-BR", "no. 0,5", "no. zero vírgula cinco"),
        ("es-MX", "1,500 pesos y 2.5", "mil quinientos pesos y dos punto cinco"),
        ("es-419", "1,500.25", "mil quinientos punto dos cinco"),
        ("es-AR", "1.500 pesos y 2,5", "mil quinientos pesos y dos coma cinco"),
        ("cy", "2.5", "dau pwynt pump"),
        ("ar", "1,500", "ألف و خمسمائة"),
        ("ar-MA", "1.500", "ألف و خمسمائة"),
        ("fa", "۲٫۰۵", "دو ممیز صفر پنج"),
        ("en-IN", "1,00,000 and 12,34,567", "one lakh and twelve lakh thirty four thousand five hundred and sixty seven"),
        ("te", "1,00,000", "ఒకటి లక్ష"),
        ("en", "5.50 1.0 007.5", "five point five zero one point zero zero zero seven point five"),
        ("de", "1,50 und 0,05", "eins Komma fünf null und null Komma null fünf"),
        ("it", "2,50", "due virgola cinque zero"),
        ("ja", "2.05", "二点零五"),
        ("ru", "2,50", "две целых пятьдесят сотых"),
        ("hu", "2,5 1,0", "kettő egész öt tized egy egész nulla"),
        ("en", "1500.5 2.0th", "one thousand five hundred point five two point zero th"),
        ("en", "12.05.2024", "twelve.zero five.two thousand and twenty four"),
        ("es-MX", "0,500", "cero,quinientos"),
        ("en", "12345678901234567.5", "one two three four five six seven eight nine zero one two three four five six seven point five"),
    ],
)  # fmt: skip
def test_numbers_are_spelt_as_the_language_reads_them(language, text, expected):
    assert spell_numbers(text, language) == expected


def test_languages_without_numerals():
    assert [numeral_language(tag) for tag in ("kk", "nb-NO", "eu", "am", "tlh")] == ["kz", "no", None, None, None]
    with pytest.raises(UserError, match="the step `numbers` does not know the language 'tlh'"):
        spell_numbers("1", "tlh")
    with pytest.raises(UserError, match=r"num2words cannot read 3.1234567 in 'hu' \(KeyError\): replace it by a step"):
        spell_numbers("3,1234567", "hu")


@pytest.mark.parametrize("tag", sorted(name.replace("_", "-") for name in _known_languages()))
def test_every_language_that_the_configuration_accepts_has_words_for_numbers(tag):
    mark = _decimal_separator(tag)
    for text in ("7", "21", "1500", f"2{mark}5", f"0{mark}05"):
        words = spell_numbers(text, tag)
        assert words
        assert not any(character.isdigit() or character in ".," for character in words), words


def test_alphabets():
    assert alphabet_of("a-c-") == {"a", "b", "c", "-"}
    with pytest.raises(UserError, match="the range z-a runs backwards"):
        alphabet_of("z-a")
