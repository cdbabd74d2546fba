"""The import of one corpus, whatever its source: rows, recordings and supervisions, account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nuptse.converting import Converter, Policy
from nuptse.import_ledger import Account, write_account
from nuptse.import_tables import ImportTables
from nuptse.importing import import_rows
from nuptse.jsonl import read_rows
from nuptse.lhotse_sources import lhotse_rows
from nuptse.manifests import prepare_recipe
from nuptse.scratch import scratch_database
from nuptse.source_settings import Source
from nuptse.utterances import Row, names_of_parts


@dataclass(frozen=True)
class Import:
    """What to import and how.

    Attributes:
        corpus: its name.
        source: where its utterances come from.
        base: folder that relative paths of the source start from.
        converter: for audio that cannot be used as it is.
        threads: for audio, and processes of a recipe.
        exclude: leave out utterances whose audio cannot be used, instead of raising.
        changes: so far, kept in the ledger.
    """

    corpus: str
    source: Source
    base: Path
    converter: Converter
    threads: int = 1
    exclude: bool = False
    changes: Sequence[str] = ()


def import_corpus(task: Import, output_dir: Path) -> str:
    """Write the recordings and supervisions of every part, and the ledger; return what the log shall say.

    Raises:
        UserError: the source cannot be read, or holds nothing.
    """
    source = task.source
    account = Account(task.corpus, source.kind, changes=list(task.changes))
    if source.kind == "recipe":
        root, options = task.base / source.options["recipe_root"], source.options["recipe_options"]
        report = prepare_recipe(source.parts["all"], root, options, output_dir, task.threads)
        if task.converter.policy == Policy():
            _count(account, output_dir)
            write_account(account, (), output_dir)
            return report
        print(report)
    rows = _recipe_rows(output_dir) if source.kind == "recipe" else _rows(task)
    with scratch_database() as database:
        tables = ImportTables(database)
        import_rows(rows, tables, task.converter, account, output_dir, task.threads, task.exclude)
        made = list(task.converter.made.values())
        account.converted, account.unpacked = made.count("converted"), made.count("unpacked")
        files = ((file, size) for file, size in tables.files() if file not in task.converter.made)
        write_account(account, files, output_dir)
    removed = task.converter.remove_unused()
    return f"{account}" + (f"\nremoved {removed} audio files of earlier imports" if removed else "")


def _parts(output_dir: Path) -> dict[str, dict[str, str]]:
    """Return the two files of each part that a recipe gave."""
    names = sorted(path.name.removesuffix("_recordings.jsonl.gz") for path in output_dir.glob("*_recordings.jsonl.gz"))
    kinds = ("recordings", "supervisions")
    return {name: {kind: str(output_dir / f"{name}_{kind}.jsonl.gz") for kind in kinds} for name in names}


def _recipe_rows(output_dir: Path) -> Iterator[Row]:
    """Yield the supervisions of a recipe, to be written again with recordings in the form of the policy."""
    for part, files in _parts(output_dir).items():
        yield from lhotse_rows(files, Path(), part, reject_empty=True)


def _count(account: Account, output_dir: Path) -> None:
    for part, files in _parts(output_dir).items():
        own = account.part(part)
        durations = [row.duration for row in read_rows(Path(files["supervisions"]), _Lasting)]
        own.rows = own.supervisions = len(durations)
        own.seconds = sum(durations)
        recordings = [row.duration for row in read_rows(Path(files["recordings"]), _Lasting)]
        own.recordings, own.recording_seconds = len(recordings), sum(recordings)


class _Lasting(msgspec.Struct):
    duration: float


def _rows(task: Import) -> Iterator[Row]:
    """Yield the rows of a source. Each reader is imported where it is used: some bring heavy libraries."""
    kind, parts, options, base = task.source.kind, task.source.parts, task.source.options, task.base
    if kind == "huggingface":
        from nuptse.hub_sources import hub_rows

        yield from hub_rows(parts["all"], options, base, task.converter)
        return
    if kind == "lhotse":
        for part, value in parts.items():
            yield from lhotse_rows(value, base, part)
        return
    paths = {part: base / value for part, value in parts.items()}
    roots = _roots(kind, paths, base / options["root"] if options.get("root") else None)
    names = names_of_parts(roots)
    for part, path in paths.items():
        if kind == "table":
            from nuptse.tables import table_rows

            yield from table_rows(path, options, roots[part], None if parts.keys() == {"all"} else part, names[part])
        elif kind == "shar":
            from nuptse.lhotse_sources import shar_rows

            yield from shar_rows(path, part, task.converter)
        else:
            from nuptse import text_sources

            if kind == "audio_folder":
                yield from text_sources.folder_rows(path, options, part, names[part])
            elif kind == "nemo_manifest":
                yield from text_sources.nemo_rows(path, part, names[part])
            else:
                yield from text_sources.kaldi_rows(path, part)


def _roots(kind: str, paths: Mapping[str, Path], root: Path | None) -> dict[str, Path]:
    """Return the folder that the audio paths of each part start from."""
    return {part: root or (path if kind == "audio_folder" else path.parent) for part, path in paths.items()}
