"""Vega-Lite specifications of what changes during a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nuptse.batches import number_of_devices, smooth, thin
from nuptse.chart_style import (
    PERCENT_AXIS,
    Chart,
    Rows,
    Spec,
    Style,
    axis_x,
    axis_y,
    chart_spec,
    dashed,
    layer,
    marked,
    stressed,
    tooltip,
    var,
)
from nuptse.formats import is_number, percent
from nuptse.results import Batch, Run, Split
from nuptse.verdict import split_name

Styles = dict[str, Style]

POINTS = 300  # of a curve: as many as a screen can show
ALL_POINTS = 3000  # of all curves of a chart
HEIGHT = 230  # px
STEP = axis_x("step", "step", axis={"format": "~s", "tickMinStep": 1, "grid": False})
LINE = {"type": "line", "strokeWidth": 2.2}


def curve_chart(
    run: Run,
    styles: Styles,
    chart: tuple[str, str, str],
    value: Callable[[Batch], float | None],
    *,
    axis: Spec,
    form: Callable[[float], str],
    calm: bool = True,
    raw: bool = False,
    of_a_device: bool = False,
) -> Chart | None:
    """Curves over the steps of every experiment; None if there is not one finite value.

    Args:
        chart: name, title and sentence.
        axis: of the values, with its ``title``.
        form: how the pointer's label gives a value.
        calm: draw the moving average in place of the value.
        raw: draw each value too, faintly.
        of_a_device: divide the values, which are sums over all devices.
    """
    name, title, sentence = chart
    limit = max(60, min(POINTS, ALL_POINTS // max(len(run.trainings), 1)))
    rows: Rows = []
    for experiment, training in run.trainings.items():
        number = number_of_devices(run.settings["experiments"][experiment]["trainer"]) if of_a_device else 1
        values = [None if (amount := value(row)) is None else amount / number for row in training.train]
        drawn = smooth(values) if calm else values
        for place in thin(len(values), limit):
            here = _short(drawn[place])
            label = "–" if here is None else form(here)
            row = {"recogniser": experiment, "step": training.train[place].step, "value": here, "label": label}
            rows.append(row | ({"one": _short(values[place])} if raw else {}))
    if not any(row["value"] is not None for row in rows):
        return None
    names = run.experiments
    y = axis_y("value", **axis)
    colour = marked(names, styles, "color")
    faint = {"type": "line", "strokeWidth": 1}
    hits = {"type": "point", "size": 140, "filled": True}
    found = tooltip(recogniser="experiment", step="step", label=title.lower())
    layers = [
        *([layer(faint, rows, STEP, axis_y("one", **axis), colour, stressed(0.3))] if raw else []),
        layer(LINE, rows, STEP, y, marked(names, styles, "color", "strokeDash"), stressed()),
        layer(hits, rows, STEP, y, colour, {"opacity": {"value": 0}}, found, name="hits"),
    ]
    return Chart(name, title, sentence, chart_spec(layers, HEIGHT, sentence))


def _short(value: float | None) -> float | None:
    """Six digits are more than a picture shows."""
    return float(f"{value:.6g}") if value is not None and is_number(value) else None


def validation_charts(run: Run, styles: Styles) -> Iterator[Chart]:
    """Yield the validation WER over the steps, a chart for each set; step 0 is the base, where that can be compared.

    NeMo normalises no text and decodes as the model does by itself. What was scored otherwise is another measure.
    """
    sets: dict[Split, list[str]] = {}
    for experiment, settings in sorted(run.settings["experiments"].items()):
        for entry in settings["validation"]:
            sets.setdefault((entry["corpus"], entry["split"]), []).append(experiment)
    table = run.table
    table = table[(table["normalizer"] == "none") & (not run.settings["decoding"])]
    columns = zip(table["recogniser"], table["corpus"], table["split"], table["wer"], strict=True)
    rates = {(str(name), str(corpus), str(split)): float(wer) for name, corpus, split, wer in columns if is_number(wer)}
    for split, names in sorted(sets.items()):
        rows = [row for name in names for row in _validations(run, name, split, rates)]
        if rows:
            bases = {run.bases[name] for name in names}
            rules = [(base, rates[base, *split]) for base in sorted(bases) if (base, *split) in rates]
            yield _validation_chart(split, names, rows, rules, styles)


def _validations(run: Run, experiment: str, split: Split, rates: dict[tuple[str, str, str], float]) -> Rows:
    training = run.trainings[experiment]
    found = [(row.step, row.val_wer.get("_".join(split))) for row in training.validation]
    return [
        {
            "recogniser": experiment,
            "step": step,
            "wer": _short(wer),
            "label": percent(wer),
            "size": 130 if step == training.best.step else 50,
        }
        for step, wer in [(0, rates.get((run.bases[experiment], *split))), *found]
        if is_number(wer)
    ]


def _validation_chart(
    split: Split, names: list[str], rows: Rows, rules: list[tuple[str, float]], styles: Styles
) -> Chart:
    bases: Rows = [{"recogniser": base, "wer": wer, "label": f"{base} {percent(wer)}"} for base, wer in rules]
    y = axis_y("wer", "word error rate", axis=PERCENT_AXIS)
    rule = {"type": "rule", "strokeDash": [3, 3], "color": var("base")}
    text = {"type": "text", "align": "right", "baseline": "bottom", "dy": -4, "color": var("ink-soft")}
    point = {"type": "point", "filled": True, "opacity": 1}
    size = {"size": {"field": "size", "type": "quantitative", "scale": None, "legend": None}}
    layers = [
        layer(rule, bases, y, stressed()),
        layer(text, bases, y, {"x": {"value": "width"}, "text": {"field": "label"}}),
        layer(LINE, rows, STEP, y, marked(names, styles, "color"), dashed(names, styles), stressed()),
        layer(
            point,
            rows,
            *(STEP, y, marked(names, styles, "color", "shape"), size, stressed()),
            tooltip(recogniser="experiment", step="step", label="WER"),
        ),
    ]
    where = split_name(split)
    sentence = f"Word error rate on {where} during training, as NeMo measures it. " + (
        "Step 0 is the base model, the larger mark the step that was kept."
        if rules
        else "The larger mark is the step that was kept. The base model has no comparable rate: only the results"
        " normalise texts and use the decoding options."
    )
    spec = chart_spec(layers, HEIGHT, sentence)
    return Chart("validation_wer_" + "_".join(split), f"Validation on {where}", sentence, spec)
