"""Vega-Lite specifications of bars: histograms of durations, and one bar for each name."""

from __future__ import annotations

from collections import Counter

from nuptse.chart_style import (
    ROW,
    TONES,
    Chart,
    Rows,
    Spec,
    axis_x,
    axis_y,
    chart_spec,
    in_rows,
    layer,
    names_above,
    stressed,
    tooltip,
    var,
)
from nuptse.formats import is_number
from nuptse.results import Run

MAX_BARS = 60  # of a histogram
MAX_EDGES = 40  # of buckets in a histogram


def duration_chart(run: Run, corpus: str) -> Chart | None:
    """How long the utterances of a corpus are, and where the buckets of its experiments end; None if not recorded."""
    counts, width = _histograms(run, corpus)
    places = [place for histogram in counts.values() for place in histogram]
    if not places:
        return None
    step = -(-(max(places) - min(places) + 1) // MAX_BARS)
    rows: Rows = []
    for split, histogram in counts.items():
        merged: Counter[int] = Counter()
        for place, number in histogram.items():
            merged[place // step] += number
        for place, number in sorted(merged.items()):
            low, high = round(place * step * width, 6), round((place + 1) * step * width, 6)
            rows.append({"split": split, "from": low, "to": high, "n": number, "range": f"{low:.1f} to {high:.1f} s"})
    edges = _bucket_edges(run, corpus)
    splits = list(counts)
    tones = [var(TONES[number % len(TONES)]) for number in range(len(splits))]
    legend = {"orient": "top", "title": None, "direction": "horizontal"}
    colour = {"field": "split", "type": "nominal", "legend": legend, "scale": {"domain": splits, "range": tones}}
    title, axis = "duration, s", {"tickCount": 7, "grid": False}
    bar = {"type": "bar", "binSpacing": 1}
    rule = {"type": "rule", "strokeDash": [4, 3], "color": var("ink")}
    layers = [
        layer(
            bar,
            rows,
            axis_x("from", title, axis=axis, bin="binned", scale={"zero": False, "nice": False}),
            {"x2": {"field": "to"}, "color": colour},
            axis_y("n", "utterances", stack="zero"),
            tooltip(split="split", range="duration", n="utterances"),
        ),
        layer(rule, edges, axis_x("edge", title), tooltip(label="bucket edge", of="of")),
    ]
    note = " Dashed: where one bucket of training ends and the next begins." if edges else ""
    sentence = f"How long the utterances of {corpus} are.{note}"
    return Chart(f"durations_{corpus}", corpus, sentence, chart_spec(layers, 200, sentence))


def _histograms(run: Run, corpus: str) -> tuple[dict[str, dict[int, int]], float]:
    """Utterances by split and place, the training split first, and the width of a place, s."""
    ledgers = [ledger for (name, _), ledger in run.ledgers.items() if name == corpus]
    found = [(ledger.split, ledger.histogram) for ledger in ledgers if ledger.histogram]
    found.sort(key=lambda pair: (pair[0] != "train", pair[0]))
    width = found[0][1].width_s if found else 0.0
    return {split: {int(place): n for place, n in one.counts.items()} for split, one in found}, width


def _bucket_edges(run: Run, corpus: str) -> Rows:
    """Edges, s, of the experiments that train on the corpus; of very many, those that most experiments share."""
    edges: dict[float, list[str]] = {}
    for name, training in run.trainings.items():
        if any(source.name.partition("/")[0] == corpus for source in training.sources):
            for edge in run.bins[name].bucket_duration_bins:
                edges.setdefault(edge, []).append(name)
    shown = sorted(edges, key=lambda edge: (-len(edges[edge]), edge))[:MAX_EDGES]
    return [{"edge": edge, "label": f"{edge:.2f} s", "of": ", ".join(edges[edge])} for edge in sorted(shown)]


def bar_chart(chart: tuple[str, str, str], rows: Rows, axis: Spec) -> Chart | None:
    """One bar for each name, which stands above it; None where no row has a value.

    Args:
        chart: name, title and sentence.
        rows: with ``row`` (unique), ``value``, ``label`` and ``colour``, maybe ``recogniser``; a ``wanted`` is drawn as
            a line across the bar.
        axis: of the values, with its ``title``.
    """
    if not any(is_number(row["value"]) for row in rows):
        return None
    name, title, sentence = chart
    names = [row["row"] for row in rows]
    bar = {"type": "bar", "height": 10, "yOffset": 9, "cornerRadiusEnd": 3}
    text = {"type": "text", "align": "left", "dx": 6, "dy": 10, "color": var("ink-soft")}
    tick = {"type": "tick", "thickness": 2, "size": 18, "yOffset": 9, "color": var("ink"), "opacity": 1}
    colour = {"color": {"field": "colour", "type": "nominal", "scale": None, "legend": None}}
    from_zero: Spec = {"scale": {"zero": True}} | axis
    x = axis_x("value", **from_zero)
    wanted = [row for row in rows if is_number(row.get("wanted"))]
    layers = [
        layer(bar, rows, in_rows(names), x, colour, stressed(), tooltip(row="of", label=title.lower())),
        layer(text, rows, in_rows(names), x, {"text": {"field": "label"}}, stressed()),
        *([layer(tick, wanted, in_rows(names), axis_x("wanted", **axis))] if wanted else []),
        names_above(names),
    ]
    spec = chart_spec(layers, ROW * len(names) + 6, sentence, [row["label"] for row in rows])
    return Chart(name, title, sentence, spec)
