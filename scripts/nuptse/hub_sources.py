"""Rows of an import from a dataset of Hugging Face ``datasets``: on the Hub, saved to disk, or a folder of parquet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nuptse.converting import Converter
from nuptse.errors import UserError
from nuptse.import_ledger import as_text
from nuptse.utterances import AudioNames, Row, Utterance

COLUMNS = ("audio", "text", "id", "speaker", "language")
REQUIRED = ("audio", "text")


def hub_rows(dataset: str, options: Mapping[str, Any], base: Path, converter: Converter) -> Iterator[Row]:
    """Yield the rows of a dataset; its splits are the parts. Audio inside of it is unpacked once, as it is.

    Args:
        dataset: a folder that ``save_to_disk`` wrote, a folder of parquet files, or a name on the Hub.
        options: ``config`` and ``revision`` of a dataset on the Hub; ``columns``: our name to that of the dataset.
        base: folder that a relative path starts from.
        converter: unpacks.

    Raises:
        UserError: the dataset cannot be loaded, or lacks a column.
    """
    names = AudioNames(base / dataset)
    with TemporaryDirectory() as cache:
        for part, rows in _load(dataset, options, base, cache).items():
            columns = _columns(part, rows, options.get("columns", {}), dataset)
            yield from _rows(part, rows, columns, dataset, names, converter)


def _load(dataset: str, options: Mapping[str, Any], base: Path, cache: str) -> dict[str, Any]:
    import datasets

    datasets.disable_progress_bars()
    folder = base / dataset
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            found: Any = datasets.load_from_disk(str(folder))
        else:
            # Streamed: nothing is copied into a cache. Code that comes with a dataset is not run since version 4.
            where = str(folder) if folder.is_dir() else dataset
            wanted = {key: options[key] for key in ("revision",) if options.get(key)}
            found = datasets.load_dataset(where, options.get("config"), streaming=True, cache_dir=cache, **wanted)
    # The network, the Hub and a dozen file formats have errors of their own.
    except Exception as error:
        raise UserError(f"the dataset {dataset!r} cannot be loaded: {type(error).__name__}: {error}") from error
    return dict(found) if isinstance(found, dict) else {"all": found}


def _read(part: str, rows: Any, dataset: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, row). What is streamed is read now, and not when it was loaded."""
    remaining = iter(rows)
    for number in count():
        place = f"{dataset}, {part}, row {number}"
        try:
            row = next(remaining)
        except StopIteration:
            return
        except Exception as error:  # as in _load
            words = " ".join(str(error).split())
            raise UserError(
                f"{place} cannot be read: {type(error).__name__}: {words}; if a file is damaged, copy it again"
            ) from error
        yield place, row


def _columns(part: str, rows: Any, wanted: Mapping[str, str | None], dataset: str) -> dict[str, str]:
    names = list(rows.features or next((row for _, row in _read(part, rows, dataset)), {}))
    found = {}
    for key in COLUMNS:
        name = wanted.get(key, key)
        if name is None:
            continue
        if name in names:
            found[key] = name
        elif key in wanted or key in REQUIRED:
            raise UserError(
                f"the dataset {dataset!r} has no column {name!r} in {part!r} for `columns.{key}`; there are"
                f" {', '.join(map(repr, names))}"
            )
    return found


def _rows(
    part: str, rows: Any, columns: Mapping[str, str], dataset: str, names: AudioNames, converter: Converter
) -> Iterator[Utterance]:
    import datasets

    if isinstance((rows.features or {}).get(columns["audio"]), datasets.Audio):
        rows = rows.cast_column(columns["audio"], datasets.Audio(decode=False))
    rows = rows.select_columns(list(dict.fromkeys(columns.values())))
    for place, row in _read(part, rows, dataset):
        known = {
            key: "" if row[name] is None else str(row[name]).strip() for key, name in columns.items() if key != "audio"
        }
        path, name = _audio(row[columns["audio"]], place, names, converter)
        yield Utterance(
            part=part,
            place=place,
            audio=path,
            text=known["text"],
            name=name,
            id=known.get("id", ""),
            speaker=known.get("speaker", ""),
            language=known.get("language", ""),
        )


def _audio(value: Any, place: str, names: AudioNames, converter: Converter) -> tuple[str, str]:
    """Return where the audio of a row lies, and its name: that in the dataset, which need not be unique, and a hash."""
    if isinstance(value, str):
        return os.path.normpath(value), names.name_of_file(value)
    if not isinstance(value, Mapping) or not (value.get("bytes") or value.get("path")):
        raise UserError(f"{place}: the audio is {as_text(value)[:80]}, expected an Audio column or the path of a file")
    name = os.path.basename(value.get("path") or "")
    if content := value.get("bytes"):
        stem, suffix = os.path.splitext(name)
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        # With its suffix, which no id keeps: of "talk.1" alone the ".1" would count as one.
        return converter.unpack(name, content), f"{stem}-{digest}{suffix}" if stem else digest
    return os.path.normpath(value["path"]), names.name_of_file(value["path"])
