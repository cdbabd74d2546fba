"""Errors are counted as by hand, as by an independent alignment, and as by NeMo."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuptse.errors import UserError
from nuptse.scoring import (
    GAP,
    Counts,
    Transcript,
    add_up,
    align_words,
    by_duration,
    by_speaker,
    count_errors,
    count_mistakes,
    make_normalizer,
    read_timing,
    score_utterances,
    summarize_set,
    worst_utterances,
    write_scores,
)


def transcripts(*pairs, **more):
    return [Transcript(f"u{number}", 1.0, *pair, **more) for number, pair in enumerate(pairs)]


def score(*pairs, normalizer="none"):
    return score_utterances(transcripts(*pairs), normalizer)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "hits", "substitutions", "deletions", "insertions"),
    [
        ("a b c", "a b c", 3, 0, 0, 0),
        ("a b c", "a s x c", 2, 1, 0, 1),  # the example in kaldialign's README
        ("a b c", "a c", 2, 0, 1, 0),
        ("a c", "a b c", 2, 0, 0, 1),
        ("a b c", "x y z", 0, 3, 0, 0),
        ("a b c", "", 0, 0, 3, 0),
        ("", "a b", 0, 0, 0, 2),
        ("", "", 0, 0, 0, 0),
        ("a", "b c d", 0, 1, 0, 2),  # WER 3
        ("the the the cat", "the cat", 2, 0, 2, 0),
        ("the cat", "the the the cat", 2, 0, 0, 2),
        ("a b a b a b", "b a b a b a", 5, 0, 1, 1),
        ("A b", "a b", 1, 1, 0, 0),
        ("grüße über straße", "grüße uber straße", 2, 1, 0, 0),
        ("あ い う", "あ う", 2, 0, 1, 0),
        ("مرحبا بك", "مرحبا 👋🏽", 1, 1, 0, 0),
        ("  a \t b\n", "a b", 2, 0, 0, 0),
    ],
)
def test_words_counted_by_hand(reference, hypothesis, hits, substitutions, deletions, insertions):
    (found,) = score((reference, hypothesis))
    length = hits + substitutions + deletions
    assert found.words == Counts(length, hits, substitutions, deletions, insertions)
    assert found.words.rate == ((substitutions + deletions + insertions) / length if length else None)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("abc", "abc", Counts(3, 3)),
        ("kitten", "sitting", Counts(6, 4, 2, 0, 1)),
        ("ab cd", "abcd", Counts(5, 4, 0, 1, 0)),  # the space counts
        ("ab  cd ", " ab cd", Counts(5, 5)),  # but only one
        ("", "ab", Counts(0, 0, 0, 0, 2)),
        ("für", "fur", Counts(3, 2, 1)),
    ],
)
def test_characters_counted_by_hand(reference, hypothesis, expected):
    assert score((reference, hypothesis))[0].characters == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a s x c", [("a", "a"), ("b", "s"), (GAP, "x"), ("c", "c")]),
        ("a b", "b", [("a", GAP), ("b", "b")]),
        ("", "a", [(GAP, "a")]),
        ("a", "", [("a", GAP)]),
        ("", "", []),
        ("* <eps>", "* <eps>", [("*", "*"), ("<eps>", "<eps>")]),
    ],
)
def test_alignments(reference, hypothesis, expected):
    assert align_words(reference, hypothesis) == expected


def distance(reference, hypothesis):
    """Levenshtein distance, by the textbook."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, found in enumerate(hypothesis, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (expected != found))
    return row[-1]


words = st.lists(st.sampled_from(["a", "b", "c", "ä", "日本"]), max_size=12)


@given(words, words)
@settings(max_examples=300, deadline=None)
def test_counts_are_those_of_a_shortest_alignment(reference, hypothesis):
    counts = count_errors(reference, hypothesis)
    assert counts.errors == distance(reference, hypothesis)
    assert counts.hits + counts.substitutions + counts.deletions == counts.length == len(reference)
    assert counts.hits + counts.substitutions + counts.insertions == len(hypothesis)

    pairs = align_words(" ".join(reference), " ".join(hypothesis))
    assert [word for word, _ in pairs if word != GAP] == reference
    assert [word for _, word in pairs if word != GAP] == hypothesis
    assert sum(left == right for left, right in pairs) == counts.hits
    assert sum(right == GAP for _, right in pairs) == counts.deletions
    assert sum(left == GAP for left, _ in pairs) == counts.insertions


@given(st.text(max_size=15), st.text(max_size=15))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_scored(reference, hypothesis):
    (found,) = score((reference, hypothesis), normalizer="lower")
    assert found.characters.errors == distance(found.reference, found.hypothesis)


@pytest.mark.slow
def test_rates_are_those_of_nemo():
    from nemo.collections.asr.metrics.wer import word_error_rate

    pairs = [
        ("the cat sat on the mat", "a cat sat mat"),
        ("", "noise"),
        ("yes no yes", "yes yes no"),
        ("grüße aus köln", ""),
        ("one two", "one two three four five"),
        ("twenty one", "twentyone"),
    ]
    references, hypotheses = zip(*pairs, strict=True)
    scores = score(*pairs)
    found = add_up(s.words for s in scores).rate, add_up(s.characters for s in scores).rate
    assert found[0] == word_error_rate(hypotheses, references)
    assert found[1] == word_error_rate(hypotheses, references, use_cer=True)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", " Hello,  World! ", "Hello, World!"),
        ("lower", "Hello,  ÄRGER!", "hello, ärger!"),
        ("whisper_english", "Mr. Brown's colour, uh, isn't twenty-one!", "mister brown is color is not 21"),
        ("whisper_english", "Um, hmm.", ""),
    ],
)
def test_normalizers(name, text, expected):
    assert make_normalizer(name)(text) == expected


def test_normalizers_apply_to_both_sides():
    pair = ("The colour", "the color")
    errors = {name: score(pair, normalizer=name)[0].words.errors for name in ("none", "lower", "whisper_english")}
    assert errors == {"none": 2, "lower": 1, "whisper_english": 0}


def test_an_unknown_normalizer_names_the_known_ones():
    with pytest.raises(UserError, match="no normaliser 'upper': choose one of none, lower, whisper_english"):
        score(("a", "a"), normalizer="upper")


def test_an_utterance_counts_once():
    with pytest.raises(UserError, match="utterance 'u0' occurs twice"):
        score_utterances(transcripts(("a", "a")) * 2, "none")


def test_the_rate_of_a_set_is_the_micro_average():
    scores = score(("a", "b"), ("a b c d e f g h i", "a b c d e f g h i"))
    assert add_up(s.words for s in scores).rate == 0.1


def test_worst_utterances_have_most_errors_ties_by_id():
    scores = score(("a", "b"), ("a b c", ""), ("a", "a"), ("c", "b"))
    assert [s.id for s in worst_utterances(scores)] == ["u1", "u0", "u3"]
    assert [s.id for s in worst_utterances(scores[::-1], 2)] == ["u1", "u0"]


def test_mistakes_are_counted_over_all_utterances():
    confused, deleted, inserted = count_mistakes(score(("a b", "a c"), ("b", "c"), ("x a x", "a"), ("a", "a y")))
    assert confused == {("b", "c"): 2}
    assert deleted == {"x": 2}
    assert inserted == {"y": 1}


def test_the_report_of_a_set_adds_up():
    rows = [
        Transcript("u1", 1.0, "a b c", "a b", "ann"),
        Transcript("u2", 2.0, "a b", "a x", "bob"),
        Transcript("u3", 3.0, "a", "a", "ann"),
        Transcript("u4", 3.0, "", "b", "bob"),
    ]
    report = summarize_set(score_utterances(rows, "none"), seed=3)
    words = report["words"]
    assert (words["length"], words["hits"], words["errors"], words["rate"]) == (6, 4, 3, 0.5)
    assert (words["substitutions"], words["deletions"], words["insertions"]) == (1, 1, 1)
    assert words["low"] is words["high"] is None, "of four utterances there is no interval"
    assert (report["utterances"], report["hours"], report["speakers"]) == (4, 9 / 3600, 2)
    assert report["bootstrap"] == {"level": 0.95, "resamples": 1000, "seed": 3, "units": "utterances", "num_units": 4}
    assert report["confusions"] == [["b", "x", 1]]
    assert report["deleted"] == [["c", 1]]
    assert report["inserted"] == [["b", 1]]
    assert [row["id"] for row in report["worst"]] == ["u1", "u2", "u4"]
    assert report["worst"][0]["alignment"] == [("a", "a"), ("b", "b"), ("c", GAP)]
    assert report["worst"][2]["wer"] is None
    assert report["per_utterance"]["errors"] == [1, 1, 0, 1]
    assert len({len(column) for column in report["per_utterance"].values()}) == 1
    for parts in (report["by_duration"], report["by_speaker"]):
        assert sum(part["utterances"] for part in parts) == 4
        assert sum(part["errors"] for part in parts) == 3
    assert json.loads(json.dumps(report, allow_nan=False)), "nothing in it is nan"


@pytest.mark.parametrize("pairs", [[], [("", "")], [("", "a"), ("", "")], [("a", "b")]])
def test_sets_too_small_for_a_rate_or_an_interval_have_none(pairs):
    report = summarize_set(score(*pairs))
    assert (report["words"]["low"], report["words"]["high"]) == (None, None)
    assert report["words"]["rate"] == (1.0 if pairs == [("a", "b")] else None)
    json.dumps(report, allow_nan=False)


def test_quartiles_of_duration():
    rows = [Transcript(f"u{d}", float(d), "a", "a" if d < 5 else "b") for d in range(8, 0, -1)]
    parts = by_duration(score_utterances(rows, "none"))
    assert [(p["from_s"], p["to_s"], p["utterances"], p["wer"]) for p in parts] == [
        (1, 2, 2, 0),
        (3, 4, 2, 0),
        (5, 6, 2, 1),
        (7, 8, 2, 1),
    ]


def test_equal_durations_are_one_part():
    (part,) = by_duration(score(("a", "a"), ("a", "b"), ("a", "a")))
    assert (part["utterances"], part["wer"]) == (3, 1 / 3)


def test_unknown_speakers_come_last_or_not_at_all():
    rows = [
        Transcript("u1", 1.0, "a", "a"),
        Transcript("u2", 1.0, "a", "b", "zoe"),
        Transcript("u3", 1.0, "a", "a", ""),
    ]
    assert [part["speaker"] for part in by_speaker(score_utterances(rows, "none"))] == ["", "zoe", None]
    assert by_speaker(score(("a", "a"))) == []


def test_timing_gets_a_real_time_factor(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"seconds": 5.0, "audio_seconds": 50.0, "device": "cpu"}')
    assert read_timing(path) == {"seconds": 5.0, "audio_seconds": 50.0, "device": "cpu", "rtf": 0.1}
    path.write_text('{"seconds": 5.0, "audio_seconds": 0}')
    assert read_timing(path)["rtf"] is None


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"seconds": 1}', '{"seconds": "x", "audio_seconds": 1}'])
def test_malformed_timing_is_refused(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=r"t\.json should be a JSON object with the numbers `seconds`"):
        read_timing(tmp_path / "t.json")


def test_a_timing_that_is_gone_is_refused(tmp_path):
    (tmp_path / "t.json").symlink_to("/nowhere/t.json")
    with pytest.raises(UserError, match=r"cannot read .*t\.json: No such file or directory; delete .*t\.json and run"):
        read_timing(tmp_path / "t.json")


def test_scores_are_written_one_key_a_line(tmp_path):
    content = {"recogniser": "größe", "words": {"rate": None}, "rows": [1, 2]}
    write_scores(tmp_path / "new" / "s.json", content)
    text = (tmp_path / "new" / "s.json").read_text("utf-8")
    assert json.loads(text) == content
    assert text.splitlines()[1] == '"recogniser": "größe",'
