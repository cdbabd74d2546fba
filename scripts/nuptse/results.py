"""What a finished run left on the disk: error rates, trainings, bins, ledgers, as the page of results needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from nuptse.errors import UserError, make_again
from nuptse.findings import Report, read_report
from nuptse.jsonl import read_json
from nuptse.wer_table import pairs_of

Split = tuple[str, str]
"""A corpus and a split of it."""


# --- results/scores: what one recogniser does in one split; `per_utterance` is not read ---


class Part(msgspec.Struct):
    """Errors of some utterances of a split: those of a quartile of duration, or of a speaker."""

    utterances: int
    words: int
    errors: int
    wer: float | None
    from_s: float = 0.0
    to_s: float = 0.0
    speaker: str | None = None


class Worst(msgspec.Struct):
    """An utterance with many errors; ``alignment`` holds (reference word, hypothesis word), empty for a gap."""

    id: str
    duration_s: float
    errors: int
    wer: float | None
    reference: str
    hypothesis: str
    alignment: list[tuple[str, str]]
    speaker: str | None = None


class Bootstrap(msgspec.Struct):
    """How an interval was made."""

    level: float
    resamples: int
    seed: int
    units: str
    num_units: int


class Detail(msgspec.Struct):
    """What the page shows of one recogniser in one split, beyond the table."""

    recogniser: str
    corpus: str
    split: str
    normalizer: str
    utterances: int
    hours: float
    speakers: int | None
    timing: dict[str, Any] | None
    bootstrap: Bootstrap
    by_duration: list[Part]
    by_speaker: list[Part]
    confusions: list[tuple[str, str, int]]
    deleted: list[tuple[str, int]]
    inserted: list[tuple[str, int]]
    worst: list[Worst]


# --- results/{experiment} ---


class Batch(msgspec.Struct):
    """One row of ``train``; the loss is None or not finite where it was lost."""

    step: int
    loss: float | None
    lr: float
    audio_seconds: float
    utterances: int
    padding: float
    longest_s: float | None = None
    by_source: dict[str, int] | None = None


class Validation(msgspec.Struct):
    """Word error rates, shares, by ``<corpus>_<split>``."""

    step: int
    val_wer: dict[str, float | None]


class Amount(msgspec.Struct):
    """Utterances and their audio, s; speed perturbation makes thirds of utterances."""

    utterances: float
    seconds: float


class Source(msgspec.Struct):
    """One corpus and split of a blend."""

    name: str
    utterances: int
    seconds: float
    kept: Amount
    too_short: float
    too_long: float
    weight: float


class Memory(msgspec.Struct):
    """Peaks."""

    rss_bytes: int | None = None
    gpu_bytes: int | None = None


class Best(msgspec.Struct):
    """The step whose weights are in the model."""

    step: int | None
    val_wer: float | None


class Training(msgspec.Struct):
    """results/{experiment}/train.json."""

    experiment: str
    global_step: int
    best: Best
    audio_seconds: float
    utterances: int
    train: list[Batch]
    validation: list[Validation]
    sources: list[Source]
    seed: int
    data_fingerprint: str
    model_sha256: str
    hardware: dict[str, Any]
    versions: dict[str, str | None]
    commit: str | None
    options: list[str]
    seconds: float
    training_seconds: float | None = None
    setup_seconds: float | None = None
    memory: Memory = msgspec.field(default_factory=Memory)


class Bucket(msgspec.Struct):
    """Cuts of ``from_s`` to under ``to_s``."""

    from_s: float
    to_s: float
    share_of_audio: float


class Bins(msgspec.Struct):
    """results/{experiment}/duration_bins.json."""

    bucket_duration_bins: list[float]
    requested_buckets: int
    buckets: list[Bucket]


# --- data/manifests ---


class Histogram(msgspec.Struct):
    """Kept utterances by duration: ``counts["23"]`` of them last from 23 * width_s to under 24 * width_s."""

    width_s: float
    counts: dict[str, int]


class SplitLedger(msgspec.Struct):
    """What became of every supervision of a split."""

    corpus: str
    split: str
    taken: Amount
    kept: Amount
    dropped: dict[str, Amount]
    trimmed: Amount
    quarantined: dict[str, Amount] = {}
    histogram: Histogram | None = None


@dataclass(frozen=True)
class Run:
    """Everything that the page shows but for what the jobs cost.

    Attributes:
        settings: of :meth:`nuptse.plan.Plan.page_settings`: experiments, corpora, models,
            decoding, steps.
        bases: experiment -> base model.
        same_data: groups of experiments that differ in layout only.
        table: results/wer.tsv.
        comparisons: results/wer_comparisons.tsv.
        details: by recogniser, corpus and split, in the order of the table.
        trainings, bins, options: by experiment, sorted; ``options`` is the text of its config.yaml.
        ledgers: by corpus and split.
        reports: of the doctor, by experiment.
    """

    settings: Mapping[str, Any]
    bases: Mapping[str, str]
    same_data: Sequence[Sequence[str]]
    table: pd.DataFrame
    comparisons: pd.DataFrame
    details: Mapping[tuple[str, str, str], Detail]
    trainings: Mapping[str, Training]
    bins: Mapping[str, Bins]
    options: Mapping[str, str]
    ledgers: Mapping[Split, SplitLedger]
    reports: Mapping[str, Report]

    @property
    def experiments(self) -> list[str]:
        return list(self.trainings)

    @property
    def base_models(self) -> list[str]:
        return sorted(set(self.bases.values()))

    @property
    def recognisers(self) -> list[str]:
        """Base models first."""
        return [*self.base_models, *self.experiments]

    @property
    def splits(self) -> list[Split]:
        """The splits that were transcribed, in the order of the table."""
        pairs = zip(self.table["corpus"], self.table["split"], strict=True)
        return list(dict.fromkeys(pairs))


NAMES = ("recogniser", "compared_with", "kind", "corpus", "split", "normalizer", "units")


def read_table(path: Path) -> pd.DataFrame:
    """Return a table of summarize_wer.py; a recogniser may be called ``NA``, so only numbers can be missing.

    Raises:
        UserError: it does not end with a line, or is no such table.
    """
    try:
        header = pd.read_csv(path, sep="\t", nrows=0).columns
        names, numbers = [name for name in header if name in NAMES], [name for name in header if name not in NAMES]
        table = pd.read_csv(
            path,
            sep="\t",
            dtype=dict.fromkeys(names, str),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        ).astype(dict.fromkeys(numbers, "float64"))
    except ValueError as error:  # pandas has its own kinds of them
        raise UserError(f"{path} is no output of summarize_wer.py: {error}; {make_again(path)}") from None
    if not path.read_bytes().endswith(b"\n"):
        raise UserError(f"{path} is cut short in its last line; {make_again(path)}")
    return table


def _read_whole(path: Path, columns: list[str], rows: Iterable[tuple[str, ...]]) -> pd.DataFrame:
    """Return a table that has these rows: a file that is cut short between two lines looks like one."""
    table, expected = read_table(path), set(rows)
    found = set(table.reindex(columns=columns).itertuples(index=False, name=None))
    if found != expected:
        raise UserError(
            f"{path} has {len(found & expected)} of the {len(expected)} rows that the scores make, and"
            f" {len(found - expected)} others; {make_again(path)}"
        )
    return table


def read_run(
    *,
    settings: Mapping[str, Any],
    bases: Mapping[str, str],
    same_data: Sequence[Sequence[str]],
    table: Path,
    comparisons: Path,
    scores: Iterable[Path],
    experiments: Iterable[Path],
    ledgers: Iterable[Path],
    reports: Iterable[Path],
) -> Run:
    """Return what the files say.

    Args:
        experiments: folders with ``train.json``, ``duration_bins.json`` and ``config.yaml``, named as the experiment.

    Raises:
        UserError: a file is of another form, or a table has not the rows that the scores make.
    """
    folders = sorted(experiments, key=lambda folder: folder.name)
    details = [read_json(path, Detail) for path in scores]
    amounts = [read_json(path, SplitLedger) for path in ledgers]
    rows = [(detail.recogniser, detail.corpus, detail.split) for detail in details]
    pairs = [(one.recogniser, other.recogniser, one.corpus, one.split) for one, other, _ in pairs_of(details, bases)]
    return Run(
        settings=settings,
        bases=bases,
        same_data=same_data,
        table=_read_whole(table, ["recogniser", "corpus", "split"], rows),
        comparisons=_read_whole(comparisons, ["recogniser", "compared_with", "corpus", "split"], pairs),
        details=dict(zip(rows, details, strict=True)),
        trainings={folder.name: read_json(folder / "train.json", Training) for folder in folders},
        bins={folder.name: read_json(folder / "duration_bins.json", Bins) for folder in folders},
        options={folder.name: (folder / "config.yaml").read_text("utf-8") for folder in folders},
        reports={report.experiment: report for report in map(read_report, reports)},
        ledgers={(ledger.corpus, ledger.split): ledger for ledger in amounts},
    )
