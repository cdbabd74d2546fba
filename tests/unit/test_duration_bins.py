"""Bins are exact for the blend, as many as the data allows, and never a crash."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuptse.duration_bins import Source, bucket_starts, plan_bins
from nuptse.durations import Durations, count_durations, load_durations, save_durations
from nuptse.errors import UserError
from nuptse.jsonl import write_rows

SCRIPTS = Path(__file__).parents[2] / "scripts"


def source(durations, weight=None, name="a/train"):
    return Source(name, Durations.of(durations), weight)


def audio_per_bucket(plan, sources):
    """Expected audio (s per draw) that falls into each bucket."""
    total = sum(s.share for s in sources)
    edges = plan["bucket_duration_bins"]
    mass = np.zeros(len(edges) + 1)
    for s in sources:
        lengths, counts = s.durations.values, s.durations.counts
        np.add.at(
            mass, np.searchsorted(edges, lengths, side="right"), lengths * counts * s.share / total / counts.sum()
        )
    return mass


def test_every_bucket_gets_the_same_audio():
    rng = np.random.default_rng(0)
    sources = [source(rng.uniform(1, 20, 5000))]
    mass = audio_per_bucket(plan_bins(sources, 10), sources)
    assert len(mass) == 10
    assert mass.max() / mass.min() < 1.02


def test_weights_shift_the_edges_to_the_blend():
    rng = np.random.default_rng(0)
    sources = [source(rng.uniform(1, 5, 5000), 0.2), source(rng.uniform(10, 20, 100), 0.8, "b/train")]
    mass = audio_per_bucket(plan_bins(sources, 8), sources)
    assert mass.max() / mass.min() < 1.2
    unweighted = plan_bins([Source(s.name, s.durations) for s in sources], 8)
    assert unweighted["bucket_duration_bins"] != plan_bins(sources, 8)["bucket_duration_bins"]


def test_without_weights_utterances_count_alike():
    parts = [source([1.0, 2.0, 3.0]), source([4.0, 5.0], name="b/train")]
    assert (
        plan_bins(parts, 3)["bucket_duration_bins"] == plan_bins([source([1, 2, 3, 4, 5])], 3)["bucket_duration_bins"]
    )
    assert [s["weight"] for s in plan_bins(parts, 3)["sources"]] == [0.6, 0.4]


def test_a_duration_heavier_than_a_bucket_does_not_repeat_an_edge():
    """Lhotse's own estimate gives no edge at all here."""
    assert plan_bins([source([1, 1, 1, 100])], 3)["bucket_duration_bins"] == [100.0]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=200),
    st.lists(st.integers(1, 40), min_size=1, max_size=50),
    st.floats(0.01, 100),
    st.integers(1, 50),
)
@settings(max_examples=200, deadline=None)
def test_always_as_many_distinct_bins_as_the_data_allows(first, second, weight, num_buckets):
    sources = [source(first, weight), source(second, 1.0, "b/train")]
    plan = plan_bins(sources, num_buckets)
    edges = plan["bucket_duration_bins"]
    assert len(edges) + 1 == min(num_buckets, len(set(first) | set(second)))
    assert all(low < high for low, high in pairwise(edges))
    assert all(audio_per_bucket(plan, sources) > 0), "no bucket is empty"


def test_bucket_starts_follow_the_mass():
    assert bucket_starts(np.arange(1.0, 7.0), np.ones(6), 3).tolist() == [0, 2, 4]


def test_filter_is_accounted_for():
    plan = plan_bins([source([0.5, 1, 2, 3, 30])], 2, min_duration=1, max_duration=3)
    (account,) = plan["sources"]
    assert account["utterances"] == 5
    assert account["kept"] == {"utterances": 3, "seconds": 6.0}
    assert account["too_short"] == account["too_long"] == 1
    assert plan["buckets"][-1]["to_s"] == 3.0


def test_speed_perturbation_comes_before_the_filter():
    (account,) = plan_bins([source([9.5, 5.0])], 2, max_duration=10, perturb_speed=True)["sources"]
    assert account["too_long"] == pytest.approx(1 / 3), "one of three copies of 9.5 s lasts 10.6 s"
    assert account["kept"]["utterances"] == pytest.approx(5 / 3)


def test_a_filter_that_leaves_nothing_names_the_settings():
    with pytest.raises(
        UserError, match=r"a/train: .* none of its 2 utterances, which last 1.00 to 2.00 s: change train_ds"
    ):
        plan_bins([source([1.0, 2.0])], 2, min_duration=5)


def test_shares_of_audio_add_up():
    plan = plan_bins([source(np.linspace(1, 10, 100))], 7)
    assert sum(bucket["share_of_audio"] for bucket in plan["buckets"]) == pytest.approx(1, abs=1e-4)


@given(st.lists(st.floats(0.01, 40), min_size=1, max_size=60), st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_durations_of_parts_add_up(durations, cut):
    whole = Durations.of(durations)
    merged = Durations.of(durations[:cut]).merged(Durations.of(durations[cut:]))
    assert merged.values.tolist() == whole.values.tolist() == sorted(set(durations))
    assert merged.counts.tolist() == whole.counts.tolist()
    assert whole.utterances == len(durations)
    assert whole.seconds == pytest.approx(sum(durations))


def test_durations_are_counted_in_batches_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr("nuptse.durations.BATCH", 7)
    lengths = [float(n % 5 + 1) for n in range(23)]
    write_rows(tmp_path / "cuts.jsonl", ({"id": str(n), "duration": d} for n, d in enumerate(lengths)))
    save_durations(count_durations(tmp_path / "cuts.jsonl"), tmp_path / "a.npz")
    counted = load_durations(tmp_path / "a.npz")
    assert counted.values.tolist() == [1, 2, 3, 4, 5]
    assert counted.counts.tolist() == [5, 5, 5, 4, 4]
    save_durations(Durations.of(lengths[::-1]), tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    (tmp_path / "a.npz").write_text("{}")
    with pytest.raises(UserError, match=r"a\.npz holds no durations"):
        load_durations(tmp_path / "a.npz")


def test_commands_count_cuts_and_write_bins(tmp_path, capsys):
    import count_durations as counting
    from estimate_duration_bins import main

    cuts, durations = tmp_path / "cuts.jsonl.gz", tmp_path / "durations.npz"
    write_rows(cuts, ({"id": str(i), "duration": float(i), "supervisions": []} for i in range(1, 9)))
    counting.main(f"--cuts {cuts} --durations {durations}".split())
    assert "8 utterances, 0.010 h in and out; 8 distinct durations" in capsys.readouterr().out
    main(
        f"--durations {durations} --names c/train --weights [null] --num-buckets 4 --min-duration null --max-duration 7"
        f" --perturb-speed false --bins {tmp_path / 'bins.json'}".split()
    )
    plan = json.loads((tmp_path / "bins.json").read_text())
    assert plan["num_buckets"] == 4
    assert "8 utterances, 0.010 h in; 7, 0.008 h out; too short 0, too long 1" in capsys.readouterr().out


SECONDS = """
import numpy as np
from nuptse.durations import Durations
rng = np.random.default_rng(0)
print(repr(Durations(rng.uniform(1, 30, 200_000), rng.integers(1, 9, 200_000)).seconds))
"""


def test_the_sum_does_not_depend_on_the_number_of_threads():
    def seconds(threads):
        environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OPENBLAS_NUM_THREADS": str(threads)}
        return subprocess.run([sys.executable, "-c", SECONDS], env=environment, check=True, capture_output=True).stdout

    assert seconds(1) == seconds(2)
