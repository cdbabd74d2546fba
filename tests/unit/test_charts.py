"""Charts: they compile, they are told apart without colour, and they hold no address."""

import json
from dataclasses import replace

import msgspec
import pytest
from run_files import batch, experiment, training, transcripts
from test_verdict import run_of

from nuptse.chart_style import COLOURS, SERIES, TONES, for_fallback, for_file, for_page, styles_of
from nuptse.charts import MAX_SPEAKERS, duration_quartile_chart, speaker_chart
from nuptse.curves import validation_charts
from nuptse.figures import to_svg
from nuptse.gallery import make_gallery

MANY = {f"experiment_{number:02}": experiment() for number in range(20)}


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_can_be_seen(mode):
    paper = COLOURS["paper"][mode]
    for name in [*SERIES, "base"]:
        assert contrast(COLOURS[name][mode], paper) >= 3, name
    for name in TONES:
        assert contrast(COLOURS[name][mode], paper) >= 2.5, name
    for name in ("ink", "ink-soft"):
        assert contrast(COLOURS[name][mode], paper) >= 4.5, name


def test_no_two_recognisers_look_alike(tmp_path):
    styles = styles_of(run_of(tmp_path, experiments=MANY))
    assert len({(style.colour, style.dash) for style in styles.values()}) == 21
    assert styles["base"].colour == "base"


def test_every_chart_compiles_for_each_place(tmp_path):
    mixed = {"mixed": experiment(train=("corpus", "other")), "plain": experiment()}
    drawn = [batch(step, by_source={"corpus/train": 5, "other/train": 5}) for step in range(1, 9)]
    run = run_of(tmp_path, experiments=mixed, trainings={"mixed": training("mixed", drawn, ("corpus", "other"))})
    gallery = make_gallery(run, [])
    names = [chart.name for chart in gallery.charts]
    assert len(names) == len(set(names)) > 12
    for chart in gallery.charts:
        for place in (for_page, for_fallback, for_file):
            spec = place(chart.spec)
            json.dumps(spec, allow_nan=False)
            svg = to_svg(spec | ({"width": 300} if place is for_page else {}), chart.name)
            assert "role-mark" in svg and "<path" in svg
        assert "var(--" not in json.dumps(for_file(chart.spec))
        assert "http" not in json.dumps({key: value for key, value in chart.spec.items() if key != "$schema"})
        assert chart.sentence.endswith(".")


def test_of_very_many_speakers_some_are_drawn(tmp_path):
    run = run_of(tmp_path)
    key = ("first", "corpus", "test")
    part = run.details[key].by_speaker[0]
    run.details[key].by_speaker[:] = [type(part)(4, 10, n % 10, (n % 10) / 10, speaker=f"s{n}") for n in range(500)]
    chart = speaker_chart(run, ("corpus", "test"), styles_of(run))
    rows = [row for row in chart.spec["layer"][0]["data"]["values"] if row["recogniser"] == "first"]
    assert len(rows) == MAX_SPEAKERS
    assert "60 of the 500 are drawn" in chart.sentence


@pytest.mark.parametrize("step_s", [0.1, 0.005, 0.001])
def test_short_utterances_have_a_chart_by_duration_with_parts_apart(tmp_path, step_s):
    def commands(heard):
        return [
            msgspec.structs.replace(row, duration=1 + number * step_s) for number, row in enumerate(transcripts(heard))
        ]

    rows = {(name, split): commands("no") for name in ("base", "first", "second") for split in ("dev", "test")}
    run = run_of(tmp_path, rows=rows)
    chart = duration_quartile_chart(run, ("corpus", "test"), styles_of(run))
    drawn = chart.spec["layer"][0]["data"]["values"]
    assert len(drawn) == 12 and len({row["part"] for row in drawn}) == 4


def test_a_long_training_is_thinned(tmp_path):
    long = training("first", [batch(step) for step in range(1, 5001)])
    run = run_of(tmp_path, experiments={"first": experiment()}, trainings={"first": long})
    (loss,) = [chart for chart in make_gallery(run, []).training if chart.name == "loss"]
    steps = [row["step"] for row in loss.spec["layer"][0]["data"]["values"]]
    assert len(steps) == 300 and steps[0] == 1 and steps[-1] == 5000


def test_a_base_that_was_scored_otherwise_is_no_step_0_of_what_nemo_measures(tmp_path):
    run = run_of(tmp_path)
    beam = replace(run, settings=run.settings | {"decoding": {"strategy": "beam"}})
    lowered = replace(run, table=run.table.assign(normalizer="lower"))
    for tried, steps, bases in ((run, {0, 30}, 1), (beam, {30}, 0), (lowered, {30}, 0)):
        (chart,) = validation_charts(tried, styles_of(tried))
        rule, _, line, _ = (layer["data"]["values"] for layer in chart.spec["layer"])
        assert {row["step"] for row in line} == steps
        assert len(rule) == bases
        assert ("Step 0 is the base model" in chart.sentence) == bool(bases)
        to_svg(for_file(chart.spec), chart.name)


def test_speech_in_a_batch_is_that_of_one_device(tmp_path):
    run = run_of(tmp_path)
    run.settings["experiments"]["first"]["trainer"] |= {"devices": 2, "num_nodes": 2}
    (chart,) = [chart for chart in make_gallery(run, []).feeding if chart.name == "batch_audio"]
    rows = chart.spec["layer"][0]["data"]["values"]
    assert {(row["recogniser"], row["value"]) for row in rows} == {("first", 10.0), ("second", 40.0)}
