"""Charts as pictures: for results/figures, and for a page without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import vl_convert

from nuptse.chart_style import VEGA_LITE, Chart, Spec, for_fallback, for_file
from nuptse.errors import write_atomically

PNG_SCALE = 2


def to_svg(spec: Spec, name: str) -> str:
    """Return a picture as SVG. No data is fetched from anywhere.

    Its ids begin with ``name``: those of the renderer are numbered over all pictures that it drew.
    """
    svg: str = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE, allowed_base_urls=[])
    numbers = {found: str(number) for number, found in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))}
    for found, number in numbers.items():
        svg = svg.replace(f'id="{found}"', f'id="{name}-{number}"').replace(f"url(#{found})", f"url(#{name}-{number})")
    return svg


def fallback_svg(chart: Chart) -> str:
    """Return the still picture of a chart for the page: it scales with its column, and its ids are its own."""
    svg = to_svg(for_fallback(chart.spec), f"still-{chart.name}")
    return re.sub(r'(<svg [^>]*?)width="[\d.]+" height="[\d.]+" ', r"\1", svg, count=1)


def write_figures(charts: Iterable[Chart], folder: Path) -> int:
    """Write every chart as ``<name>.svg`` and ``<name>.png``; return how many charts there were."""
    number = 0
    for chart in charts:
        spec = for_file(chart.spec)
        with write_atomically(folder / f"{chart.name}.svg") as partial:
            partial.write_text(to_svg(spec, chart.name), "utf-8")
        png = vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=PNG_SCALE, allowed_base_urls=[])
        with write_atomically(folder / f"{chart.name}.png") as partial:
            partial.write_bytes(png)
        number += 1
    return number
