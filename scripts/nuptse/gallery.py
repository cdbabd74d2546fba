"""All charts of a run, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nuptse.bars import bar_chart, duration_chart
from nuptse.batches import mix
from nuptse.chart_style import PERCENT_AXIS, Chart, Rows, Style, styles_of, var
from nuptse.charts import duration_quartile_chart, speaker_chart, wer_chart
from nuptse.costs import Cost
from nuptse.curves import curve_chart, validation_charts
from nuptse.formats import duration, memory, percent, times
from nuptse.results import Run, Split, Training
from nuptse.verdict import ordered_splits

Styles = dict[str, Style]


@dataclass(frozen=True)
class Gallery:
    """The charts by section; ``errors`` by split. A chart that would be empty is not there."""

    results: list[Chart] = field(default_factory=list)
    training: list[Chart] = field(default_factory=list)
    durations: list[Chart] = field(default_factory=list)
    feeding: list[Chart] = field(default_factory=list)
    mixing: list[Chart] = field(default_factory=list)
    cost: list[Chart] = field(default_factory=list)
    rules: list[Chart] = field(default_factory=list)
    errors: dict[Split, list[Chart]] = field(default_factory=dict)

    @property
    def charts(self) -> list[Chart]:
        sections = (self.results, self.training, self.durations, self.feeding, self.mixing, self.cost, self.rules)
        return [chart for section in (*sections, *self.errors.values()) for chart in section]


def audio_speed(training: Training) -> float | None:
    """Return how many hours of audio a training takes in an hour of wall time; validation is not counted."""
    seconds = training.training_seconds
    return training.audio_seconds / seconds if seconds else None


def decoding_speeds(run: Run) -> dict[str, float | None]:
    """Return how many times faster than real time each recogniser decodes, over all its splits."""
    speeds = {}
    for name in run.recognisers:
        timings = [detail.timing for key, detail in run.details.items() if key[0] == name and detail.timing]
        seconds = sum(timing.get("seconds") or 0.0 for timing in timings)
        audio = sum(timing.get("audio_seconds") or 0.0 for timing in timings)
        speeds[name] = audio / seconds if seconds else None
    return speeds


def _present(charts: Sequence[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def make_gallery(run: Run, costs: Sequence[Cost]) -> Gallery:
    """Return every chart that the run has data for."""
    styles = styles_of(run)
    splits = ordered_splits(run)
    return Gallery(
        results=_present([wer_chart(run, split, styles) for split in splits]),
        training=_present([_loss(run, styles), *validation_charts(run, styles), _learning_rate(run, styles)]),
        durations=_present([duration_chart(run, corpus) for corpus in sorted({corpus for corpus, _ in run.ledgers})]),
        feeding=_present([_padding(run, styles), _batch_audio(run, styles)]),
        mixing=_present([_mix(run, styles)]),
        cost=_present([_training_speed(run, styles), _decoding_speed(run, styles)]),
        rules=_present([_rule_time(costs)]),
        errors={
            split: _present([duration_quartile_chart(run, split, styles), speaker_chart(run, split, styles)])
            for split in splits
        },
    )


# --- training ---


def _loss(run: Run, styles: Styles) -> Chart | None:
    sentence = "Loss of each batch, faint, and its moving average over a twentieth of the run."
    return curve_chart(
        run,
        styles,
        ("loss", "Loss", sentence),
        lambda row: row.loss,
        axis={"title": "loss"},
        form="{:.3g}".format,
        raw=True,
    )


def _learning_rate(run: Run, styles: Styles) -> Chart | None:
    sentence = "How far each step may change the weights: it rises while the optimizer warms up, then falls."
    axis = {"title": "learning rate", "axis": {"format": "~e"}}
    chart = ("learning_rate", "Learning rate", sentence)
    return curve_chart(run, styles, chart, lambda row: row.lr, axis=axis, form="{:.2e}".format, calm=False)


def _padding(run: Run, styles: Styles) -> Chart | None:
    sentence = "Share of each batch that is padding, as a moving average: less is better."
    axis = {"title": "padding", "axis": PERCENT_AXIS}
    return curve_chart(run, styles, ("padding", "Padding", sentence), lambda row: row.padding, axis=axis, form=percent)


def _batch_audio(run: Run, styles: Styles) -> Chart | None:
    sentence = (
        "Speech in each batch, that of one device where there are several, padding not counted, as a moving average:"
        " even batches keep a GPU busy."
    )
    chart = ("batch_audio", "Speech in a batch", sentence)
    return curve_chart(
        run,
        styles,
        chart,
        lambda row: row.audio_seconds,
        axis={"title": "speech, s"},
        form="{:.1f} s".format,
        of_a_device=True,
    )


# --- bars ---


def _mix(run: Run, styles: Styles) -> Chart | None:
    sentence = "Share of the utterances that came from each source. The line is what the weights ask for."
    rows = [
        {
            "row": f"{name}: {share.source}",
            "recogniser": name,
            "value": share.delivered,
            "wanted": share.wanted,
            "label": percent(share.delivered),
            "colour": var(styles[name].colour),
        }
        for name, training in run.trainings.items()
        for share in mix(training)
    ]
    axis = {"title": "share of utterances", "axis": PERCENT_AXIS}
    return bar_chart(("mix", "Share of utterances", sentence), rows, axis)


def _training_speed(run: Run, styles: Styles) -> Chart | None:
    sentence = "Hours of audio that are trained on in an hour of wall time; validation is not counted."
    speeds = {name: audio_speed(training) for name, training in run.trainings.items()}
    chart = ("training_speed", "Speed of training", sentence)
    return bar_chart(chart, _speed_rows(speeds, styles), {"title": "audio hours per hour"})


def _decoding_speed(run: Run, styles: Styles) -> Chart | None:
    sentence = "How many times faster than real time speech is transcribed."
    chart = ("decoding_speed", "Speed of recognition", sentence)
    return bar_chart(chart, _speed_rows(decoding_speeds(run), styles), {"title": "times real time"})


def _speed_rows(speeds: Mapping[str, float | None], styles: Styles) -> Rows:
    return [
        {"row": name, "recogniser": name, "value": speed, "label": times(speed), "colour": var(styles[name].colour)}
        for name, speed in speeds.items()
    ]


def _rule_time(costs: Sequence[Cost]) -> Chart | None:
    sentence = "Wall time of all jobs of a rule, one after the other, and the memory of the largest."
    rows: Rows = [
        {
            "row": cost.rule,
            "value": cost.seconds,
            "label": ", ".join([duration(cost.seconds), *([memory(cost.peak_bytes)] if cost.peak_bytes else [])]),
            "colour": var("tone-1"),
        }
        for cost in costs
    ]
    return bar_chart(("rule_time", "Time by rule", sentence), rows, {"title": "wall time, s", "axis": {"format": "~s"}})
