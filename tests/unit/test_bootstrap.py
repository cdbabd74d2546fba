"""Intervals cover, differences are paired, and equal seeds give equal numbers."""

import tracemalloc

import numpy as np
import pytest

from nuptse import bootstrap
from nuptse.bootstrap import Difference, confidence_interval, paired_difference, resampling_units


def draw_set(rng, utterances=150):
    """Utterances of 1 to 30 words; 10 % of the words are wrong on average, in some utterances far more."""
    words = rng.integers(1, 31, utterances)
    return rng.binomial(words, rng.beta(0.5, 4.5, utterances)), words


def test_the_95_percent_interval_covers_the_true_wer_in_95_percent():
    rng = np.random.default_rng(0)
    hits = 0
    for number in range(400):
        low, high = confidence_interval(*draw_set(rng), resamples=300, seed=number)
        hits += low <= 0.1 <= high
    # Standard error: sqrt(0.95 * 0.05 / 400) = 0.011
    assert 0.92 <= hits / 400 <= 0.98


def test_a_level_of_one_half_covers_half():
    rng = np.random.default_rng(1)
    hits = 0
    for number in range(400):
        low, high = confidence_interval(*draw_set(rng), level=0.5, resamples=300, seed=number)
        hits += low <= 0.1 <= high
    assert 0.42 <= hits / 400 <= 0.58


def test_dependent_errors_of_speakers_need_speakers_resampled():
    """40 speakers, 20 utterances each; a word of speaker k is wrong with a chance of its own, 20 % on average."""
    rng = np.random.default_rng(2)
    hits = {"speakers": 0, "utterances": 0}
    names = np.repeat([f"s{k}" for k in range(40)], 20).tolist()
    words = np.full(800, 10)
    for number in range(200):
        errors = rng.binomial(words, np.repeat(rng.beta(2, 8, 40), 20))
        for kind, groups in (("speakers", names), ("utterances", None)):
            low, high = confidence_interval(errors, words, groups, resamples=300, seed=number)
            hits[kind] += low <= 0.2 <= high
    assert hits["speakers"] / 200 >= 0.89
    assert hits["utterances"] / 200 <= 0.7


def test_no_difference_is_significant_in_5_percent():
    rng = np.random.default_rng(3)
    p_values, outside = [], 0
    for number in range(400):
        words = rng.integers(1, 31, 150)
        a, b = rng.binomial(words, 0.1), rng.binomial(words, 0.1)
        found = paired_difference(a, b, words, resamples=300, seed=number)
        p_values.append(found.p_value)
        outside += not found.low <= 0 <= found.high
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08
    assert 0.02 <= outside / 400 <= 0.08


def test_pairing_finds_what_two_intervals_hide():
    """Utterances differ far more than the recognisers, of which the first makes one error more in every third."""
    rng = np.random.default_rng(4)
    words = np.full(300, 20)
    b = rng.integers(0, 16, 300)
    a = b + (np.arange(300) % 3 == 0)
    assert confidence_interval(a, words)[0] < confidence_interval(b, words)[1]
    found = paired_difference(a, b, words)
    assert found.difference == pytest.approx(1 / 60)
    assert 0 < found.low < found.difference < found.high
    assert found.p_value == pytest.approx(2 / 1001)


def test_exchanged_recognisers_change_the_sign_only():
    rng = np.random.default_rng(5)
    a, words = draw_set(rng)
    b = rng.binomial(words, 0.1)
    one, two = paired_difference(a, b, words), paired_difference(b, a, words)
    assert (one.difference, one.low, one.high) == pytest.approx((-two.difference, -two.high, -two.low))
    assert one.p_value == two.p_value


def test_equal_recognisers_differ_by_nothing():
    assert paired_difference([1, 2] * 4, [1, 2] * 4, [4] * 8) == Difference(0.0, 0.0, 0.0, 1.0)


def test_seeds_decide():
    errors, words = draw_set(np.random.default_rng(6))
    assert confidence_interval(errors, words, seed=1) == confidence_interval(errors, words, seed=1)
    assert confidence_interval(errors, words, seed=1) != confidence_interval(errors, words, seed=2)
    assert paired_difference(errors, errors[::-1], words, seed=1) == paired_difference(
        errors, errors[::-1], words, seed=1
    )


def test_the_order_of_speakers_does_not_matter():
    errors, words = draw_set(np.random.default_rng(7), 60)
    speakers = [f"s{number % 7}" for number in range(60)]
    there = confidence_interval(errors, words, speakers)
    assert confidence_interval(errors[::-1], words[::-1], speakers[::-1]) == there


def test_chunks_change_nothing(monkeypatch):
    errors, words = draw_set(np.random.default_rng(8))
    whole = confidence_interval(errors, words, resamples=100)
    monkeypatch.setattr(bootstrap, "_DRAWS", 1)
    assert confidence_interval(errors, words, resamples=100) == whole


def test_a_hundred_thousand_utterances_need_little_memory():
    errors, words = draw_set(np.random.default_rng(9), 100_000)
    tracemalloc.start()
    low, high = confidence_interval(errors, words, resamples=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert low < 0.1 < high
    assert peak < 20e6, "more resamples take more time and no more memory"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (None, ("utterances", 5)),
        (["a", "b", "c", "a", "d"], ("speakers", 4)),
        (["a", "b", "c", "a", "b"], ("utterances", 5)),
        (["a", "b", "c", "d", None], ("mixed", 5)),
        (["a", "b", "c", None, None], ("utterances", 5)),
        ([None] * 5, ("utterances", 5)),
    ],
)
def test_what_is_resampled(groups, expected):
    assert resampling_units(groups, 5) == expected


def test_an_utterance_without_a_speaker_does_not_hide_the_speakers_of_the_others():
    rng = np.random.default_rng(10)
    words, names = np.full(400, 10), [f"s{number // 20}" for number in range(400)]
    errors = rng.binomial(words, np.repeat(rng.beta(1, 4, 20), 20))
    known, one_unknown = (
        high - low
        for low, high in (confidence_interval(errors, words, groups) for groups in (names, [*names[:-1], None]))
    )
    assert one_unknown > 0.8 * known > 2 * np.subtract(*confidence_interval(errors, words)[::-1])


def test_a_speaker_called_none_is_not_unknown():
    errors, words = draw_set(np.random.default_rng(11), 21)
    one, other = (confidence_interval(errors, words, [name, *"abcd"] * 4 + [None]) for name in ("None", "Zoe"))
    assert one == other


@pytest.mark.parametrize(("errors", "words"), [([], []), ([1], [5]), ([0, 1] * 3 + [2], [5] * 7), ([1] * 8, [0] * 8)])
def test_with_few_utterances_or_no_words_there_is_no_interval(errors, words):
    assert np.isnan(confidence_interval(errors, words)).all()
    found = paired_difference(errors, errors, words)
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_eight_utterances_are_enough():
    low, high = confidence_interval([0, 1] * 4, [5] * 8)
    assert low < 0.1 < high
    assert paired_difference([0] * 8, [0, 1] * 4, [5] * 8).p_value < 1


def test_seven_utterances_prove_nothing_whoever_speaks_them():
    found = paired_difference([0] * 7, [1] * 7, [4] * 7, list("abcdefg"))
    assert found.difference == -0.25
    assert np.isnan([found.low, found.high, found.p_value]).all()


@pytest.mark.parametrize("errors", [0, 5])
def test_no_interval_has_no_width(errors):
    """50 utterances without an error do not show that there never is one."""
    assert np.isnan(confidence_interval([errors] * 50, [5] * 50)).all()


def test_resamples_without_reference_words_are_left_out():
    low, high = confidence_interval([1, *[0] * 7], [0, 10, *[0] * 6])
    assert (low, high) == (0.0, 0.3)


def test_groups_of_another_length_are_a_bug():
    with pytest.raises(ValueError, match="2 groups for 3 utterances"):
        confidence_interval([1, 2, 3], [4, 5, 6], ["a", "b"])
