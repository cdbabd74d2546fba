"""The page of results in a real browser, and Snakemake's own report: offline, in light and dark, on a phone, on paper."""

import json
import os
import shutil
import zipfile
from contextlib import contextmanager

import pytest
import yaml

from nuptse.plan import Plan

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    arguments = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield found
        found.close()


@contextmanager
def opened(browser, finished, *, size="desktop", scheme="light", script=True):
    """Open the page; whatever it says, fails at or asks for beyond itself is collected in ``complaints``."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=script
    )
    page, complaints = context.new_page(), []
    address = (finished.folder / "results/report.html").as_uri()
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith((address, "data:")) else None)
    page.goto(address)
    yield page, complaints
    context.close()


def living_charts(page):
    """Scroll to the end, so that every chart comes to life; return how many did."""
    for figure in page.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".living svg").wait_for(timeout=20_000)
    return page.locator("figure.chart .living svg").count()


# Marks that one can see: of some size, and not see-through.
MARKS = """() => [...document.querySelectorAll("figure.chart")].map((figure) => {
  const svg = [...figure.querySelectorAll("svg")].find((one) => one.getBoundingClientRect().width > 0);
  const marks = svg ? svg.querySelectorAll("[class*='mark-'] path, [class*='mark-'] line, .mark-rule line") : [];
  const seen = [...marks].filter((mark) => {
    const { width, height } = mark.getBoundingClientRect();
    return width + height > 1 && mark.closest("[class*='role-mark']");
  });
  return [figure.dataset.chart, seen.length];
})"""


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_works_offline(browser, finished, size, scheme):
    with opened(browser, finished, size=size, scheme=scheme) as (page, complaints):
        charts = page.locator("figure.chart").count()
        assert charts > 10
        assert living_charts(page) == charts
        assert [name for name, marks in page.evaluate(MARKS) if not marks] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
        assert complaints == []


@needs_browser
def test_the_table_has_every_recogniser_in_every_split(browser, finished):
    config, schema = (yaml.safe_load((finished.folder / "config" / name).read_text()) for name in ("config.yaml", "schema.yaml"))  # fmt: skip
    plan = Plan(config, schema, finished.folder)
    with opened(browser, finished) as (page, _):
        rows = set(page.evaluate("[...document.querySelectorAll('[data-row]')].map((row) => row.dataset.row)"))
        cells = dict(page.evaluate("[...document.querySelectorAll('[data-cell]')].map((c) => [c.dataset.cell, c.innerText])"))  # fmt: skip
    expected = {
        f"{name} {corpus}/{split}"
        for name in plan.recognisers
        for corpus, split in plan.used_splits
        if f"{corpus}_{split}" in plan.evaluation_names(name)
    }
    assert rows == expected
    assert all("%" in cells[key] for key in expected)


@needs_browser
def test_a_picked_recogniser_stands_out(browser, finished):
    with opened(browser, finished) as (page, complaints):
        page.locator("figure[data-chart=loss]").scroll_into_view_if_needed()
        page.locator("figure[data-chart=loss] .living svg").wait_for()
        page.locator("button.chip", has_text="nemo_tarred").click()
        page.mouse.move(700, 450)
        faint = "() => [...document.querySelectorAll('[data-chart=loss] .living .mark-line path')].filter((p) => Number(p.getAttribute('opacity')) === 0.12).length"  # fmt: skip
        page.wait_for_function(f"({faint})() === 3")
        page.select_option("#pick-recogniser", "quickstart_base")
        page.select_option("#pick-split", "quickstart_yesno/test")
        (panel,) = [panel for panel in page.locator(".panel").all() if panel.is_visible()]
        assert panel.locator(".pair.sub").count() > 0
        page.select_option("#pick-recogniser", "finetune_from_cutset")
        assert page.locator("#pick-none").is_visible()
        assert complaints == []


@needs_browser
@pytest.mark.parametrize("size", SIZES)
def test_without_javascript_nothing_is_missing(browser, finished, size):
    with opened(browser, finished, size=size, script=False) as (page, complaints):
        pictures = page.locator("figure.chart .plot svg")
        assert pictures.count() == page.locator("figure.chart").count() > 10
        sizes = [picture.bounding_box() for picture in pictures.all()]
        assert all(box["width"] > 150 and box["height"] > 40 for box in sizes)
        assert page.locator("#all-numbers [data-row]").count() > 10
        panels = page.locator("details.panel")
        panels.first.locator("summary").click()
        assert panels.first.locator(".alignment").first.is_visible()
        assert complaints == []


@needs_browser
def test_the_page_prints_in_light_colours(browser, finished, tmp_path):
    with opened(browser, finished, scheme="dark") as (page, complaints):
        living_charts(page)
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator("figure.chart .plot svg").first.is_visible()
        page.pdf(path=tmp_path / "page.pdf", format="A4", print_background=True)
        assert (tmp_path / "page.pdf").stat().st_size > 50_000
        assert complaints == []


def test_figures_and_the_address_of_the_page(finished):
    specs = json.loads((finished.folder / "results/report.html").read_text("utf-8").partition('id="specs">')[2].partition("</script>")[0])  # fmt: skip
    names = {path.name for path in (finished.folder / "results/figures").iterdir()} - {".snakemake_timestamp"}
    assert names == {f"{name}.{suffix}" for name in specs for suffix in ("svg", "png")}
    last = (finished.folder / "logs/write_report/all.log").read_text().splitlines()[-1]
    assert last == f"The page of results: {(finished.folder / 'results/report.html').resolve().as_uri()}"
    assert (finished.folder / "results/report.html").stat().st_size < 3_000_000


@pytest.mark.parametrize("suffix", ["zip", "html"])
def test_snakemake_bundles_a_report(finished, tmp_path, suffix):
    target = tmp_path / f"bundle.{suffix}"
    finished.snakemake("--report", target, "--configfile", "config/test.yaml")
    if suffix == "zip":
        names = [name.rpartition("/")[2] for name in zipfile.ZipFile(target).namelist()]
        assert names.count("train.json") == 4
        assert {"wer.tsv", "wer_comparisons.tsv", "loss.svg", "report.html"} <= set(names)
    else:
        text = target.read_text("utf-8")
        assert "Nuptse takes speech corpora from download" in text
        assert "paired difference in word error rate" in text
