"""From a corpus folder to the tables of a Lhotse recipe."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import soundfile

from nuptse.errors import UserError
from nuptse.folder_state import is_audio
from nuptse.jsonl import write_rows
from nuptse.unreadable import why_unreadable


def prepare_recipe(recipe: str, corpus_dir: Path, options: Mapping[str, Any], output_dir: Path, num_jobs: int) -> str:
    """Run a Lhotse recipe and write ``<part>_recordings.jsonl.gz`` and ``<part>_supervisions.jsonl.gz`` for each part.

    Args:
        recipe: ``librispeech`` stands for ``lhotse.recipes.prepare_librispeech``.
        corpus_dir: what the recipe gets as its first argument.
        options: its further keyword arguments.
        output_dir: must exist; gets two files for each part.
        num_jobs: passed on where the recipe takes it.

    Returns:
        One line for each part: recordings, supervisions, and audio files of ``corpus_dir`` that the recipe left out.

    Raises:
        UserError: the recipe refuses the folder or an option, or finds nothing in it.
    """
    prepare = getattr(importlib.import_module("lhotse.recipes"), f"prepare_{recipe}", None)
    if prepare is None:
        raise UserError(f"Lhotse has no recipe {recipe!r}: see `lhotse prepare --help` for their names")
    from lhotse.audio import AudioLoadingError  # now that Lhotse is loaded anyway

    accepted = inspect.signature(prepare).parameters
    for option in options:
        if option not in accepted:
            raise UserError(
                f"recipe_options.{option} is no argument of prepare_{recipe}; it takes {', '.join(accepted)}"
            )
    arguments = dict(options)
    if "num_jobs" in accepted:
        arguments.setdefault("num_jobs", num_jobs)
    _, *others = (name for name, parameter in accepted.items() if parameter.default is parameter.empty)
    if lacking := [name for name in others if name not in arguments and name != "output_dir"]:
        raise UserError(f"prepare_{recipe} also needs {', '.join(lacking)}: give them under recipe_options")
    if not corpus_dir.is_dir():
        raise UserError(f"{corpus_dir} is no folder: set recipe_root to the folder that the recipe {recipe!r} expects")
    with TemporaryDirectory(dir=output_dir) as scratch:
        if "output_dir" in others:  # some recipes write their manifests whether asked to or not
            arguments.setdefault("output_dir", scratch)
        try:
            manifests = prepare(corpus_dir, **arguments)
        except (AssertionError, ValueError, OSError, KeyError) as error:  # how recipes refuse a corpus
            reason = str(error) or "it is not laid out as the recipe expects"
            raise UserError(f"the recipe {recipe!r} cannot read {corpus_dir}: {reason}") from error
        except AudioLoadingError as error:
            raise UserError(_unopened(recipe, str(error))) from error
        return write_parts(recipe, manifests, corpus_dir, output_dir)


def _unopened(recipe: str, words: str) -> str:
    """Say which file a recipe could not open, out of the many words that Lhotse has for it."""
    found = re.search(r"'([^']+)' failed", words)
    path, reason = found[1] if found else "an audio file", " ".join(words.split())
    try:
        if found and not Path(path).stat().st_size:
            reason = "it is empty"
        elif found:
            soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = why_unreadable(error, path)
    return (
        f"the recipe {recipe!r} cannot open {path}: {reason}; copy the file again or remove it: a recipe of Lhotse"
        " reads every file, so that `on_bad_audio: exclude` cannot leave it out"
    )


def write_parts(recipe: str, manifests: Mapping[str, Any], corpus_dir: Path, output_dir: Path) -> str:
    """Write what a recipe returned; see ``prepare_recipe``."""
    report, used = [], 0
    for part, tables in flatten_parts(manifests).items():
        # Sorted: a recipe lists files in the order of the file system.
        recordings, supervisions = (
            sorted(tables[kind], key=attrgetter("id")) for kind in ("recordings", "supervisions")
        )
        write_rows(output_dir / f"{part}_recordings.jsonl.gz", (_portable(r.to_dict()) for r in recordings))
        write_rows(output_dir / f"{part}_supervisions.jsonl.gz", (s.to_dict() for s in supervisions))
        used += len(recordings)
        report.append(f"{part}: {len(recordings)} recordings, {len(supervisions)} supervisions")
    if not used:
        raise UserError(
            f"the recipe {recipe!r} found no recording in {corpus_dir}: check recipe_root and recipe_options"
        )
    on_disk = sum(is_audio(path.name) for path in corpus_dir.rglob("*"))
    report.append(
        f"{corpus_dir}: {on_disk} audio files, {used} in the recipe's manifests, {max(0, on_disk - used)} not"
    )
    return "\n".join(report)


def flatten_parts(manifests: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    """Return ``{part: {"recordings": ..., "supervisions": ...}}`` for any nesting that recipes return.

    Nested names are joined by a dot (``en.train``); a recipe that returns one pair only has the part ``all``.
    """
    if "recordings" in manifests:
        return {prefix or "all": manifests}
    parts: dict[str, Mapping[str, Any]] = {}
    for name, value in manifests.items():
        parts |= flatten_parts(value, f"{prefix}.{name}" if prefix else str(name))
    return parts


def _portable(recording: dict[str, Any]) -> dict[str, Any]:
    """Write paths below the working directory relative to it, so that manifests are the same in every checkout."""
    here = Path.cwd()
    for source in recording["sources"]:
        if source["type"] == "file" and Path(source["source"]).is_absolute():
            path = Path(os.path.normpath(source["source"]))
            source["source"] = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return recording
