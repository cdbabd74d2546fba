"""Mistakes that only the configuration files show: what Snakemake hands over is merged already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from nuptse.config import REMOVABLE
from nuptse.errors import UserError
from nuptse.schema_mistakes import suggestion


def check_files(files: Iterable[str | Path], config: Mapping[str, Any]) -> None:
    """Refuse what would be read over in silence.

    Args:
        files: configuration files, in any order.
        config: what they are together, with the options of the command line.

    Raises:
        UserError: a key that stands twice in one block of a file, or a block given as null that no file has; each has
            a sentence.
    """
    nodes = {Path(file): _compose(Path(file)) for file in files}
    mistakes = [mistake for path, node in nodes.items() if node for mistake in repeated_keys(node, path)]
    if None not in nodes.values():  # a pipe can be read once
        mistakes += _removed_nothing(nodes.values(), config)
    if mistakes:
        raise UserError("\n".join(mistakes))


def _compose(path: Path) -> yaml.Node | None:
    """Return the nodes of a file; None where it is empty, or no YAML: Snakemake says what is wrong with it."""
    try:
        node: yaml.Node | None = yaml.compose(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return None
    return node


def repeated_keys(node: yaml.Node, path: Path, block: str = "") -> Iterator[str]:
    """Yield one sentence for each key that stands twice in one block: YAML's readers take the later one."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeated_keys(item, path, block)
    lines: dict[str, int] = {}
    for name, value in _entries(node):
        key, line = f"{block}.{name.value}".lstrip("."), name.start_mark.line + 1
        if first := lines.get(name.value):
            yield (
                f"`{key}` stands twice in {path}, in lines {first} and {line}: YAML would drop the first;"
                " put what both hold into one block"
            )
        lines[name.value] = line
        yield from repeated_keys(value, path, key)


def _removed_nothing(files: Iterable[yaml.Node | None], config: Mapping[str, Any]) -> Iterator[str]:
    blocks = [(name.value, value) for node in files for name, value in _entries(node)]
    for section in REMOVABLE:
        given = config.get(section)
        if not isinstance(given, Mapping) or None not in given.values():
            continue
        entries = [entry for name, node in blocks if name == section for entry in _entries(node)]
        known = {name.value for name, value in entries if value.tag != "tag:yaml.org,2002:null"}
        for name in (name for name, block in given.items() if block is None and str(name) not in known):
            yield (
                f"`{section}.{name}` is null, which removes it, but no configuration file has it"
                f"{suggestion(str(name), sorted(known))}"
            )


def _entries(node: yaml.Node | None) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    return [(name, value) for name, value in entries if isinstance(name, yaml.ScalarNode)]
