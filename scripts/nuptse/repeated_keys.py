"""Keys that stand twice in one block of a YAML file: YAML's readers take the later one without a word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from nuptse.errors import UserError


def check_keys(files: Iterable[str | Path]) -> None:
    """Refuse keys that stand twice in one block of a configuration file.

    Raises:
        UserError: there are some; each has a sentence.
    """
    if mistakes := [mistake for file in files for mistake in repeated_keys(Path(file))]:
        raise UserError("\n".join(mistakes))


def repeated_keys(path: Path) -> Iterator[str]:
    """Yield one sentence for each key of a configuration file that stands twice in one block.

    A file that is no YAML has none: Snakemake says what is wrong with it.
    """
    try:
        node = yaml.compose(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return
    if node is not None:
        yield from _repeated(node, path, "")


def _repeated(node: yaml.Node, path: Path, block: str) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, path, block)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            continue
        key, line = f"{block}.{name.value}".lstrip("."), name.start_mark.line + 1
        if first := lines.get(name.value):
            yield (
                f"`{key}` stands twice in {path}, in lines {first} and {line}: YAML would drop the first;"
                " put what both hold into one block"
            )
        lines[name.value] = line
        yield from _repeated(value, path, key)
