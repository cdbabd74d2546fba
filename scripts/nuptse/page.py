"""The page of results: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup, escape

from nuptse import formats
from nuptse.batches import drawn_buckets, feeding, mix, number_of_devices
from nuptse.bootstrap import MIN_UTTERANCES
from nuptse.chart_style import COLOURS, VEGA_LITE, for_page, styles_of
from nuptse.charts import duration_labels
from nuptse.costs import Cost
from nuptse.diagnosis import change_as_yaml, counts, grouped
from nuptse.figures import fallback_svg
from nuptse.gallery import Gallery, audio_speed, decoding_speeds
from nuptse.provenance import commands, compare_settings, in_yaml, split_origins
from nuptse.results import Detail, Part, Run
from nuptse.verdict import ROLES, comparisons, headline, lowest, ordered_splits, role, split_name, verdict
from nuptse.wer_table import warnings_for

TEMPLATES = Path(__file__).with_name("templates")
PAGE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"
LISTED_WORST = 400  # worst utterances on the whole page: it has to open on a phone
EACH_WORST = 10, 3  # of a recogniser in a split: at most, at least


@dataclass(frozen=True)
class Account:
    """What jobs cost: ``missing`` are the rules without a record."""

    costs: Sequence[Cost]
    missing: Sequence[str]


def render_page(run: Run, gallery: Gallery, account: Account, configfiles: Sequence[str]) -> str:
    """Return the page as HTML, the same text for the same run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": formats.percent, "span": formats.span, "points": formats.points, "hours": formats.hours,
        "duration": formats.duration, "memory": formats.memory, "count": formats.count, "times": formats.times,
        "yaml": in_yaml, "finding_counts": counts, "change": lambda change: "\n".join(change_as_yaml(change)),
        "sentence": lambda text: f"{text[0].upper()}{text[1:]}.", "split_name": split_name, "breakable": breakable,
        "resampled": resampled, "duration_labels": duration_labels,
    }  # fmt: skip
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    script = (TEMPLATES / SCRIPT).read_text("utf-8")
    page: str = environment.get_template(PAGE).render(
        page_context(run, gallery, account, configfiles)
        | {
            "policy": content_policy([bundle, script]),
            "bundle": Markup(bundle),  # ours and Vega's, not data
            "script": Markup(script),
            "style": Markup((TEMPLATES / STYLE).read_text("utf-8")),
        }
    )
    return page


def breakable(name: str) -> Markup:
    """Return a name that may be broken after an underscore, a dot or a slash."""
    return Markup(re.sub(r"([_./]+)", r"\1<wbr>", str(escape(name))))


def content_policy(scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy under which a page reaches no network and runs these scripts only."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
        " form-action 'none'"
    )


def worst_speakers(parts: Sequence[Part], number: int) -> list[Part]:
    """Return the speakers with the highest rates, highest first; those without words last."""
    return sorted(parts, key=lambda part: -1.0 if part.wer is None else part.wer, reverse=True)[:number]


def resampled(detail: Detail) -> str:
    """Return what the intervals of a split rest on, as ``intervals by 6 speakers``."""
    if detail.utterances < MIN_UTTERANCES:
        return f"no intervals with fewer than {MIN_UTTERANCES} utterances"
    found = detail.bootstrap
    units = {"mixed": "units: speakers, and utterances without one"}.get(found.units, found.units)
    return f"intervals by {formats.count(found.num_units)} {units}"


def page_context(run: Run, gallery: Gallery, account: Account, configfiles: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows."""
    splits = ordered_splits(run)
    experiments = run.settings["experiments"]
    verdicts = {split: found for split in splits if (found := verdict(run, split))}
    panels = [
        run.details[name, *split] for split in splits for name in run.recognisers if (name, *split) in run.details
    ]
    most, least = EACH_WORST
    trained_on = sorted({source.name.partition("/")[0] for t in run.trainings.values() for source in t.sources})
    details = {(row.recogniser, row.corpus, row.split): row for row in run.table.itertuples()}
    return {
        "run": run,
        "headline": headline(run),
        "warnings": list(warnings_for(run.comparisons, run.bases, run.same_data)),
        "splits": splits,
        "roles": {split: role(run, split) for split in splits},
        "role_names": ROLES,
        "verdicts": verdicts,
        "lowest": {split: lowest(run, split) for split in splits},
        "rows": details,
        "scored_in": {split: [name for name in run.recognisers if (name, *split) in details] for split in splits},
        "bootstrap": next((detail.bootstrap for detail in run.details.values()), None),
        "worst_speakers": worst_speakers,
        "comparisons": list(comparisons(run)),
        "trained_on": trained_on,
        "styles": styles_of(run),
        "colours": COLOURS,
        "gallery": gallery,
        "fallbacks": {chart.name: Markup(fallback_svg(chart)) for chart in gallery.charts},  # Vega escapes
        "specs": {chart.name: for_page(chart.spec) for chart in gallery.charts},
        "feedings": {
            name: feeding(
                training,
                experiments[name]["train_ds"]["batch_duration"],
                experiments[name]["train_ds"]["quadratic_duration"],
                number_of_devices(experiments[name]["trainer"]),
            )
            for name, training in run.trainings.items()
        },
        "buckets": {name: drawn_buckets(training, run.bins[name]) for name, training in run.trainings.items()},
        "mixes": {name: shares for name, training in run.trainings.items() if (shares := mix(training))},
        "speeds": {name: audio_speed(training) for name, training in run.trainings.items()},
        "decoding": decoding_speeds(run),
        "account": account,
        "findings": grouped(run.reports.values()),
        "panels": panels,
        "listed_worst": max(least, min(most, LISTED_WORST // max(len(panels), 1))),
        "settings": compare_settings(experiments),
        "commands": commands(run, configfiles),
        "origins": split_origins(run),
    }
