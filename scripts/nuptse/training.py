"""One fine-tune on the installed NeMo library: what it reads, what it reports, when it is complete."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lhotse import CutSet
from lhotse.dataset.iterable_dataset import IterableDatasetWrapper
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from nemo.collections.asr.models import ASRModel
from omegaconf import DictConfig, OmegaConf, open_dict

from nuptse.errors import UserError, announce, say, sha256_of, write_atomically
from nuptse.gpus import gpu
from nuptse.models import restore_model, save_nemo, spec_augment_config
from nuptse.overrides import SOURCE_TAG
from nuptse.preflight import check_data
from nuptse.runtime import git_commit, versions

# Batches in a row without a finite loss before a run is given up; a single one may be a bad utterance.
LOST_AFTER = 10
# Seconds between two lines on the terminal, where others write too; the log gets them all.
TERMINAL_S = 5


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
    """

    experiment: str
    base: Path
    bins: Path
    train: Sequence[Path]
    validation: Sequence[Path]
    output_dir: Path
    options: Sequence[str]
    threads: int

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What ``bins`` holds."""
        return dict(json.loads(self.bins.read_text()))

    @property
    def model(self) -> Path:
        """The model that comes out."""
        return self.output_dir / "checkpoints" / f"{self.experiment}.nemo"


def finetune(job: Job) -> dict[str, Any]:
    """Train to the last step, publish the best model and the report; return the report.

    Everything that is unfinished lies in ``output_dir/training`` and gets its final name at the end, ``train.json``
    last.

    Raises:
        UserError: the data has no place in this model.
        Interrupted: fewer steps were made than asked for.
    """
    started = time.monotonic()
    config = resolve_options(job)
    torch.set_num_threads(job.threads)
    work = job.output_dir / "training"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with gpu(config.trainer.accelerator) as accelerator:
        pl.seed_everything(config.seed, workers=True, verbose=False)
        sources = [source["name"] for source in job.plan["sources"]]
        history = History(config.trainer.log_every_n_steps, _names(config), sources, job.experiment, started)
        best = ModelCheckpoint(
            work, "best", monitor="val_wer", mode="min", save_last=True, enable_version_counter=False
        )
        trainer = pl.Trainer(
            **OmegaConf.to_container(config.trainer) | accelerator,
            callbacks=[history, best],
            logger=TensorBoardLogger(work, name="", version="tensorboard"),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        model = restore_model(job.base, map_location="cpu", trainer=trainer)
        say(f"{job.experiment}: {hardware(trainer)}")
        for name, data in zip(sources + _names(config), [*job.train, *job.validation], strict=True):
            say(check_data(name, data, model.tokenizer))
        set_up(model, config)
        history.see_cuts(model)
        trainer.fit(model)
        steps, wanted = trainer.global_step, config.trainer.max_steps
        if steps < wanted:
            raise Interrupted(f"{job.experiment}: stopped at step {steps} of {wanted}; run the same command again")
        history.validate_last_step(trainer, model, best)
        publish(job, config, model)
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
        "seconds": round(time.monotonic() - started, 1),
    }
    with write_atomically(job.output_dir / "train.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")
    return report


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
    # More than there is would only make the endless layouts read everything several times before the first batch.
    utterances = sum(source["utterances"] for source in plan["sources"])
    for buffer in ("shuffle_buffer_size", "bucket_buffer_size"):
        train_ds[buffer] = min(train_ds[buffer], utterances)
    pinned = torch.cuda.is_available()
    train_ds.pin_memory = config.model.validation_ds.pin_memory = pinned
    return config


def _names(config: DictConfig) -> list[str]:
    name = config.model.validation_ds.name
    return [name] if isinstance(name, str) else list(name)


def set_up(model: ASRModel, config: DictConfig) -> None:
    """Give the model its data loaders, optimizer and SpecAugment as configured."""
    if "spec_augment" in config.model:
        with open_dict(model.cfg):
            model.cfg.spec_augment = spec_augment_config(OmegaConf.to_container(config.model.spec_augment))
        # Not `model.spec_augment`, which NeMo's own script sets and nothing reads.
        model.spec_augmentation = ASRModel.from_config_dict(model.cfg.spec_augment)
    for section in ("train_ds", "validation_ds"):
        config.model[section].sample_rate = model.cfg.sample_rate
    model.setup_training_data(config.model.train_ds)
    model.setup_multiple_validation_data(config.model.validation_ds)
    model.setup_optimization(config.model.optim)


@dataclass
class History(Callback):
    """Collects what a run did, and prints a line now and then.

    Attributes:
        interval: steps between two lines.
        names: the validation sets, ``<corpus>_<split>``, the first of which chooses the best step.
        sources: the corpora that are trained on, ``<corpus>/<split>``, in the order of ``train_ds.input_cfg``.
        experiment: its name, for the lines.
        started: ``time.monotonic()`` when the run began.
        train: loss, learning rate and amounts of audio of each batch.
        validation: val_wer of every set at each validation.
        audio_seconds: audio seen in training, padding not counted.
        setup_seconds: until the first batch.
        training_seconds: from the first batch to the last, validations not counted.
    """

    interval: int
    names: list[str]
    sources: list[str]
    experiment: str
    started: float
    train: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    audio_seconds: float = 0.0
    utterances: int = 0
    best_step: int | None = None
    best_wer: float = math.inf
    setup_seconds: float = 0.0
    training_seconds: float = 0.0
    _resumed: float | None = None
    _lr: float = 0.0
    _by_source: dict[str, int] = field(default_factory=dict)
    _printed: int = 0
    _announced: float = -math.inf

    def see_cuts(self, model: ASRModel) -> None:
        """Have the training data loader say which cuts are in a batch: only they tell the corpus."""
        loaded = model._train_dl.dataset
        dataset = loaded.dataset if isinstance(loaded, IterableDatasetWrapper) else loaded
        dataset.return_cuts = True

        def take_cuts(batch: tuple[Any, ...], dataloader_idx: int) -> tuple[Any, ...]:
            if not isinstance(batch[-1], CutSet):  # validation
                return batch
            *tensors, cuts = batch
            counts = Counter(cut.custom[SOURCE_TAG] if len(self.sources) > 1 else self.sources[0] for cut in cuts)
            self._by_source = {name: counts[name] for name in self.sources}
            return tuple(tensors)

        model.on_before_batch_transfer = take_cuts

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if not self.train:
            self._resumed = time.monotonic()
            self.setup_seconds = self._resumed - self.started
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]  # afterwards it is already that of the next step

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        audio, lengths = batch[0], batch[1]
        seconds = float(lengths.sum()) / model.cfg.sample_rate
        self.audio_seconds += seconds
        self.utterances += len(lengths)
        step, steps = trainer.global_step, trainer.max_steps
        row = {
            "step": step,
            "loss": round(float(outputs["loss"].detach()) * trainer.accumulate_grad_batches, 6),
            "lr": self._lr,
            "audio_seconds": round(seconds, 3),
            "utterances": len(lengths),
            "longest_s": round(audio.shape[1] / model.cfg.sample_rate, 3),
            "padding": round(1 - float(lengths.sum()) / audio.numel(), 6),
            "by_source": self._by_source,
        }
        self.train.append(row)
        self._stop_if_lost()
        if step > self._printed and (step % self.interval == 0 or step == steps):
            self._printed = step
            took = self._so_far()
            to_go = took / step * (steps - step)
            now = time.monotonic()
            shown = now - self._announced >= TERMINAL_S or step == steps
            self._announced = now if shown else self._announced
            (announce if shown else say)(
                f"{self.experiment}: step {step}/{steps}  loss {row['loss']:.2f}  lr {row['lr']:.2e}"
                f"  {self.audio_seconds / 3600:.3f} h of audio  {took:.0f} s, {to_go:.0f} s to go"
            )

    def _pause(self) -> None:
        self.training_seconds, self._resumed = self._so_far(), None

    def _so_far(self) -> float:
        return self.training_seconds + (time.monotonic() - self._resumed if self._resumed is not None else 0)

    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._pause()

    def _stop_if_lost(self) -> None:
        """A loss that stays NaN or infinite does not come back, however many GPU hours follow."""
        last = [row["loss"] for row in self.train[-LOST_AFTER:]]
        if len(last) == LOST_AFTER and not any(map(math.isfinite, last)):
            raise UserError(
                f"the loss has been {last[-1]} for {LOST_AFTER} batches up to step {self.train[-1]['step']}: lower"
                " `optim.lr`, set `trainer.gradient_clip_val` (1.0, say), or train with precision 32-true"
            )

    def on_validation_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._pause()

    def on_validation_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._resumed = time.monotonic()
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        keys = ["val_wer"] if len(self.names) == 1 else [f"{prefix}val_wer" for prefix in model._validation_names]
        scores = {name: round(metrics[key], 6) for name, key in zip(self.names, keys, strict=True)}
        self.validation.append({"step": trainer.global_step, "val_wer": scores})
        first = scores[self.names[0]]
        if first < self.best_wer:
            self.best_wer, self.best_step = first, trainer.global_step
        text = ", ".join(f"{name} {wer:.2%}" for name, wer in scores.items())
        announce(f"{self.experiment}: step {trainer.global_step}/{trainer.max_steps}  val_wer {text}")

    def validate_last_step(self, trainer: pl.Trainer, model: ASRModel, best: ModelCheckpoint) -> None:
        """Validate after the last step too, where the interval does not end with the run."""
        if not self.validation or self.validation[-1]["step"] < trainer.global_step:
            before = self.best_wer
            trainer.validate(model, verbose=False)
            folder = Path(best.dirpath)  # type: ignore[arg-type]  # never None: finetune() gave it
            trainer.save_checkpoint(folder / "last.ckpt")
            if self.best_wer < before:
                trainer.save_checkpoint(folder / "best.ckpt")


def publish(job: Job, config: DictConfig, model: ASRModel) -> None:
    """Give the results of a complete run their final names."""
    work, checkpoints = job.output_dir / "training", job.model.parent
    checkpoints.mkdir(exist_ok=True)
    # Only ever a checkpoint that this very process wrote: unpickling runs code.
    state = torch.load(work / "best.ckpt", map_location="cpu", weights_only=False)["state_dict"]
    model.cpu().load_state_dict(state)
    save_nemo(model, job.model)
    for name in ("best.ckpt", "last.ckpt"):
        os.replace(work / name, checkpoints / name)
    shutil.rmtree(job.output_dir / "tensorboard", ignore_errors=True)
    os.replace(work / "tensorboard", job.output_dir / "tensorboard")
    with write_atomically(job.output_dir / "config.yaml") as partial:
        partial.write_text(OmegaConf.to_yaml(config))
    shutil.rmtree(work)


def peak_memory() -> dict[str, int | None]:
    """Return the most memory that this process held so far, in bytes; of the GPU what torch took there."""
    unit = 1 if sys.platform == "darwin" else 1024
    gpu_bytes = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
    return {"rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "gpu_bytes": gpu_bytes}


def hardware(trainer: pl.Trainer) -> dict[str, Any]:
    """Return what the run computed on."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "threads": torch.get_num_threads(), "cpus": os.cpu_count()}


def fingerprint(paths: Sequence[Path]) -> str:
    """Return one sha256 over the contents of files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
