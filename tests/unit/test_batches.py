"""What the batches of a training held."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_files import batch, training

from nuptse.batches import drawn_buckets, feeding, mix, padded_seconds, smooth, thin
from nuptse.results import Batch, Bins, Bucket, Training


def read(content):
    return msgspec.convert(content, Training)


def test_a_curve_is_averaged_around_each_place():
    values = [float(value) for value in range(100)]
    calm = smooth(values)
    assert calm[50] == 50.0
    assert calm[0] == 1.0  # of 0, 1, 2: a twentieth of 100 reaches 2 to each side
    assert len(calm) == 100


def test_lost_values_are_left_out_of_the_average():
    assert smooth([1.0, math.nan, None, 3.0]) == [1.0, None, None, 3.0]
    assert smooth([]) == []
    around = smooth([1.0] * 50 + [math.inf] + [1.0] * 49)
    assert around == [1.0] * 100


@given(st.integers(0, 2000), st.integers(2, 300))
def test_thinning_keeps_the_ends_and_the_limit(length, limit):
    places = thin(length, limit)
    assert len(places) == min(length, limit)
    assert places == sorted(set(places))
    if length:
        assert places[0] == 0 and places[-1] == length - 1


def test_feeding_is_of_all_batches_together():
    rows = [
        batch(1, audio_seconds=30.0, longest_s=4.0, padding=1 - 30 / 40),
        batch(2, audio_seconds=50.0, longest_s=6.0, padding=1 - 50 / 60),
    ]
    fed = feeding(read(training("a", rows)), 60)
    assert (fed.batches, fed.utterances, fed.audio_s, fed.longest_s) == (2, 10, 40.0, 6.0)
    assert fed.fill == pytest.approx(50 / 60), "10 utterances of 4 and of 6 s with padding, in two batches of 60 s"
    assert fed.padding == pytest.approx(1 - 80 / 100)


def test_what_long_utterances_count_more_is_part_of_the_fill():
    rows = [batch(1, audio_seconds=30.0, longest_s=4.0, padding=1 - 30 / 40)]
    assert feeding(read(training("a", rows)), 160, quadratic_s=4.0).fill == pytest.approx(10 * (4 + 4) / 160)
    assert feeding(read(training("a", rows)), 40, devices=2).fill == pytest.approx(40 / 80)


def test_padding_of_several_devices_is_not_that_of_the_longest_of_all_batches():
    """Four batches of 10 utterances, three of 10 s and one of 18 s each, without padding."""
    row = batch(1, utterances=40, audio_seconds=480.0, longest_s=18.0, padding=0.0)
    fed = feeding(read(training("a", [row])), 180, devices=4)
    assert fed.padding == 0 and fed.fill == pytest.approx(480 / 720)
    assert (fed.utterances, fed.audio_s) == (10, 120.0), "of one device, as the limit of 180 s is"


def test_no_batch_no_feeding():
    assert feeding(read(training("a", [])), 60) is None


def test_padding_tells_the_padded_audio_where_the_longest_is_unknown():
    row = Batch(step=1, loss=1.0, lr=0.1, audio_seconds=30.0, utterances=10, padding=0.25)
    assert padded_seconds(row) == pytest.approx(40.0)


def test_the_longest_utterance_tells_the_bucket():
    bins = Bins([2.0], 2, [Bucket(1.0, 2.0, 0.4), Bucket(2.0, 3.0, 0.6)])
    rows = [
        batch(1, longest_s=1.9, audio_seconds=15.0, padding=1 - 15 / 19),
        batch(2, longest_s=2.0),
        batch(3, longest_s=2.5),
    ]
    short, long = drawn_buckets(read(training("a", rows)), bins)
    assert (short.batches, short.utterances) == (1, 10)
    assert short.padding == pytest.approx(1 - 15 / 19)
    assert (long.batches, long.utterances) == (2, 20), "an edge belongs to the bucket above"


def test_buckets_of_an_account_without_longest_utterances():
    row = {key: value for key, value in batch(1).items() if key != "longest_s"}
    (bucket,) = drawn_buckets(read(training("a", [row])), Bins([], 1, [Bucket(1.0, 2.0, 1.0)]))
    assert (bucket.batches, bucket.utterances, bucket.padding) == (None, None, None)


def test_a_mix_is_counted_in_utterances():
    rows = [batch(1, by_source={"a/train": 3, "b/train": 1}), batch(2, by_source={"a/train": 4})]
    first, second = mix(read(training("x", rows, ("a", "b"))))
    assert (first.source, first.wanted, first.delivered) == ("a/train", 0.5, 7 / 8)
    assert second.delivered == 1 / 8


def test_one_source_is_no_mix():
    assert mix(read(training("x", [batch(1)]))) == []
