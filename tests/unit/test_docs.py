"""The documentation says what the files say: rules, keys, defaults, paths, commands, links and messages."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

from nuptse.config import load_config
from nuptse.finding_codes import CODES
from nuptse.overrides import finetune_overrides
from nuptse.settings import model_source, resolve_experiment
from nuptse.text import apply_profile

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "config/README.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
PAGES.append("resources/quickstart/README.md")
MADE = ("data", "results", "transcripts", "logs", "benchmarks", ".venv", ".snakemake")
# Options of Snakemake and Make that take one value, and those that take every word that follows.
ONE_VALUE = {"--cores", "--directory", "--report", "--workflow-profile"}
MANY_VALUES = {"--configfile", "--config", "--forcerun", "--rerun-triggers", "--set-resources", "-q"}


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page: str) -> str:
    """A page without its fenced blocks and HTML comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def code_spans(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose_of(page))


def fenced(page: str, *languages: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [body for language, body in blocks if language in languages]


def table_rows(text: str) -> list[list[str]]:
    """The body rows of all tables in ``text``, as lists of cells."""
    found, header = [], True
    for line in text.splitlines():
        if not line.startswith("|"):
            header = True
        elif re.fullmatch(r"[|:\- ]+", line):
            header = False
        elif not header:
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    return found


# --- Rules ---


@cache
def rules() -> dict[str, str]:
    """The text of every rule, by name."""
    found = {}
    for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]:
        parts = re.split(r"^rule (\w+):\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


def makes_files(rule: str) -> bool:
    return "    output:\n" in rules()[rule]


def directive(rule: str, name: str) -> str:
    found = re.search(rf"^    {name}:\n((?:        .*\n|\n)+)", rules()[rule], flags=re.MULTILINE)
    return found[1] if found else ""


def paths_in(rule: str, name: str) -> list[str]:
    return re.findall(r'"((?:data|results|transcripts|logs|benchmarks)/[^"]+)"', directive(rule, name))


@cache
def outputs() -> list[str]:
    return [path for rule in rules() for path in paths_in(rule, "output")]


@cache
def config() -> dict:
    return load_config(yaml.safe_load(text_of("config/config.yaml")), schema())


@cache
def schema() -> dict:
    return yaml.safe_load(text_of("config/schema.yaml"))


def is_made(path: str) -> bool:
    """Whether ``path`` (wildcards filled in or not) is an output of a rule."""
    patterns = (re.sub(r"\\{\w+\\}", "[^/]+", re.escape(pattern)) for pattern in outputs())
    return any(re.fullmatch(pattern, path.rstrip("/")) for pattern in patterns)


def test_the_files_have_rules():
    assert {"all", "finetune_model", "tar_shards"} <= rules().keys()


@pytest.mark.parametrize("rule", sorted(rules()))
def test_the_readme_names_every_rule(rule):
    assert f"`{rule}`" in prose_of("README.md")


@pytest.mark.parametrize("rule", sorted(rules()))
def test_the_page_on_files_names_every_output_and_log(rule):
    page = text_of("docs/output.md")
    rows = [" | ".join(row) for row in table_rows(page)]
    for path in paths_in(rule, "output") + paths_in(rule, "log"):
        named = [row for row in rows if f"`{path}`" in row]
        assert any(f"`{rule}`" in row for row in named), f"{path} of {rule}"
    if makes_files(rule):
        assert [
            path.removesuffix(".tsv") for path in re.findall(r'"benchmarks/(.*)"', directive(rule, "benchmark"))
        ] == [path.removesuffix(".log") for path in re.findall(r'"logs/(.*)"', directive(rule, "log"))]


def test_the_page_on_files_names_no_unknown_rule():
    for row in table_rows(text_of("docs/output.md")):
        if len(row) == 3 and re.match("`(data|results|transcripts)/", row[0]) and row[1] != "yes":
            named = re.findall("`([a-z_]+)`", row[1])
            assert set(named) <= rules().keys(), row


def test_the_picture_shows_the_rules_of_the_default_configuration():
    drawn = re.findall(r"<text [^>]*>([^<]+)</text>", text_of("docs/rulegraph.svg"))
    sources = {model_source(model) for model in config()["models"].values()}
    expected = {"all"}
    # Not part of `all`, or for corpora that the quickstart does not have.
    by_request = {"sample_texts", "speak_pretraining_corpus", "list_audio", "transcribe_audio", "index_nemo_shards"}
    by_request |= {"check_audio_group"}  # for large corpora
    for rule in filter(makes_files, rules().keys() - by_request):
        only_for = re.search(r'models_from\("(\w+)"\)', rules()[rule])
        if not (only_for and only_for[1] not in sources):
            expected.add(rule)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == expected


# --- Configuration ---


def owner(node: dict) -> dict:
    """The schema node that holds the properties of ``node``, behind its references."""
    for part in [node, *node.get("allOf", [])]:
        if "$ref" in part:
            return owner(schema()["$defs"][part["$ref"].removeprefix("#/$defs/")])
    return node


def node_at(path: str) -> dict:
    """The schema node of a dotted path; ``<name>`` stands for any key, ``[]`` for any entry of a list."""
    node = schema()
    for part in re.findall(r"[\w]+|<\w+>|\[\]", path):
        holder = owner(node)
        if part == "[]":
            node = holder["items"]
            for option in node.get("oneOf", []):
                node = option if "properties" in option else node
        elif part.startswith("<"):
            node = holder["additionalProperties"]
        else:
            node = holder["properties"][part]
    return node


def schema_keys(node: dict, found: dict | None = None) -> dict:
    """Every (holder, key) of the schema below ``node``."""
    found = {} if found is None else found
    holder = owner(node)
    for key, child in holder.get("properties", {}).items():
        if (id(holder), key) not in found:
            found[id(holder), key] = key
            schema_keys(child, found)
    for child in (holder.get("additionalProperties"), holder.get("items"), *holder.get("oneOf", [])):
        if isinstance(child, dict):
            schema_keys(child, found)
    return found


def documented_keys() -> list[tuple[str, str, str, str]]:
    """Section path, key, meaning and default of every row in the tables of keys."""
    found = []
    for section in re.split(r"^##+ ", text_of("config/README.md"), flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        if title == "Top level" or title.startswith("`"):
            path = "" if title == "Top level" else title.strip("`")
            found += [(path, row[0].strip("`"), *row[1:]) for row in table_rows(section)]
    return found


def test_every_key_is_explained_and_none_is_unknown():
    explained = set()
    for path, key, meaning, _ in documented_keys():
        holder = owner(node_at(path))
        assert key in holder["properties"], f"{path}.{key} is not in the schema"
        assert meaning
        explained.add((id(holder), key))
    missing = {name for place, name in schema_keys(schema()).items() if place not in explained}
    assert not missing


@pytest.mark.parametrize(("path", "key", "meaning", "default"), documented_keys())
def test_the_default_of_a_key_is_that_of_the_schema(path, key, meaning, default):
    holder, node = owner(node_at(path)), node_at(path)
    child = holder["properties"][key]
    required = {*holder.get("required", []), *node.get("required", [])}
    if default == "required in `defaults`":
        assert key in schema()["properties"]["defaults"]["required"]
    elif default == "required":
        assert key in required
    elif default == "–":
        assert key not in required
        assert "default" not in child
    else:
        assert key not in required
        assert yaml.safe_load(default.strip("`")) == child["default"]


@pytest.mark.parametrize("page", ["README.md", "config/README.md"])
def test_yaml_examples_are_accepted(page):
    blocks = fenced(page, "yaml")
    assert blocks
    # The blocks of the README are one file, my.yaml; those of the reference are independent.
    samples = ["".join(blocks)] if page == "README.md" else blocks
    for sample in samples:
        merged = merge(yaml.safe_load(text_of("config/config.yaml")), yaml.safe_load(sample))
        load_config(merged, schema())


def merge(base: dict, over: dict) -> dict:
    both = {key: merge(base[key], over[key]) for key in over if isinstance(over[key], dict) and key in base}
    return base | over | both


def test_examples_of_text_profiles():
    rows = [row for row in table_rows(text_of("config/README.md")) if row[0].startswith("`[")]
    assert len(rows) >= 5
    for profile, before, after in rows:
        assert apply_profile(before.strip("`"), yaml.safe_load(profile.strip("`"))) == after.strip("`")


def test_what_is_said_of_yaml_is_true():
    section = text_of("config/README.md").partition("## YAML traps")[2]
    rows = table_rows(section)
    assert rows
    for wrong, _, right in rows:
        (bad,), (good,) = (yaml.safe_load(cell.strip("`")).values() for cell in (wrong, right))
        assert type(bad) is not type(good), wrong


def test_options_of_the_layouts_are_those_that_we_make():
    page = "docs/data-layouts.md"
    shards = {name: corpus["num_shards"] for name, corpus in config()["corpora"].items()}
    made = {
        name: finetune_overrides(resolve_experiment(config(), name, schema()), shards)
        for name in config()["experiments"]
    }
    every = {line for lines in made.values() for line in lines}
    shown = [line for block in fenced(page, "text") for line in block.splitlines()]
    assert set(shown) <= every
    data = re.compile(r"model\.\w+\.(cuts_path|manifest_filepath|tarred_audio_filepaths|input_cfg)=")
    assert {line for line in every if data.match(line)} <= set(shown)
    shared = set.intersection(*map(set, made.values()))
    assert {line for line in shared if line.startswith("model.train_ds.")} <= set(shown)


# --- Paths, commands, links ---


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist_or_are_made(page):
    top = {path.name for path in ROOT.iterdir()} | set(MADE)
    for span in code_spans(page):
        if re.search(r"[\s=…$:,]|^/", span) or "/" not in span or span.split("/")[0] not in top:
            continue
        if span.split("/")[0] in MADE:
            continue
        assert list(ROOT.glob(span.rstrip("/"))) or span.startswith("resources/quickstart/pretrain"), span


@pytest.mark.parametrize("page", PAGES)
def test_made_paths_follow_a_pattern(page):
    """Single files under data/ and results/ are outputs, or stand in the tables of docs/output.md."""
    listed = {span for row in table_rows(text_of("docs/output.md")) for span in re.findall("`([^`]+)`", row[0])}
    for span in code_spans(page):
        if re.match(r"(data|results)/[^\s*…]+$", span) and not span.endswith("{experiment}/"):
            folders = {path.rpartition("/")[0] for path in listed}
            assert is_made(span) or span in listed or span.rstrip("/") in folders, span


def commands(page: str) -> list[list[str]]:
    """Commands in fenced blocks and code spans that call make or snakemake, as lists of words."""
    lines = [line for block in fenced(page, "bash", "console") for line in block.splitlines()]
    lines = [line.removeprefix("$ ") for line in lines] + code_spans(page)
    found = []
    for line in lines:
        if re.match(r"(\w+=\S* )*(make|snakemake)\b", line) and "…" not in line and "{" not in line:
            words = shlex.split(line, comments=True)
            while "=" in words[0]:
                words.pop(0)
            found.append(words)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = re.findall(r"^([a-z]+):.*## ", text_of("Makefile"), flags=re.MULTILINE)
    for words in commands(page):
        if words[0] == "make":
            assert {word for word in words[1:] if re.fullmatch("[a-z]+", word)} <= set(targets), words


def snakemake_targets(words: list[str]) -> tuple[list[str], list[str]]:
    """Targets of a command line, and the values of its --configfile."""
    targets, files, option = [], [], ""
    for word in words:
        if word.startswith("-"):
            option = word
        elif option in MANY_VALUES:
            files += [word] if option == "--configfile" else []
        elif option in ONE_VALUE:
            option = ""
        else:
            targets.append(word)
    return targets, files


@pytest.mark.parametrize("page", PAGES)
def test_snakemake_targets_and_configurations_exist(page):
    for words in commands(page):
        if words[0] == "snakemake":
            targets, files = snakemake_targets(words[1:])
            for target in targets:
                assert target in rules() or is_made(target), words
            for file in files:
                assert (ROOT / file).is_file() or file in ("my.yaml", "a.yaml", "your.yaml"), words


def test_a_target_after_configfile_is_seen_as_a_file():
    assert snakemake_targets(["--cores", "4", "--configfile", "a.yaml", "shards"]) == ([], ["a.yaml", "shards"])


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match("https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_is_linked_to_every_page():
    links = set(re.findall(r"\]\(([^)#\s]+)", text_of("README.md")))
    assert {page for page in PAGES if page != "README.md"} <= links


# --- Messages ---


@cache
def literals() -> str:
    """All texts in our code, joined: the constant parts of f-strings too."""
    found = []
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\0".join(found)


def test_the_page_on_the_doctor_explains_every_finding():
    rows = [row for row in table_rows(text_of("docs/doctor.md")) if len(row) == 4]
    codes = [row[0].strip("`") for row in rows]
    assert len(codes) == len(set(codes))
    assert set(codes) == CODES.keys()
    for code, severities, meaning, remedy in rows:
        assert set(re.findall("error|warning|note", severities)), code
        assert meaning and remedy, code


def test_quoted_messages_are_ours():
    section = text_of("docs/troubleshooting.md").partition("## Messages of Nuptse")[2]
    section = section.partition("Some things that happen inside NeMo")[0]
    quoted = [
        span for row in table_rows(section) if "(a traceback)" not in row[0] for span in re.findall("`([^`]+)`", row[0])
    ]
    assert len(quoted) > 30
    for message in quoted:
        for part in message.split("…"):
            assert part.strip() in literals(), message
