"""One fine-tune on the installed NeMo library: what it reads, what it reports, when it is complete."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from nemo.collections.asr.models import ASRModel
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nuptse.data_check import DataCheck
from nuptse.duration_bins import seconds_in_batch
from nuptse.errors import UserError, announce, say, sha256_of, write_atomically
from nuptse.folder_lock import folder_lock
from nuptse.gpu_memory import BatchInMemory
from nuptse.gpus import gpu
from nuptse.history import History
from nuptse.jsonl import read_json
from nuptse.models import restore_model, save_nemo, spec_augment_config
from nuptse.overrides import DATA_OPTIONS
from nuptse.ranks import DIED, LAUNCH, is_first, tell_of_dead_ranks
from nuptse.resuming import SCHEDULE, Checkpoints, PlainCheckpoints, Position, RunFolder, begin_after
from nuptse.runtime import describe_device, git_commit, prepare_device, versions
from nuptse.schema_mistakes import suggestion
from nuptse.sharing import share_out
from nuptse.validation import WholeBatches, validate_longest_first

# Cuts in the bucketing window, where fewer would do: so that neighbours in a batch are not always the same.
LEAST_WINDOW = 1000


class Interrupted(Exception):
    """A training that ended before its last step, whatever the exit status of the library would be."""


@dataclass(frozen=True)
class Job:
    """What one fine-tune reads and where it writes.

    Attributes:
        experiment: its name.
        base: the model to start from, .nemo.
        bins: output of ``duration_bins.plan_bins``.
        train: cuts, NeMo manifest or shard ledger of each corpus that is trained on.
        validation: the same for each validation set.
        output_dir: ``results/<experiment>``.
        options: ``key=value`` as of ``overrides.finetune_overrides``.
        threads: CPU threads.
        every_n_steps, every_minutes: how often the state is saved, to go on from after a break; None for never.
        examined: utterances that the doctor found in each validation set, by its name; of others it is not known.
        audio: checksum of the audio of each set that is trained or validated on, by its name.
    """

    experiment: str
    base: Path
    bins: Path
    train: Sequence[Path]
    validation: Sequence[Path]
    output_dir: Path
    options: Sequence[str]
    threads: int
    every_n_steps: int | None = None
    every_minutes: float | None = None
    examined: Mapping[str, int] = field(default_factory=dict)
    audio: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What ``bins`` holds."""
        return read_json(self.bins, dict)

    @property
    def model(self) -> Path:
        """The model that comes out."""
        return self.output_dir / "checkpoints" / f"{self.experiment}.nemo"


def finetune(job: Job) -> dict[str, Any]:
    """Train to the last step, publish the best model and the report; return the report.

    All that is needed to go on lies in ``output_dir/training``; the results get their names at the end, ``train.json``
    last. A run that was interrupted goes on from its newest checkpoint, and so does one that shall be longer.

    Raises:
        UserError: the data has no place in this model, or another process trains here.
        Interrupted: fewer steps were made than asked for.
    """
    started = time.monotonic()
    with folder_lock(job.output_dir) if is_first() else nullcontext():
        return _finetune(job, started)


def _finetune(job: Job, started: float) -> dict[str, Any]:
    config = resolve_options(job)
    devices = config.trainer.devices
    threads = max(1, job.threads // devices)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # or Lightning's launcher chooses a number of its own
    torch.set_num_threads(threads)
    launch = os.environ.get(LAUNCH, "")
    mine = identity(job) if is_first() else {}  # it reads all of the base model, and the others do not need it
    run = RunFolder(job.output_dir / "training", mine, config.trainer.max_steps, launch, owner=is_first())
    with gpu(config.trainer.accelerator, devices) as accelerator, _lost_ranks(job):
        check_precision(config.trainer.precision, accelerator["accelerator"])
        pl.seed_everything(config.seed, workers=True, verbose=False)
        found = run.resume()
        checkpoint, position = found or (None, Position())
        sources = [source["name"] for source in job.plan["sources"]]
        counted = [source["utterances"] for source in job.plan["sources"]]
        counted += [job.examined.get(name) for name in _names(config)]
        data = zip(sources + _names(config), [*job.train, *job.validation], counted, strict=True)
        check = DataCheck(list(data) if is_first() else [])
        history = History(config.trainer.log_every_n_steps, _names(config), sources, job.experiment, started)
        checkpoints = Checkpoints(run, history, job.every_n_steps, job.every_minutes, config.seed, position)
        memory = BatchInMemory(job.experiment, config)
        trainer = make_trainer(
            OmegaConf.to_container(config.trainer) | accelerator | {"strategy": strategy(config.trainer.strategy)},
            callbacks=[check, history, checkpoints, memory, WholeBatches()],
            logger=TensorBoardLogger(run.folder, name="", version="tensorboard"),
            # This command starts the other ranks of its node, under SLURM too.
            plugins=[PlainCheckpoints(), LightningEnvironment()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        model = restore_model(job.base, map_location="cpu", trainer=trainer)
        prepare_device(trainer.strategy.root_device.type)
        say(f"{job.experiment}: {hardware(trainer)}")
        set_up(model, config)
        validate_longest_first(model)
        history.see_cuts(model)
        if found and is_first():
            announce(f"{job.experiment}: {_going_on(run, checkpoint)}")
        model._train_dl = begin_after(model._train_dl, position)
        share_out(model, _names(config))
        check.wait()
        with memory.fits():
            trainer.fit(model, ckpt_path=checkpoint)
        steps, wanted = trainer.global_step, config.trainer.max_steps
        if steps < wanted:
            raise Interrupted(f"{job.experiment}: stopped at step {steps} of {wanted}; run the same command again")
        check.wait(None)
        if not history.validation or history.validation[-1]["step"] < steps:
            with memory.fits():
                trainer.validate(model, verbose=False)  # where the interval does not end with the run
        if not is_first():
            return {}
        free_optimizers(trainer, model)
        publish(job, config, model, run, history)
    report = {
        "experiment": job.experiment,
        "global_step": steps,
        "max_steps": wanted,
        "best": {"step": history.best_step, "val_wer": history.best_wer},
        "audio_seconds": round(history.audio_seconds, 3),
        "utterances": history.utterances,
        "setup_seconds": round(history.setup_seconds, 1),
        "training_seconds": round(history.training_seconds, 1),
        "memory": peak_memory(),
        "effective_batch": history.effective_batch(trainer.world_size, config.trainer.accumulate_grad_batches),
        "resumed": run.ledger["resumed"],
        "lengthened": run.ledger["lengthened"],
        "train": history.train,
        "validation": history.validation,
        "sources": job.plan["sources"],
        "seed": config.seed,
        "data_fingerprint": fingerprint([*job.train, *job.validation, job.bins, job.base]),
        "model_sha256": sha256_of(job.model),
        "hardware": hardware(trainer),
        "versions": versions(),
        "commit": git_commit(Path(__file__).parent),
        "options": list(job.options),
    }
    # A finished run that is only published again took no longer by it.
    seconds = history.wall_seconds if run.made else history.wall_so_far()
    report["seconds"] = round(seconds, 1)
    write_account(report, job.output_dir / "train.json")
    run.finish(history.state_dict() | {"wall_seconds": seconds})
    return report


def write_account(report: Mapping[str, Any], path: Path) -> None:
    """Write what a training reports, JSON; a loss or an error rate that is not finite, which JSON has not, as null."""
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(_finite(report), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _going_on(run: RunFolder, checkpoint: Path | None) -> str:
    if not run.made:
        return f"going on from {checkpoint}"
    return f"all {run.ledger['steps']} steps are made; to train from the start, delete {run.folder} and run again"


def identity(job: Job) -> dict[str, str]:
    """Return what makes a run the same run: only then its checkpoints are of use."""
    return {
        "options": json.dumps(without_length(job.options)),
        SCHEDULE: json.dumps([option for option in job.options if option.split("=", 1)[0] in LENGTH]),
        "data": fingerprint([*job.train, *job.validation, job.bins]),
        "audio": json.dumps(job.audio, sort_keys=True),  # manifests do not tell when only samples change
        "base model": sha256_of(job.base),
        "versions": json.dumps(versions()),
    }


# The number of steps, and options that follow from it.
LENGTH = ("trainer.max_steps", "model.optim.sched.max_steps", "model.optim.sched.warmup_steps")


def without_length(options: Sequence[str]) -> list[str]:
    """Return the options that a run keeps when it gets more steps; the learning rate follows those of the new length.

    >>> without_length(["seed=0", "trainer.max_steps=9"])
    ['seed=0']
    """
    dropped = set(LENGTH)
    if any(
        "tarred_audio_filepaths" in option for option in options
    ):  # of a stream no batch depends on where epochs end
        dropped.add("trainer.limit_train_batches")
    return [option for option in options if option.split("=", 1)[0] not in dropped]


def resolve_options(job: Job) -> DictConfig:
    """Return the options as a tree, with what only the data tells: bucket edges, weights and buffer sizes."""
    config = OmegaConf.from_dotlist(list(job.options))
    plan, train_ds = job.plan, config.model.train_ds
    if train_ds.use_bucketing:
        # A bin list cannot be empty: with one bucket, bucketing is off.
        train_ds.use_bucketing = plan["num_buckets"] > 1
        train_ds.num_buckets = plan["num_buckets"]
    if train_ds.use_bucketing:
        train_ds.bucket_duration_bins = plan["bucket_duration_bins"]
    if "input_cfg" in train_ds:
        for entry, source in zip(train_ds.input_cfg, plan["sources"], strict=True):
            entry["weight"] = source["weight"]
    if train_ds.bucket_buffer_size is None:
        train_ds.bucket_buffer_size = bucket_window(plan, train_ds)
    # More than there is would only make the endless layouts read everything several times before the first batch.
    utterances = sum(source["utterances"] for source in plan["sources"])
    for buffer in ("shuffle_buffer_size", "bucket_buffer_size"):
        train_ds[buffer] = min(train_ds[buffer], utterances)
    pinned = torch.cuda.is_available()
    train_ds.pin_memory = config.model.validation_ds.pin_memory = pinned
    return config


def bucket_window(plan: Mapping[str, Any], train_ds: Mapping[str, Any]) -> int:
    """Return how many cuts the bucketing window holds: as many as make a batch of each bucket.

    Lhotse takes a batch out of a bucket that has a whole one. With less than half of that in all of them there is often
    none, and batches come out small: 30 buckets of one-second utterances want 9,000 cuts for batches of 300 s.

    Args:
        plan: output of ``duration_bins.plan_bins``.
        train_ds: options of the loader.
    """
    weights = [source["weight"] for source in plan["sources"]]
    means = [source["kept"]["seconds"] / source["kept"]["utterances"] for source in plan["sources"]]
    mean = sum(weight * each for weight, each in zip(weights, means, strict=True)) / sum(weights)
    batch = train_ds["batch_duration"] / seconds_in_batch(mean, train_ds["quadratic_duration"])
    wanted: float = plan["num_buckets"] * min(batch, train_ds["batch_size"] or batch)
    return max(LEAST_WINDOW, math.ceil(wanted))


def _names(config: DictConfig) -> list[str]:
    name = config.model.validation_ds.name
    return [name] if isinstance(name, str) else list(name)


def set_up(model: ASRModel, config: DictConfig) -> None:
    """Give the model its data loaders, optimizer and SpecAugment as configured.

    Raises:
        UserError: NeMo refuses a value; names the section, and `overrides`.
    """
    if "spec_augment" in config.model:
        with open_dict(model.cfg):
            model.cfg.spec_augment = spec_augment_config(OmegaConf.to_container(config.model.spec_augment))
        # Not `model.spec_augment`, which NeMo's own script sets and nothing reads.
        model.spec_augmentation = ASRModel.from_config_dict(model.cfg.spec_augment)
    for section in ("train_ds", "validation_ds"):
        config.model[section].sample_rate = model.cfg.sample_rate
    with _refusals("train_ds"):
        model.setup_training_data(config.model.train_ds)
    with _refusals("validation_ds"):
        model.setup_multiple_validation_data(config.model.validation_ds)
    with _refusals("optim"):
        model.setup_optimization(config.model.optim)


@contextmanager
def _refusals(section: str) -> Iterator[None]:
    """Say where a value stands that NeMo, Lhotse, which check with ``assert`` too, or OmegaConf refuses."""
    try:
        yield
    except (AssertionError, OmegaConfBaseException, OSError, TypeError, ValueError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"NeMo refuses `{section}` or what `overrides` set of `model.{section}`: {cause}") from error


def make_trainer(options: Mapping[str, Any], **own: Any) -> pl.Trainer:
    """Return Lightning's trainer of the options of a user and of our own.

    Raises:
        UserError: it does not know an option, or refuses a value.
    """
    known = list(inspect.signature(pl.Trainer).parameters)
    for key in options:
        if key not in known:
            raise UserError(f"`trainer.{key}` of the options is unknown to Lightning's Trainer{suggestion(key, known)}")
    try:
        return pl.Trainer(**options, **own)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UserError(f"Lightning's Trainer refuses `trainer` or what `overrides` set of it: {error}") from error


def strategy(name: str) -> str | Strategy:
    """Return what Lightning takes for `trainer.strategy`; DDP without the copy of all gradients that it has by default.

    The gradients are the same, and 4 bytes of each weight stay free on every GPU.
    """
    return DDPStrategy(gradient_as_bucket_view=True) if name == "ddp" else name


@contextmanager
def _lost_ranks(job: Job) -> Iterator[None]:
    """Tell of a process of several that died: to the others it is a closed connection, if not a wait without end."""
    tell_of_dead_ranks(job.experiment)
    try:
        yield
    except RuntimeError as error:
        if not re.search("[Cc]onnection (closed|reset|refused)|NCCL|[Rr]emote process exited", str(error)):
            raise
        # The cause may be another, such as a full /dev/shm.
        say(f"{job.experiment}: {error}")
        raise Interrupted(f"{job.experiment}: {DIED} ({str(error).splitlines()[0]})") from error


def check_precision(precision: str, accelerator: str) -> None:
    """Refuse a precision that the GPU would only emulate.

    Raises:
        UserError: bfloat16 on a GPU older than Ampere.
    """
    if precision.startswith("bf16") and accelerator == "gpu" and not torch.cuda.is_bf16_supported(False):
        raise UserError(
            f"`trainer.precision` is {precision}, which {torch.cuda.get_device_name()} cannot compute: take 16-mixed or"
            " 32-true"
        )


def free_optimizers(trainer: pl.Trainer, model: ASRModel) -> None:
    """Give back what is three times as large as the weights, and in the memory of the CPU after a training."""
    for optimizer in trainer.optimizers:  # the model and the schedule know them, too
        optimizer.state.clear()
    model.zero_grad(set_to_none=True)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint, read when they are used; its optimizer is twice as large, and never read.

    Only ever of a checkpoint whose checksum this run wrote down: unpickling runs code.
    """
    found = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)
    state: dict[str, torch.Tensor] = found["state_dict"]
    return state


def publish(job: Job, config: DictConfig, model: ASRModel, run: RunFolder, history: History) -> None:
    """Give the results of a complete run their final names; the run keeps its own, from which more steps can follow."""
    final = job.model.parent
    final.mkdir(exist_ok=True)
    step = history.train[-1]["step"]
    best, last = run.checkpoint("best", history.best_step), run.checkpoint("last", step) or run.checkpoint("best", step)
    if best is None or last is None:
        shutil.rmtree(run.folder)
        raise UserError(f"{run.folder}: the checkpoints of the finished run were damaged or deleted: train it again")
    model.cpu().load_state_dict(weights(best))
    name_no_data(model.cfg)
    save_nemo(model, job.model)
    for path, name in ((best, "best.ckpt"), (last, "last.ckpt")):
        with write_atomically(final / name) as partial:
            _link(path, partial)
    shutil.rmtree(job.output_dir / "tensorboard", ignore_errors=True)
    shutil.copytree(run.folder / "tensorboard", job.output_dir / "tensorboard", copy_function=_link)
    with write_atomically(job.output_dir / "config.yaml") as partial:
        partial.write_text(OmegaConf.to_yaml(config))


def name_no_data(config: DictConfig) -> None:
    """Empty the paths in the configuration of a model, as in those that NeMo publishes: elsewhere they lead nowhere."""
    for section in (config.train_ds, config.validation_ds):
        for option in (*DATA_OPTIONS, "noise_path", "rir_path"):  # these two by `overrides`
            if option in section:
                section[option] = None


def _link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, which costs no room; a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def peak_memory() -> dict[str, int | None]:
    """Return the most memory that this process held so far, in bytes; of the GPU what torch took there."""
    unit = 1 if sys.platform == "darwin" else 1024
    gpu_bytes = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
    return {"rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "gpu_bytes": gpu_bytes}


def hardware(trainer: pl.Trainer) -> dict[str, Any]:
    """Return what the run computed on."""
    return describe_device(trainer.strategy.root_device) | {"threads": torch.get_num_threads(), "cpus": os.cpu_count()}


def fingerprint(paths: Sequence[Path]) -> str:
    """Return one sha256 over the contents of files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
