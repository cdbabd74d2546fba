"""What a plan of steps, batches and buckets means for the data that it is made for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nuptse.base_model import BaseModel
from nuptse.duration_bins import SPEEDS, seconds_in_batch
from nuptse.findings import NOTE, WARNING, Finding, acceptance
from nuptse.memory import machine_memory, training_bytes
from nuptse.surveys import Survey

# A share of the steps; above it the learning rate rises for longer than it falls.
WARMUP_SHARE = 0.5


@dataclass(frozen=True)
class SourcePlan:
    """What a run sees of one training corpus: ``passes`` is how often each of its utterances comes, on average."""

    name: str
    weight: float
    utterances: int
    seconds: float
    drawn: float
    passes: float


@dataclass(frozen=True)
class TrainingPlan:
    """A run in numbers, all of them expectations.

    Attributes:
        batches: of the whole run.
        batch_utterances, batch_s: in a batch.
        longest_s: the longest utterance that is trained on, speed perturbation included.
        validations: of the run; the one at its end counts.
        validation_s: audio of one validation.
        memory_bytes: of weights and one batch, an estimate; None for encoders that it does not know.
    """

    steps: int
    batches: int
    batch_utterances: float
    batch_s: float
    longest_s: float
    validations: int
    validation_s: float
    memory_bytes: int | None
    sources: list[SourcePlan]

    @property
    def passes(self) -> float:
        """How often the run sees the training data, all corpora together."""
        return sum(source.drawn for source in self.sources) / max(1, sum(source.utterances for source in self.sources))

    @property
    def training_s(self) -> float:
        return self.batches * self.batch_s

    def facts(self) -> dict[str, Any]:
        """Return the plan for the report."""
        return {key: _rounded(value) for key, value in asdict(self).items()} | {"passes": _rounded(self.passes)}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [{key: _rounded(item) for key, item in entry.items()} for entry in value]
    return round(value, 3) if isinstance(value, float) else value


def make_plan(
    train: Sequence[Survey], validation: Sequence[Survey], base: BaseModel, settings: Mapping[str, Any]
) -> TrainingPlan:
    """Return what the steps of an experiment amount to.

    Utterances are drawn by the weight of their corpus, a batch is filled to ``batch_duration``, where a cut of d s
    counts as d + d²/``quadratic_duration``, as in Lhotse's ``TimeConstraint``.
    """
    train_ds, trainer = settings["train_ds"], settings["trainer"]
    kept = [_kept(survey.duration_s, train_ds) for survey in train]
    weights = [entry.get("weight") or len(survey) for entry, survey in zip(settings["train"], train, strict=True)]
    # What the limits leave out is drawn, and then not taken.
    taken = [weight * len(k) / max(1, len(s)) for weight, k, s in zip(weights, kept, train, strict=True)]
    shares = [part / max(sum(taken), 1e-9) for part in taken]
    mean_s = sum(share * float(k.mean()) for share, k in zip(shares, kept, strict=True) if len(k))
    costs = [seconds_in_batch(k, train_ds["quadratic_duration"]) for k in kept]
    cost = sum(share * float(each.mean()) for share, each in zip(shares, costs, strict=True) if len(each))
    fit = max(1.0, train_ds["batch_duration"] / max(cost, 1e-9))
    utterances = min(fit, train_ds["batch_size"] or fit)
    batches = trainer["max_steps"] * trainer["accumulate_grad_batches"]
    sources = []
    for survey, share in zip(train, shares, strict=True):
        drawn = batches * utterances * share
        sources.append(SourcePlan(survey.name, share, len(survey), survey.seconds, drawn, drawn / max(1, len(survey))))
    longest = max((float(k.max()) for k in kept if len(k)), default=0.0)
    batch_s = utterances * mean_s
    return TrainingPlan(
        steps=trainer["max_steps"],
        batches=batches,
        batch_utterances=utterances,
        batch_s=batch_s,
        longest_s=longest,
        validations=max(1, math.ceil(batches / trainer["val_check_interval"])),
        validation_s=sum(survey.seconds for survey in validation),
        memory_bytes=training_bytes(base, max(train_ds["batch_duration"], longest), longest, trainer["precision"]),
        sources=sources,
    )


def _kept(durations: np.ndarray, train_ds: Mapping[str, Any]) -> np.ndarray:
    """Return the durations that are trained on, each speed a cut of its own."""
    speeds = SPEEDS if train_ds["perturb_speed"] else (1.0,)
    copies = np.concatenate([durations / speed for speed in speeds])
    longest = math.inf if train_ds["max_duration"] is None else train_ds["max_duration"]
    kept: np.ndarray = copies[(copies >= (train_ds["min_duration"] or 0)) & (copies <= longest)]
    return kept


def plan_findings(
    plan: TrainingPlan, train: Sequence[Survey], bins: Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield what does not fit between an experiment and its data."""

    def finding(code: str, severity: str, message: str, remedy: str, **change: Any) -> Finding:
        keys = {f"experiments.{name}.{key.replace('__', '.')}": value for key, value in change.items()}
        changes = keys or acceptance(code, name, settings)
        return Finding(code=code, severity=severity, subject=name, message=message, remedy=remedy, change=changes)

    name, train_ds, trainer = settings["experiment"], settings["train_ds"], settings["trainer"]
    warmup = settings["warmup_steps"]
    if warmup > WARMUP_SHARE * plan.steps:
        yield finding(
            "long_warmup",
            WARNING,
            f"the learning rate rises for {warmup} of {plan.steps} steps",
            "let it rise for a tenth of the steps",
            optim__sched__warmup_steps=None,
        )
    yield from _pass_findings(plan, settings, finding)
    if plan.longest_s > train_ds["batch_duration"]:
        yield finding(
            "long_utterances",
            WARNING,
            f"the longest utterance has {plan.longest_s:.1f} s, more than a batch of {train_ds['batch_duration']:g} s"
            " may have: it becomes a batch by itself, of more memory than planned",
            "leave longer utterances out, or raise train_ds.batch_duration",
            train_ds__max_duration=train_ds["batch_duration"],
        )
    yield from _bucket_findings(plan, bins, settings, finding)
    yield from _limit_findings(train, bins, settings)
    yield from _validation_findings(plan, trainer, finding)
    yield from _memory_findings(plan, settings, finding)


def _pass_findings(plan: TrainingPlan, settings: Mapping[str, Any], finding: Any) -> Iterator[Finding]:
    limit, trainer = settings["doctor"]["most_passes"], settings["trainer"]
    for source in plan.sources:
        if source.passes > limit:
            rounded = max(1, math.floor(plan.steps * limit / source.passes))
            yield finding(
                "many_passes",
                WARNING,
                f"each utterance of {source.name} is seen {source.passes:.0f} times: the model may learn it by heart",
                "make fewer steps" + ("" if len(plan.sources) == 1 else ", or lower the weight of that corpus"),
                trainer__max_steps=rounded,
                trainer__val_check_interval=min(trainer["val_check_interval"], rounded),
                optim__sched__warmup_steps=None,
            )
            return
    if plan.passes < 1:
        steps = math.ceil(plan.steps / plan.passes)
        yield finding(
            "few_passes",
            NOTE,
            f"{plan.steps} steps see {plan.passes:.0%} of the training data once",
            "make more steps, or accept it",
            trainer__max_steps=steps,
        )


def _bucket_findings(
    plan: TrainingPlan, bins: Mapping[str, Any], settings: Mapping[str, Any], finding: Any
) -> Iterator[Finding]:
    made = bins["num_buckets"]
    kept_s = sum(source["kept"]["seconds"] for source in bins["sources"])
    if settings["train_ds"]["perturb_speed"]:
        kept_s *= 3
    if made > 1 and kept_s / made < plan.batch_s:
        yield finding(
            "starved_buckets",
            WARNING,
            f"{made} buckets hold {kept_s / made:.0f} s of audio each, less than a batch of about {plan.batch_s:.0f} s:"
            " batches come out smaller than asked for",
            "take fewer buckets",
            train_ds__num_buckets=max(1, int(kept_s / plan.batch_s)),
        )
        return
    window, wanted = settings["train_ds"]["bucket_buffer_size"], made * plan.batch_utterances / 2
    if made > 1 and window is not None and window < min(wanted, sum(source.utterances for source in plan.sources)):
        yield finding(
            "starved_buckets",
            WARNING,
            f"the bucketing window of {window} utterances holds {window / made:.0f} for each of {made} buckets, but a"
            f" batch has about {plan.batch_utterances:.0f}: batches come out smaller than asked for",
            "leave train_ds.bucket_buffer_size to Nuptse, or take fewer buckets",
            train_ds__bucket_buffer_size=None,
        )


def _limit_findings(train: Sequence[Survey], bins: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Finding]:
    for survey, source in zip(train, bins["sources"], strict=True):
        out = source["too_short"] + source["too_long"]
        lost = source["seconds"] - source["kept"]["seconds"]
        share = max(out / source["utterances"], lost / max(source["seconds"], 1e-9))
        if share > settings["doctor"]["dropped_share"]:
            yield Finding(
                code="duration_limits",
                severity=WARNING,
                subject=survey.name,
                message=(
                    f"min_duration leaves out {source['too_short']:.0f} and max_duration {source['too_long']:.0f} of"
                    f" {source['utterances']} utterances, {lost / 3600:.2f} h"
                ),
                remedy="remove the limits, or accept what they cost",
                change={
                    f"experiments.{settings['experiment']}.train_ds.{key}": None
                    for key, number in (("min_duration", source["too_short"]), ("max_duration", source["too_long"]))
                    if number
                },
                count=round(out),
                of=source["utterances"],
                share_of_hours=round(lost / max(source["seconds"], 1e-9), 6),
            )


def _validation_findings(plan: TrainingPlan, trainer: Mapping[str, Any], finding: Any) -> Iterator[Finding]:
    if plan.validations < 2:
        yield finding(
            "rare_validation",
            NOTE,
            f"the run of {plan.batches} batches validates once, at its end: there is no best checkpoint to choose",
            "validate more often",
            trainer__val_check_interval=max(1, plan.batches // 4),
        )
    heard = plan.validations * plan.validation_s
    if plan.validations > 2 and heard > plan.training_s:
        rarer = math.ceil(trainer["val_check_interval"] * heard / plan.training_s)
        yield finding(
            "costly_validation",
            NOTE,
            f"{plan.validations} validations of {plan.validation_s / 3600:.2f} h take more audio than the training of"
            f" {plan.training_s / 3600:.2f} h",
            "validate less often",
            trainer__val_check_interval=min(rarer, math.ceil(plan.batches / 2)),
        )


def _memory_findings(plan: TrainingPlan, settings: Mapping[str, Any], finding: Any) -> Iterator[Finding]:
    if plan.memory_bytes is None:
        return
    given = settings["doctor"]["memory_gb"]
    known = (int(given * 1e9), "what `doctor.memory_gb` says") if given else machine_memory()
    taken = f"a batch takes about {plan.memory_bytes / 1e9:.1f} GB by a rough estimate"
    if known is None:
        yield finding(
            "unknown_memory",
            NOTE,
            f"{taken}; how much memory there is where it trains cannot be told here",
            "set `doctor.memory_gb` to the memory of the GPU, or of the machine, that trains",
        )
    elif plan.memory_bytes > known[0]:
        ratio = known[0] / plan.memory_bytes
        yield finding(
            "much_memory",
            WARNING,
            f"{taken}; {known[1]} has {known[0] / 1e9:.1f} GB",
            "take smaller batches, and more of them for each step if you like (trainer.accumulate_grad_batches)",
            train_ds__batch_duration=max(1, math.floor(settings["train_ds"]["batch_duration"] * ratio * 0.8)),
        )
