"""A rule's code is its script and everything of ours that it imports."""

import ast
from pathlib import Path

from nuptse.sources import _named_files, source_files

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_imports_are_followed_also_inside_functions(tmp_path):
    package = tmp_path / "nuptse"
    package.mkdir()
    (tmp_path / "x.py").write_text("import os\nfrom nuptse.a import f\n")
    (package / "a.py").write_text("def f():\n    from nuptse import b\n")
    (package / "b.py").write_text("import nuptse.c\n")
    (package / "c.py").write_text("from nuptse.a import f\n")
    (package / "unused.py").write_text("")
    assert [path.name for path in source_files(tmp_path / "x.py")] == ["x.py", "a.py", "b.py", "c.py"]


def test_templates_come_with_the_module_that_names_them_and_with_what_they_include(tmp_path):
    templates = tmp_path / "nuptse" / "templates"
    templates.mkdir(parents=True)
    (tmp_path / "x.py").write_text('PAGE = "page.html.j2"\nELSEWHERE = "missing.css"\n')
    (templates / "page.html.j2").write_text('{% include "part.html.j2" %}')
    (templates / "part.html.j2").write_text('{% from "page.html.j2" import x %}')
    (templates / "other.css").write_text("")
    assert [path.name for path in source_files(tmp_path / "x.py")] == ["x.py", "page.html.j2", "part.html.j2"]


def test_the_page_depends_on_all_its_templates():
    names = {path.name for path in source_files(SCRIPTS / "write_report.py")}
    assert {path.name for path in (SCRIPTS / "nuptse" / "templates").glob("report*")} <= names


def test_data_commands_do_not_depend_on_training():
    for script in ("select_utterances.py", "tar_shards.py", "estimate_duration_bins.py", "download.py"):
        names = {path.name for path in source_files(SCRIPTS / script)}
        assert script in names
        assert not names & {"training.py", "models.py", "config.py", "settings.py", "overrides.py"}


def test_every_module_has_a_user():
    used = {path for script in SCRIPTS.glob("*.py") for path in source_files(script)}
    of_the_plan = ("__init__", "plan", "plan_base", "plan_corpora", "plan_trainings", "config", "overrides")
    of_the_plan += ("config_mistakes", "override_mistakes", "schema_mistakes", "settings", "page_settings", "sources")
    of_the_plan += ("clocks", "config_files", "links", "unfinished")  # which rules use
    parsed = {SCRIPTS / "nuptse" / f"{name}.py" for name in of_the_plan}
    assert set((SCRIPTS / "nuptse").glob("*.py")) - used - parsed == set()


def test_no_import_of_our_code_is_missed():
    """Imports are found by a pattern, for speed; Python's own parser must not find more."""
    for path in sorted(SCRIPTS.rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        modules = {SCRIPTS.joinpath(*name.split(".")).with_suffix(".py") for name in names}
        assert {module for module in modules if module.is_file()} <= set(_named_files(path, SCRIPTS)), path
