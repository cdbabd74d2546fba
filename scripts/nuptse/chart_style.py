"""How charts look: colours for light and dark, a mark for each recogniser, and what all specifications share.

Colours in a specification are CSS variables. On the page the style sheet gives their values, so that one chart serves
light, dark and print; in files they are replaced by the light ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nuptse.results import Run

Spec = dict[str, Any]
Rows = list[dict[str, Any]]

VEGA_LITE = "6.4"
WIDTH = 680  # px of a file; on the page a chart is as wide as its column
PAGE_WIDTH = 440  # px of a still picture on the page, which scales: its text stays readable on a phone
PADDING = 5  # px
LABEL_GAP, LETTER = 10, 7  # px between a mark and its label; width of a letter, amply
ROW = 38  # px for a name and what belongs to it below

# name -> (light, dark). Every colour has a contrast of 3:1 or more on its background, text 4.5:1.
COLOURS = {
    "paper": ("#ffffff", "#14171c"),
    "ink": ("#1b1f24", "#e6e9ee"),
    "ink-soft": ("#57606a", "#a3adb9"),
    "line": ("#e3e7ec", "#2c333c"),
    "base": ("#6b7280", "#9aa4b2"),
    "series-1": ("#0072b2", "#56b4e9"),
    "series-2": ("#c85200", "#f5903d"),
    "series-3": ("#00805f", "#2fcf9f"),
    "series-4": ("#a3348c", "#e58bd0"),
    "series-5": ("#8f6b00", "#dfc04a"),
    "series-6": ("#4a3fc0", "#a79cff"),
    "series-7": ("#8a4630", "#d89a7c"),
    "series-8": ("#0b7f99", "#5fd3e6"),
    "tone-1": ("#35618e", "#7fb0e0"),
    "tone-2": ("#c98a2b", "#e8b563"),
    "tone-3": ("#5f8f4e", "#9bcf86"),
    "tone-4": ("#9b5c8f", "#d596c8"),
}
SERIES = [name for name in COLOURS if name.startswith("series")]
TONES = [name for name in COLOURS if name.startswith("tone")]
DASHES = ([1, 0], [6, 3], [2, 2], [9, 3, 2, 3])
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down")


def var(colour: str) -> str:
    return f"var(--{colour})"


@dataclass(frozen=True)
class Style:
    """How a recogniser is drawn, everywhere alike. Dash and shape tell apart what colour alone may not."""

    colour: str
    dash: tuple[int, ...]
    shape: str


def styles_of(run: Run) -> dict[str, Style]:
    """Return the style of each recogniser: base models grey, experiments in the order of their names."""
    styles = {}
    for number, name in enumerate(run.base_models):
        styles[name] = Style("base", tuple(DASHES[number % len(DASHES)]), SHAPES[number % len(SHAPES)])
    for number, name in enumerate(run.experiments):
        # The dash changes with each experiment too: two layouts that learn the same lie on one another.
        styles[name] = Style(
            SERIES[number % len(SERIES)],
            tuple(DASHES[(number + number // len(SERIES)) % len(DASHES)]),
            SHAPES[(number + number // len(SERIES)) % len(SHAPES)],
        )
    return styles


@dataclass(frozen=True)
class Chart:
    """A chart of the page and of results/figures.

    Attributes:
        name: of its files.
        title: what it is about.
        sentence: what it shows, read aloud in place of the picture too.
        spec: Vega-Lite.
    """

    name: str
    title: str
    sentence: str
    spec: Spec


FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
CONFIG: Spec = {
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": var("ink-soft"), "titleColor": var("ink-soft"), "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "gridColor": var("line"), "domain": False, "ticks": False, "labelPadding": 6,
        "titlePadding": 8, "tickCount": 5, "labelFlush": False, "labelOverlap": True,
    },
    "axisX": {"grid": True},
    "legend": {
        "labelColor": var("ink"), "titleColor": var("ink-soft"), "labelFontSize": 12, "labelLimit": 320,
        "orient": "bottom", "direction": "vertical", "symbolStrokeWidth": 2, "symbolOpacity": 1,
    },
    "text": {"color": var("ink"), "fontSize": 12},
    "rule": {"color": var("ink-soft")},
}  # fmt: skip
PERCENT_AXIS = {"labelExpr": "format(100 * datum.value, '~g') + ' %'"}
# The page has one legend for all charts; a file needs its own.
LEGEND = {"title": None, "columns": 2}


def chart_spec(layers: Sequence[Spec], height: int, description: str, labels: Sequence[str] = ()) -> Spec:
    """Return a specification with what all charts have; ``picked`` names the recognisers to stress, none for all.

    Args:
        labels: texts that stand to the right of the last mark, for which room is kept.
    """
    right = PADDING + max((LABEL_GAP + LETTER * len(label) for label in labels), default=0)
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE.partition('.')[0]}.json",
        "description": description,
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": None,
        "padding": {"left": PADDING, "top": PADDING, "bottom": PADDING, "right": right},
        "params": [{"name": "picked", "value": []}],
        "layer": list(layers),
        "config": CONFIG,
    }


def marked(names: Sequence[str], styles: dict[str, Style], *channels: str) -> Spec:
    """Return encodings of the field ``recogniser``: ``color``, ``strokeDash``, ``shape``, each with the same legend."""
    ranges = {
        "color": [var(styles[name].colour) for name in names],
        "strokeDash": [list(styles[name].dash) for name in names],
        "shape": [styles[name].shape for name in names],
    }
    return {
        channel: {
            "field": "recogniser", "type": "nominal", "legend": LEGEND, "title": None,
            "scale": {"domain": list(names), "range": ranges[channel]},
        }
        for channel in channels
    }  # fmt: skip


def dashed(names: Sequence[str], styles: dict[str, Style]) -> Spec:
    """Return the dashes alone, for lines under marks that tell in the legend what they are."""
    return {"strokeDash": marked(names, styles, "strokeDash")["strokeDash"] | {"legend": None}}


def stressed(opacity: float = 1.0) -> Spec:
    """Return the opacity of a mark: faint while another recogniser is picked."""
    test = "!length(picked) || indexof(picked, datum.recogniser) >= 0"
    return {"opacity": {"condition": {"test": test, "value": opacity}, "value": 0.12 * opacity}}


# --- parts of a chart ---


def layer(mark: Spec, rows: Rows, *encodings: Spec, name: str | None = None) -> Spec:
    """Return marks for rows, with encodings laid over each other."""
    merged: Spec = {}
    for encoding in encodings:
        merged |= encoding
    return ({"name": name} if name else {}) | {"data": {"values": rows}, "mark": mark, "encoding": merged}


def axis_x(field: str, title: str, **more: Any) -> Spec:
    return {"x": {"field": field, "type": "quantitative", "title": title} | more}


def axis_y(field: str, title: str, **more: Any) -> Spec:
    return {"y": {"field": field, "type": "quantitative", "title": title} | more}


def tooltip(**fields: str) -> Spec:
    """Return what the pointer shows: fields and their names."""
    return {"tooltip": [{"field": field, "title": title} for field, title in fields.items()]}


def in_rows(names: Sequence[str]) -> Spec:
    """Return the encoding of the field ``row``, from the top, without an axis: :func:`names_above` says the names."""
    return {"y": {"field": "row", "type": "nominal", "scale": {"domain": list(names)}, "axis": None}}


def names_above(names: Sequence[str]) -> Spec:
    """Return a name at the start of each row, above its mark: long names need no margin, and fit a phone."""
    rows: Rows = [{"row": name, "recogniser": name} for name in names]
    mark = {"type": "text", "align": "left", "baseline": "middle", "dy": -9, "limit": 330}
    return layer(mark, rows, in_rows(names), {"x": {"value": 0}, "text": {"field": "row"}}, stressed())


# --- where a chart is shown ---


def for_page(spec: Spec) -> Spec:
    """Return the specification of the living chart: as wide as its column, without the legend of recognisers."""
    return dict(_without_legend(spec)) | {"width": "container"}


def for_fallback(spec: Spec) -> Spec:
    """Return that of the still picture in the page, which has no use for what only the pointer finds."""
    return _without_hits(dict(_without_legend(spec))) | {"width": PAGE_WIDTH}


def for_file(spec: Spec) -> Spec:
    """Return that of a file: light colours on white, its own legend."""
    margin = {side: width + PADDING for side, width in spec["padding"].items()}
    text = json.dumps(_without_hits(spec) | {"background": var("paper"), "padding": margin})
    for name, (light, _) in COLOURS.items():
        text = text.replace(f"var(--{name})", light)
    found: Spec = json.loads(text)
    return found


def _without_hits(spec: Spec) -> Spec:
    return spec | {"layer": [layer for layer in spec["layer"] if layer.get("name") != "hits"]}


def _without_legend(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {
            key: None if key == "legend" and value == LEGEND else _without_legend(value) for key, value in tree.items()
        }
    return [_without_legend(item) for item in tree] if isinstance(tree, list) else tree
