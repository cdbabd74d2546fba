"""Where the utterances of a corpus come from: what its block of the configuration says, in one long form.

Light, because Snakemake reads it when it parses the rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nuptse.errors import UserError

# The keys of a corpus of which each has exactly one, in the order of the schema.
SOURCES = (
    "recipe",
    "table",
    "audio_folder",
    "nemo_manifest",
    "kaldi",
    "lhotse",
    "shar",
    "huggingface",
    "nemo_shards",
)
# The key of a source's long form that names what is read.
PATH_KEYS = {"table": "file", "audio_folder": "folder", "huggingface": "dataset"}
KALDI_FILES = ("wav.scp", "text", "segments", "utt2spk", "utt2lang", "reco2file_and_channel")


@dataclass(frozen=True)
class Source:
    """The source of a corpus.

    Attributes:
        kind: one of ``SOURCES``.
        parts: what each part is read from; a single one is called ``all``.
        options: further keys of its block.
    """

    kind: str
    parts: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def knows_its_parts(self) -> bool:
        """Whether the parts are only known when the source is read: those of a recipe, of a dataset, of a column."""
        return self.kind in ("recipe", "huggingface") or (self.kind == "table" and self.parts.keys() == {"all"})

    @property
    def lists_audio(self) -> bool:
        """Whether it names audio files one by one, wherever they lie."""
        return self.kind in ("table", "nemo_manifest", "kaldi", "lhotse", "huggingface")

    @property
    def names_channels(self) -> bool:
        """Whether its rows can say on which channel they are spoken."""
        return self.kind in ("recipe", "table", "lhotse", "shar")


def corpus_source(corpus: Mapping[str, Any]) -> Source:
    """Return the source of a corpus, its short form spelt out.

    >>> corpus_source({"table": "a.csv"})
    Source(kind='table', parts={'all': 'a.csv'}, options={})
    >>> corpus_source({"kaldi": {"train": "data/train", "dev": "data/dev"}}).parts
    {'train': 'data/train', 'dev': 'data/dev'}
    """
    kind = next(key for key in SOURCES if key in corpus)
    value = corpus[kind]
    options: dict[str, Any] = {}
    if kind == "recipe":
        options = {key: corpus[key] for key in ("recipe_root", "recipe_options") if key in corpus}
    if kind in PATH_KEYS and isinstance(value, Mapping):
        options = {key: item for key, item in value.items() if key != PATH_KEYS[kind]}
        value = value[PATH_KEYS[kind]]
    return Source(kind, dict(value) if isinstance(value, Mapping) else {"all": value}, options)


def source_paths(source: Source) -> list[str]:
    """Return the files and folders that a source names, as they are written; none for a recipe or the Hub's name."""
    if source.kind == "recipe":
        return []
    paths: list[str] = []
    for value in source.parts.values():
        paths += value.values() if isinstance(value, Mapping) else [value]
    return paths


def source_folders(source: Source) -> list[str]:
    """Return the folders whose files are data of the corpus."""
    return source_paths(source) if source.kind in ("audio_folder", "shar", "huggingface") else []


def option_paths(options: Any) -> list[str]:
    """Return the folders and files, by full path, that the options of a recipe name, but not where it writes to.

    >>> option_paths({"transcript_dirs": ["/", "/not/there"], "output_dir": "/"})
    ['/']
    """
    if isinstance(options, Mapping):
        options = [value for key, value in options.items() if key != "output_dir"]
    if isinstance(options, list):
        return [path for value in options for path in option_paths(value)]
    is_path = isinstance(options, str) and os.path.isabs(options)
    return [options] if is_path and (os.path.isdir(options) or os.path.isfile(options)) else []


def input_files(source: Source, base: str) -> list[str]:
    """Return the files that Snakemake itself shall look at: tables and manifests, not audio.

    Args:
        source: of a corpus.
        base: folder that relative paths start from; "" for the working directory.
    """
    paths = [os.path.join(base, path) for path in source_paths(source)]
    if source.kind in ("table", "nemo_manifest", "lhotse"):
        return paths
    if source.kind == "kaldi":
        found = [os.path.join(path, name) for path in paths for name in KALDI_FILES]
        return [path for path in found if Path(path).is_file()]
    return []


# --- tar shards that are used as they are ---


def shard_patterns(value: str | Mapping[str, str], base: str) -> dict[str, str]:
    """Return ``manifests`` and ``tars`` as NeMo's options take them, such as ``audio__OP_0..31_CL_.tar``.

    Args:
        value: a folder as NeMo's converter writes it, or both patterns (``_OP_0..31_CL_`` or ``{0..31}``).
        base: folder that relative paths start from.

    Raises:
        UserError: the folder is not laid out so.
    """
    if isinstance(value, Mapping):
        return {key: _nemo_braces(os.path.join(base, value[key])) for key in ("manifests", "tars")}
    folder = os.path.join(base, value)
    tars = _numbers(folder, r"audio_(\d+)\.tar")
    if not tars or tars != list(range(len(tars))):
        raise UserError(
            f"{folder} holds the shards {tars[:3] or 'none'}, expected audio_0.tar, audio_1.tar and so on: give"
            " `manifests` and `tars` if yours have other names"
        )
    numbers = f"_OP_0..{len(tars) - 1}_CL_"
    if _numbers(os.path.join(folder, "sharded_manifests"), r"manifest_(\d+)\.json") == tars:
        manifests = f"sharded_manifests/manifest_{numbers}.json"
    elif os.path.isfile(os.path.join(folder, "tarred_audio_manifest.json")):
        manifests = "tarred_audio_manifest.json"
    else:
        raise UserError(
            f"{folder} has {len(tars)} tars, but neither as many sharded_manifests/manifest_0.json nor a"
            " tarred_audio_manifest.json"
        )
    return {"manifests": os.path.join(folder, manifests), "tars": os.path.join(folder, f"audio_{numbers}.tar")}


def expand_shards(pattern: str) -> list[str]:
    """Return the files of a pattern with at most one range of numbers.

    >>> expand_shards("audio__OP_0..2_CL_.tar")
    ['audio_0.tar', 'audio_1.tar', 'audio_2.tar']
    >>> expand_shards("a.json")
    ['a.json']
    """
    pattern = _nemo_braces(pattern)
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    width = len(first) if first.startswith("0") else 0
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [f"{before}{number:0{width}}{after}" for number in range(int(first), int(last) + 1)]


_RANGE = re.compile(r"_OP_(\d+)\.\.(\d+)_CL_")


def _nemo_braces(pattern: str) -> str:
    return re.sub(r"\{(\d+\.\.\d+)\}", r"_OP_\1_CL_", pattern)


def _numbers(folder: str, name: str) -> list[int]:
    try:
        return sorted(int(found[1]) for entry in os.listdir(folder) if (found := re.fullmatch(name, entry)))
    except OSError:
        return []
