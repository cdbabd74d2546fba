"""The page of results as a whole: what it says, what it must not do, and runs that are unlike the usual."""

import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from run_files import batch, experiment, training, transcripts, write_json, write_run

from nuptse.errors import UserError
from nuptse.findings import Example, Finding
from write_report import main

HOSTILE = "</script><script>alert(1)</script>\"'&<b> é漢 " + "{{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements, attributes and the text of a page."""

    VOID = ("meta", "link", "br", "hr", "img", "input", "wbr")

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.open, self.texts = [], [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def make(tmp_path, **run):
    arguments = list(map(str, write_run(tmp_path, **run)))
    main(arguments)
    return Page((tmp_path / "results/report.html").read_text("utf-8"))


def test_the_page_shows_the_run(tmp_path, capsys):
    page = make(tmp_path)
    assert "On corpus/test, the best fine-tune brings the word error rate from" in page.text
    assert "2 fine-tunes of base, trained on corpus" in page.text
    titles = [tag for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert titles[0] == "h1" and titles.count("h1") == 1
    levels = [int(tag[1]) for tag in titles]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    rows = {attributes["data-row"] for tag, attributes in page.elements if "data-row" in attributes}
    assert rows == {f"{name} corpus/{split}" for name in ("base", "first", "second") for split in ("dev", "test")}
    assert "snakemake results/first/train.json --cores 4" in page.text
    assert "No record in benchmarks of: transcribe ." in page.text
    assert "1 (0.1 min): no transcript; 2 (0.1 min): bad audio: silent" in page.text.replace("\xa0", " ")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"The page of results: {(tmp_path / 'results/report.html').as_uri()}"


def test_the_cost_of_what_a_base_was_made_from_counts(tmp_path):
    arguments = list(map(str, write_run(tmp_path)))
    place = arguments.index("--settings") + 1
    settings = json.loads(arguments[place])
    settings["models"] = {"base": {"from_model": {"model": "other"}}, "other": {"pretrained": "nvidia/x"}}
    settings["steps"] = ["download_pretrained", "adapt_model", "finetune_model"]
    arguments[place] = json.dumps(settings)
    for job in ("download_pretrained/other", "download_pretrained/of_an_earlier_run", "adapt_model/base"):
        file = tmp_path / f"benchmarks/{job}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("s\th:m:s\tmax_rss\tcpu_time\n30\t0:00:30\t1000\t11.0\n")
    main(arguments)
    page = Page((tmp_path / "results/report.html").read_text("utf-8"))
    assert "No record" not in page.text
    assert "download_pretrained 1 30 s" in page.text.replace("\xa0", " ")


def test_every_chart_is_a_file_and_a_picture_in_the_page(tmp_path):
    page = make(tmp_path)
    charts = [attributes["data-chart"] for tag, attributes in page.elements if tag == "figure"]
    specs = json.loads(page.scripts[0])
    assert sorted(charts) == sorted(specs) and len(charts) == len(set(charts)) > 10
    files = {path.name for path in (tmp_path / "results/figures").iterdir()}
    assert files == {f"{name}.{suffix}" for name in charts for suffix in ("svg", "png")}
    pictures = [attributes for tag, attributes in page.elements if tag == "div" and attributes.get("role") == "img"]
    assert len(pictures) == len(charts) and all(picture["aria-label"] for picture in pictures)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_asks_the_network_for_nothing(tmp_path):
    page = make(tmp_path)
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert re.match(r"#|data:,", attributes.get(name, "#")), (tag, attributes)
    (policy,) = [attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv")]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "connect-src" not in policy and "http" not in policy
    specs = page.scripts[0]
    assert set(re.findall(r"https?://[^\"]*", specs)) == {"https://vega.github.io/schema/vega-lite/v6.json"}
    assert '"url"' not in specs


def test_the_same_run_gives_the_same_bytes(tmp_path):
    arguments = list(map(str, write_run(tmp_path)))
    made = []
    for _ in range(2):
        main(arguments)
        made.append({path: path.read_bytes() for path in sorted((tmp_path / "results").rglob("*")) if path.is_file()})
    assert made[0] == made[1]


def test_what_data_holds_is_text_and_never_markup(tmp_path):
    rows = {
        (name, split): transcripts(HOSTILE, speakers=(HOSTILE, "b", "c", "d"), text=f"one {HOSTILE} two")
        for name in ("base", "first") for split in ("dev", "test")
    }  # fmt: skip
    hostile = training("first", [batch(1), batch(2)]) | {
        "commit": HOSTILE,
        "hardware": {"device": HOSTILE, "threads": 1, "cpus": 1},
        "versions": {HOSTILE: HOSTILE},
    }
    page = make(tmp_path, experiments={"first": experiment()}, rows=rows, trainings={"first": hostile})
    assert len(page.scripts) == 3
    assert not any(tag == "b" and HOSTILE in attributes.values() for tag, attributes in page.elements)
    assert "alert(1)" not in "".join(page.scripts[1:])
    assert "<" not in page.scripts[0], "nothing in the JSON can end its element"
    assert "</script><script>alert(1)</script>" in page.text and "49" not in page.text.partition("é漢")[2][:20]
    assert any(row["speaker"] == HOSTILE for row in found_rows(json.loads(page.scripts[0])) if "speaker" in row)
    for path in (tmp_path / "results/figures").glob("*.svg"):
        assert "<script" not in path.read_text("utf-8")


def found_rows(specs):
    return [row for spec in specs.values() for layer in spec["layer"] for row in layer["data"]["values"]]


def test_a_hostile_reason_or_setting_is_text_too(tmp_path):
    arguments = list(map(str, write_run(tmp_path)))
    ledger = tmp_path / "data/manifests/corpus_ledger_dev.json"
    content = json.loads(ledger.read_text())
    write_json(ledger, content | {"dropped": {HOSTILE: {"utterances": 1, "seconds": 4.0}}})
    place = arguments.index("--settings") + 1
    settings = json.loads(arguments[place])
    settings["experiments"]["first"]["overrides"] = [HOSTILE]
    arguments[place] = json.dumps(settings)
    (tmp_path / "results/first/config.yaml").write_text(HOSTILE)
    main(arguments)
    page = Page((tmp_path / "results/report.html").read_text("utf-8"))
    assert len(page.scripts) == 3
    assert page.text.count("alert(1)") >= 4


def test_a_finding_of_several_experiments_stands_there_once_with_its_remedy(tmp_path):
    page = make(tmp_path)
    assert page.text.count("The tokenizer does not know 'é'.") == 1
    assert 'corpora.corpus.text: ["lower"]' in page.text
    assert "Found in first, second." in page.text
    assert page.text.count("1 warning") == 2


def test_hostile_and_accepted_findings(tmp_path):
    found = Finding(
        code="shared_text",
        severity="note",
        subject="corpus/dev",
        message=HOSTILE,
        remedy=HOSTILE,
        change={HOSTILE: HOSTILE},
        examples=[Example(HOSTILE, HOSTILE, HOSTILE)],
        accepted=True,
    )
    page = make(tmp_path, findings={"first": [found], "second": []})
    assert len(page.scripts) == 3
    assert page.text.count("alert(1)") >= 6
    assert "1 accepted" in page.text and "none" in page.text


def test_without_a_finding_the_page_says_so(tmp_path):
    assert "Nothing was found." in make(tmp_path, findings={"first": [], "second": []}).text


# --- runs that are unlike the usual ---


def test_one_experiment_and_one_split(tmp_path):
    page = make(tmp_path, experiments={"only": experiment(test=())})
    assert "1 fine-tune of base" in page.text
    assert "checkpoints were chosen on it" in page.text


def test_a_fine_tune_that_is_worse_than_its_base_is_shouted(tmp_path):
    page = make(tmp_path, hypotheses={"base": "one two three", "first": "no", "second": "no"})
    assert "On corpus/test, no fine-tune is better than its base model." in page.text
    assert page.text.index("is worse than its base base") < page.text.index("Word error rate (WER)")


def test_the_mark_is_on_the_lowest_rate_whoever_has_it(tmp_path):
    heard = {name: transcripts("one two three") for name in ("base", "first", "second")}
    heard["first"][0].pred_text = "one two three"  # one error more: within chance
    page = make(tmp_path, rows={(name, split): heard[name] for name in heard for split in ("dev", "test")})
    cells = [attributes for tag, attributes in page.elements if tag == "td" and "data-cell" in attributes]
    marked = {cell["data-cell"] for cell in cells if "best" in cell["class"].split()}
    assert marked == {f"{name} corpus/{split}" for name in ("base", "second") for split in ("dev", "test")}
    assert sum("best" in attributes.get("class", "").split() for tag, attributes in page.elements if tag == "td") == 8
    assert page.text.count("(lowest)") == 4
    assert "Lowest: base and second, 12.5 %." in page.text.replace("\xa0", " ")
    assert "second has the lowest rate of the fine-tunes, but the lead" in page.text


def test_the_page_says_what_the_intervals_rest_on(tmp_path):
    rows = {}
    for name in ("base", "first", "second"):
        rows[name, "dev"] = transcripts("no", speakers=("s1", "s2"))
        rows[name, "test"] = transcripts("no", speakers=("s1", "s2", "s3", "s4", "s5", None))
    page = make(tmp_path, rows=rows)
    assert "corpus/dev 8 utterances, 32 words, 0.2 min; intervals by 8 utterances" in page.text.replace("\xa0", " ")
    assert "intervals by 6 units: speakers, and utterances without one" in page.text


def test_few_utterances_have_no_interval_and_no_verdict(tmp_path):
    rows = {(name, split): transcripts("no", number=7) for name in ("base", "first") for split in ("dev", "test")}
    page = make(tmp_path, experiments={"first": experiment()}, rows=rows)
    assert "; no intervals with fewer than 8 utterances" in page.text
    assert "corpus/test first base base 0.0 – – not known" in " ".join(page.text.split())
    assert "nan" not in page.text.split()


def test_no_reference_words(tmp_path):
    empty = transcripts("one", text="")
    rows = {(name, split): empty for name in ("base", "first") for split in ("dev", "test")}
    page = make(tmp_path, experiments={"first": experiment()}, rows=rows)
    assert "No word error rate could be measured" in page.text
    assert not list((tmp_path / "results/figures").glob("wer_*"))


def test_a_loss_that_was_lost(tmp_path):
    batches = [batch(1), batch(2, loss=math.nan), batch(3, loss=math.inf), batch(4, loss=None)]
    page = make(tmp_path, trainings={"first": training("first", batches)})
    assert "NaN" not in page.scripts[0] and "Infinity" not in page.scripts[0]
    only_lost = [batch(step, loss=math.nan) for step in (1, 2)]
    (tmp_path / "again").mkdir()
    make(tmp_path / "again", experiments={"first": experiment()}, trainings={"first": training("first", only_lost)})
    assert not (tmp_path / "again/results/figures/loss.svg").exists()


def test_one_batch_and_one_bucket_and_no_speaker(tmp_path):
    rows = {(name, split): transcripts("no", speakers=()) for name in ("base", "first") for split in ("dev", "test")}
    one = training("first", [batch(1)])
    page = make(tmp_path, experiments={"first": experiment()}, rows=rows, trainings={"first": one}, buckets=1)
    assert not list((tmp_path / "results/figures").glob("speakers_*"))
    assert "By speaker" not in page.text


def test_a_run_of_an_older_version_lacks_some_charts_only(tmp_path):
    row = {key: value for key, value in batch(1).items() if key not in ("longest_s", "by_source")}
    old = training("first", [row, row | {"step": 2}])
    for key in ("training_seconds", "setup_seconds", "memory"):
        del old[key]
    make(tmp_path, experiments={"first": experiment()}, trainings={"first": old}, histogram=False)
    names = {path.stem for path in (tmp_path / "results/figures").iterdir()}
    assert "loss" in names
    assert not names & {"durations_corpus", "training_speed"}


def test_a_mix_is_compared_with_its_weights(tmp_path):
    sources = ("corpus", "other")
    drawn = [batch(step, by_source={"corpus/train": 9, "other/train": 1}) for step in range(1, 5)]
    page = make(
        tmp_path,
        experiments={"mixed": experiment(train=sources)},
        trainings={"mixed": training("mixed", drawn, sources)},
    )
    assert "How the corpora were mixed" in page.text
    assert "corpus/train 50.0 % 90.0 %" in page.text


@pytest.mark.slow
def test_twenty_experiments_and_ten_splits_fit(tmp_path):
    splits = [("corpus", f"test{number}") for number in range(9)]
    page = make(tmp_path, experiments={f"experiment_{number:02}": experiment(test=splits) for number in range(20)})
    assert (tmp_path / "results/report.html").stat().st_size < 6e6
    colours = [attributes for tag, attributes in page.elements if "data-recogniser" in attributes and tag == "span"]
    assert len(colours) == 21


def test_a_damaged_file_is_named(tmp_path):
    arguments = list(map(str, write_run(tmp_path)))
    write_json(tmp_path / "results/first/train.json", {"experiment": "first"})
    with pytest.raises(UserError, match="first/train.json is not of the form that this version writes"):
        main(arguments)


@pytest.mark.parametrize("name", ["wer.tsv", "wer_comparisons.tsv"])
@pytest.mark.parametrize("end", ["between two lines", "in a line", "in the last number", "nothing is left"])
def test_a_table_that_was_cut_short_is_named(tmp_path, name, end):
    arguments = list(map(str, write_run(tmp_path)))
    table = tmp_path / "results" / name
    lines = table.read_bytes().splitlines(keepends=True)
    left = {
        "between two lines": lines[:-1],
        "in a line": [*lines[:-1], lines[-1][:20]],
        "in the last number": [*lines[:-1], lines[-1][:-2]],
        "nothing is left": [],
    }
    table.write_bytes(b"".join(left[end]))
    with pytest.raises(UserError, match=rf"{name} .*; delete .*{name} and run again"):
        main(arguments)
