"""Options under ``overrides`` that would be read over in silence, or that undo what Nuptse sets."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from nuptse.installed import package_folder
from nuptse.overrides import own_options
from nuptse.schema_mistakes import suggestion

# What Nuptse gives to Lightning's Trainer whatever the configuration says.
OF_THE_TRAINER = "callbacks logger plugins enable_checkpointing enable_progress_bar enable_model_summary".split()
# The one option of ours that may be another one: to train on the CPU of a machine with GPUs.
FREE = "trainer.accelerator"
LOADERS = ("model.train_ds.", "model.validation_ds.")
# What NeMo's loader reads beside the fields of its configuration.
FURTHER_OF_LOADERS = ("slice_length",)


def override_mistakes(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what follows on "`overrides` sets" for each of an experiment that cannot be."""
    if not settings["overrides"]:
        return
    own = ["model.spec_augment", *own_options(settings), *(f"trainer.{option}" for option in OF_THE_TRAINER)]
    for override in settings["overrides"]:
        name = override.split("=", 1)[0]
        if ours := next((option for option in own if option != FREE and _overlap(option, name)), None):
            what = "has a key of its own: set it there" if _is_key(ours, settings) else "Nuptse sets itself: remove it"
            yield f"`{ours}`, which {what}"
        elif name.startswith("trainer."):
            yield from _unknown(name, "trainer.", trainer_options(), "Lightning's Trainer")
        elif loader := next((loader for loader in LOADERS if name.startswith(loader)), None):
            yield from _unknown(name, loader, loader_options(), "NeMo's loader")
        elif not name.startswith("model.optim."):
            yield f"`{name}`, which no fine-tune reads: all but data and optimizer is as in the base model"


def _overlap(option: str, other: str) -> bool:
    return f"{option}.".startswith(f"{other}.") or f"{other}.".startswith(f"{option}.")


def _is_key(option: str, settings: Mapping[str, Any]) -> bool:
    node: Any = settings
    for part in option.removeprefix("model.").split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _unknown(name: str, section: str, known: list[str], whose: str) -> Iterator[str]:
    option = name.removeprefix(section).split(".")[0]
    if known and option not in known:
        yield f"`{section}{option}`, which {whose} does not know{suggestion(option, known)}"


# Both are read from the source text, see `installed`.


@cache
def trainer_options() -> list[str]:
    """Return the options of the installed Lightning's Trainer; empty where there is none."""
    if not (source := _source("lightning", "pytorch/trainer/trainer.py")):
        return []
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return next([option.arg for option in node.args.kwonlyargs] for node in functions if node.name == "__init__")


@cache
def loader_options() -> list[str]:
    """Return the options of the installed NeMo's Lhotse loader; empty where there is none."""
    if not (source := _source("nemo", "collections/common/data/lhotse/dataloader.py")):
        return []
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    fields = (node.target for node in classes["LhotseDataLoadingConfig"].body if isinstance(node, ast.AnnAssign))
    return [field.id for field in fields if isinstance(field, ast.Name)] + list(FURTHER_OF_LOADERS)


def _source(package: str, path: str) -> str:
    folder = package_folder(package)
    return (folder / path).read_text("utf-8") if folder else ""
