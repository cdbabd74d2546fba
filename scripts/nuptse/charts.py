"""Vega-Lite specifications of what recognisers do in a split: pure functions from a run to plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nuptse.batches import thin
from nuptse.chart_style import (
    PERCENT_AXIS,
    ROW,
    Chart,
    Rows,
    Spec,
    Style,
    axis_x,
    axis_y,
    chart_spec,
    dashed,
    in_rows,
    layer,
    marked,
    names_above,
    stressed,
    tooltip,
    var,
)
from nuptse.formats import is_number, percent, seconds_apart, span
from nuptse.results import Detail, Run, Split
from nuptse.verdict import listed, lowest, split_name

Styles = dict[str, Style]

MAX_SPEAKERS = 60  # of a recogniser, evenly by error rate
FROM_ZERO = {"scale": {"zero": True}, "axis": PERCENT_AXIS}


def wer_chart(run: Run, split: Split, styles: Styles) -> Chart | None:
    """Word error rates of a split with their intervals; None where there are no reference words."""
    table = run.table[(run.table["corpus"] == split[0]) & (run.table["split"] == split[1]) & run.table["wer"].notna()]
    rows: Rows = []
    for record in table.itertuples():
        row: Any = record
        low, high = (row.wer_low, row.wer_high) if is_number(row.wer_low) else (row.wer, row.wer)
        shown = {"label": percent(row.wer), "interval": span(row.wer_low, row.wer_high) or "none", "words": row.words}
        rows.append(
            {"row": row.recogniser, "recogniser": row.recogniser, "wer": row.wer, "low": low, "high": high} | shown
        )
    if not rows:
        return None
    names = [row["row"] for row in rows]
    # Below their names.
    bar = {"type": "rule", "strokeWidth": 3, "strokeCap": "round", "yOffset": 9}
    point = {"type": "point", "filled": True, "size": 110, "yOffset": 9, "opacity": 1}
    text = {"type": "text", "align": "left", "dx": 10, "dy": 10}
    colour, shape = _plain("color", names, styles), _plain("shape", names, styles)
    found = tooltip(recogniser="recogniser", label="WER", interval="95 % interval", words="words")
    low, high, wer = (axis_x(field, "word error rate", **FROM_ZERO) for field in ("low", "high", "wer"))
    layers = [
        layer(bar, rows, in_rows(names), low, {"x2": {"field": "high"}}, colour, stressed(0.55), found),
        layer(point, rows, in_rows(names), wer, colour, shape, stressed(), found),
        layer(text, rows, in_rows(names), high, {"text": {"field": "label"}}, stressed()),
        names_above(names),
    ]
    where, best = split_name(split), lowest(run, split)
    sentence = (
        f"Word error rate on {where}: the mark is the rate, the bar its 95 % interval. Lowest:"
        f" {listed(best)}, {percent(table['wer'].min())}."
    )
    spec = chart_spec(layers, ROW * len(names) + 6, sentence, [row["label"] for row in rows])
    return Chart("wer_" + "_".join(split), where, sentence, spec)


def duration_quartile_chart(run: Run, split: Split, styles: Styles) -> Chart | None:
    """Word error rate from the shortest quarter of the utterances to the longest; None with fewer than two parts."""
    rows: Rows = [
        {
            "recogniser": detail.recogniser,
            "part": label,
            "wer": part.wer,
            "label": percent(part.wer),
            "words": part.words,
            "utterances": part.utterances,
        }
        for detail in _details(run, split)
        for part, label in zip(detail.by_duration, duration_labels(detail), strict=True)
    ]
    parts, names = _unique(rows, "part"), _unique(rows, "recogniser")
    if len(parts) < 2 or not any(is_number(row["wer"]) for row in rows):
        return None
    place = {"scale": {"type": "point", "padding": 0.35}, "axis": {"labelAngle": 0, "grid": False}}
    x = {"x": {"field": "part", "type": "ordinal", "sort": parts, "title": "duration of the utterance"} | place}
    y = axis_y("wer", "word error rate", axis=PERCENT_AXIS)
    line = {"type": "line", "strokeWidth": 2}
    point = {"type": "point", "filled": True, "size": 70, "opacity": 1}
    found = tooltip(recogniser="recogniser", part="duration", label="WER", words="words", utterances="utterances")
    layers = [
        layer(line, rows, x, y, marked(names, styles, "color"), dashed(names, styles), stressed()),
        layer(point, rows, x, y, marked(names, styles, "color", "shape"), stressed(), found),
    ]
    sentence = f"Word error rate on {split_name(split)} by duration: each part holds about a quarter of the utterances."
    return Chart("duration_" + "_".join(split), "By duration", sentence, chart_spec(layers, 210, sentence))


def duration_labels(detail: Detail) -> list[str]:
    """Return what the parts by duration are called."""
    return seconds_apart([(part.from_s, part.to_s) for part in detail.by_duration])


def speaker_chart(run: Run, split: Split, styles: Styles) -> Chart | None:
    """Word error rate of each speaker; None where fewer than two are known."""
    rows: Rows = []
    most = 0
    for detail in _details(run, split):
        known = [part for part in detail.by_speaker if part.speaker is not None and is_number(part.wer)]
        known.sort(key=lambda part: (part.wer or 0.0, part.speaker))
        most = max(most, len(known))
        for place in thin(len(known), MAX_SPEAKERS) if len(known) > 1 else []:
            part = known[place]
            shown = {"speaker": part.speaker, "wer": part.wer, "label": percent(part.wer), "words": part.words}
            rows.append({"row": detail.recogniser, "recogniser": detail.recogniser} | shown)
    if not rows:
        return None
    names = _unique(rows, "recogniser")
    mark = {"type": "point", "filled": True, "size": 90, "yOffset": 9, "stroke": var("paper"), "strokeWidth": 1}
    x = axis_x("wer", "word error rate of a speaker", **FROM_ZERO)
    found = tooltip(recogniser="recogniser", speaker="speaker", label="WER", words="words")
    layers = [
        layer(mark, rows, in_rows(names), x, _plain("color", names, styles), stressed(0.75), found),
        names_above(names),
    ]
    some = f" {MAX_SPEAKERS} of the {most} are drawn, evenly by rate." if most > MAX_SPEAKERS else ""
    sentence = f"Word error rate on {split_name(split)} by speaker: each mark is one speaker.{some}"
    return Chart(
        "speakers_" + "_".join(split), "By speaker", sentence, chart_spec(layers, ROW * len(names) + 6, sentence)
    )


def _plain(channel: str, names: list[str], styles: Styles) -> Spec:
    """An encoding of the recogniser without a legend: its name stands in the row."""
    return {channel: marked(names, styles, channel)[channel] | {"legend": None}}


def _details(run: Run, split: Split) -> Iterator[Detail]:
    for name in run.recognisers:
        if found := run.details.get((name, *split)):
            yield found


def _unique(rows: Rows, key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))
