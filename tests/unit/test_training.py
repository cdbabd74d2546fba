"""What a training makes of its options, and how it takes a GPU; whole trainings run in tests/workflow."""

import dataclasses
import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from nuptse.config import load_config
from nuptse.duration_bins import Source, plan_bins
from nuptse.durations import Durations
from nuptse.overrides import finetune_overrides
from nuptse.runtime import prepare_runtime
from nuptse.settings import resolve_experiment

pytestmark = pytest.mark.slow  # importing NeMo takes seconds

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())
CONFIG = load_config(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), SCHEMA)
SHARDS = {"quickstart": 8, "quickstart_yesno": 1}


@pytest.fixture(scope="module")
def training():
    prepare_runtime()
    from nuptse import training

    return training


@pytest.fixture
def job(training, tmp_path):
    """A job of the given experiment, whose corpora have these durations (s)."""

    def make(name, *corpora, weights=(None, None), **changes):

        settings = resolve_experiment(CONFIG, name, SCHEMA)
        settings["train_ds"] |= changes
        sources = [
            Source(f"c{i}/train", Durations.of(d), w) for i, (d, w) in enumerate(zip(corpora, weights, strict=False))
        ]
        plan = plan_bins(sources, settings["train_ds"]["num_buckets"])
        (tmp_path / "bins.json").write_text(json.dumps(plan))
        options = finetune_overrides(settings, SHARDS)
        return training.Job(name, tmp_path / "b.nemo", tmp_path / "bins.json", [], [], tmp_path / name, options, 1)

    return make


def test_bins_and_buffers_come_from_the_data(training, job):
    train_ds = training.resolve_options(job("finetune_from_nemo_tarred", range(1, 11))).model.train_ds
    assert train_ds.use_bucketing is True
    assert train_ds.num_buckets == 4
    assert len(train_ds.bucket_duration_bins) == 3
    assert train_ds.shuffle_buffer_size == train_ds.bucket_buffer_size == 10, "not more than there is"


def test_the_window_holds_a_batch_of_each_bucket(training, job):
    """Of one-second utterances 60 make a batch of 60 s: 4 buckets want 240, 40 want 2,400."""
    second = [1 + number / 1e6 for number in range(5000)]

    def window(**changes):
        return training.resolve_options(
            job("finetune_from_cutset", second, **changes)
        ).model.train_ds.bucket_buffer_size

    assert window(quadratic_duration=None) == 1000, "the least"
    assert window(quadratic_duration=None, num_buckets=40) == pytest.approx(2400, rel=0.01)
    assert window(quadratic_duration=1, num_buckets=40) == pytest.approx(1200, rel=0.01)
    assert window(quadratic_duration=None, num_buckets=40, batch_size=30) == 1200
    assert window(quadratic_duration=None, num_buckets=40, bucket_buffer_size=70) == 70


def test_a_single_duration_turns_bucketing_off(training, job):
    train_ds = training.resolve_options(job("finetune_from_cutset", [2.0] * 5)).model.train_ds
    assert train_ds.use_bucketing is False
    assert "bucket_duration_bins" not in train_ds


def test_weights_of_a_mix_are_shares(training, job):
    mix = job("finetune_from_nemo_multidataset", [1.0] * 30, [2.0] * 10, weights=(0.8, 0.2))
    assert [entry.weight for entry in training.resolve_options(mix).model.train_ds.input_cfg] == [0.8, 0.2]
    natural = job("finetune_from_nemo_multidataset", [1.0] * 30, [2.0] * 10)
    assert [entry.weight for entry in training.resolve_options(natural).model.train_ds.input_cfg] == [0.75, 0.25]


def test_without_a_gpu_the_trainer_decides(training, monkeypatch):
    monkeypatch.setattr(training.torch.cuda, "device_count", lambda: 0)
    with training.gpu("auto") as where:
        assert where == {"accelerator": "auto", "devices": 1}


def have_gpus(training, monkeypatch, tmp_path, uuids, listed=None):
    """Pretend that CUDA has GPUs of these UUIDs, and the driver's list, which counts before, as many as `listed`."""
    cuda, made_current = training.torch.cuda, []
    counts = [len(uuids) if listed is None else listed]
    monkeypatch.setattr("nuptse.gpus.SHARED", tmp_path)
    monkeypatch.setattr(cuda, "init", lambda: counts.append(len(uuids)))
    monkeypatch.setattr(cuda, "device_count", lambda: counts[-1])
    monkeypatch.setattr(cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index]))
    monkeypatch.setattr(cuda, "set_device", made_current.append)
    return made_current


def test_a_gpu_that_torch_cannot_use_is_no_training_on_the_cpu(training, monkeypatch, tmp_path):
    from nuptse.errors import UserError

    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr("nuptse.gpus.DEVICES", tmp_path)
    monkeypatch.setattr("nuptse.gpus.SHARED", tmp_path)
    monkeypatch.setattr(training.torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match="cannot use them: it sees none"), training.gpu("auto"):
        pass
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        with training.gpu("auto") as where:
            assert where == {"accelerator": "auto", "devices": 1}

    def refuse(*index):
        raise RuntimeError("The NVIDIA driver on your system is too old\nand more")

    have_gpus(training, monkeypatch, tmp_path, ["a"])
    monkeypatch.setattr(training.torch.cuda, "init", refuse)
    too_old = pytest.raises(UserError, match=r"cannot use them: The NVIDIA driver on your system is too old\. ")
    with too_old, training.gpu("auto"):
        pass


def test_two_trainings_never_share_a_gpu(training, monkeypatch, tmp_path, capsys):
    have_gpus(training, monkeypatch, tmp_path, ["GPU-0", "GPU-1"])
    third = []

    def wait_for_one():
        with training.gpu("auto") as where:
            third.append(where["devices"])

    with training.gpu("auto") as first:
        with training.gpu("gpu") as second:
            assert (first["devices"], second["devices"]) == ([0], [1])
            waiting = threading.Thread(target=wait_for_one)
            waiting.start()
            waiting.join(0.5)
            assert not third, "both are taken"
        waiting.join(10)
        assert third == [[1]], "the one that became free"
    assert "waiting for one of 2 GPUs" in capsys.readouterr().out
    with training.gpu("cpu") as where:
        assert where == {"accelerator": "cpu", "devices": 1}


def test_the_locks_of_gpus_are_in_one_place_that_is_ours(training, monkeypatch, tmp_path):
    from nuptse.errors import UserError
    from nuptse.gpus import SHARED, lock_folder

    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "another"))
    assert Path("/tmp") == SHARED
    folder = lock_folder(tmp_path)
    assert (folder, folder.stat().st_mode & 0o777) == (tmp_path / f"nuptse-gpus-{os.getuid()}", 0o700)
    assert lock_folder(tmp_path) == folder
    folder.rmdir()
    for other in (lambda: folder.symlink_to(tmp_path), lambda: folder.symlink_to("nowhere"), folder.touch):
        other()
        with pytest.raises(UserError, match="is not a folder of yours"):
            lock_folder(tmp_path)
        folder.unlink()
    another = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: another)
    (tmp_path / f"nuptse-gpus-{another}").mkdir()
    with pytest.raises(UserError, match="is not a folder of yours"):
        lock_folder(tmp_path)


def test_a_training_takes_as_many_gpus_as_devices(training, monkeypatch, tmp_path):
    from nuptse.errors import UserError

    current = have_gpus(training, monkeypatch, tmp_path, ["0-a", "1-a", "2-a"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3,GPU-2")
    with training.gpu("auto") as one, training.gpu("auto", 2) as two:
        assert (one["devices"], two["devices"]) == ([0], [1, 2])
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1-a,GPU-2-a", "what the other ranks see, in this order"
        monkeypatch.setenv("LOCAL_RANK", "1")
        with training.gpu("auto", 2) as rank:
            assert rank["devices"] == [0, 1], "of those that rank 0 has leased; no lease of its own"
        monkeypatch.delenv("LOCAL_RANK")
    assert current == [0, 1, 1], "the first that each has leased; the other rank sees two, of which it takes the second"
    refused = pytest.raises(UserError, match="`trainer.devices` is 4, but the GPUs that are visible here are 3")
    with refused, training.gpu("auto", 4):
        pass


def test_of_all_mig_instances_a_process_has_one(training, monkeypatch, tmp_path):
    """The driver lists physical GPUs; asked for the second, CUDA would call it an invalid device."""
    from nuptse.errors import UserError

    have_gpus(training, monkeypatch, tmp_path, ["mig"], listed=4)
    with training.gpu("auto") as where:
        assert where == {"accelerator": "gpu", "devices": [0]}
    have_gpus(training, monkeypatch, tmp_path, ["mig"], listed=4)
    refused = pytest.raises(UserError, match="`trainer.devices` is 2, but the GPUs that are visible here are 1")
    with refused, training.gpu("auto", 2):
        pass


def test_what_a_lost_connection_says_is_kept(training, job, capsys):
    said = "NCCL error in: ProcessGroupNCCL.cpp: unhandled system error\nLast error:\nNo space left on device /dev/shm"
    lost = pytest.raises(
        training.Interrupted, match=r"died, of memory perhaps; .*\(NCCL error in: .* unhandled system error\)$"
    )
    with lost, training._lost_ranks(job("finetune_from_cutset", [1.0])):
        raise RuntimeError(said)
    assert said in capsys.readouterr().out, "all of it, in the log of this process"


def test_a_precision_that_the_gpu_only_emulates_is_refused(training, monkeypatch):
    from nuptse.errors import UserError

    monkeypatch.setattr(training.torch.cuda, "is_bf16_supported", lambda emulated: False)
    monkeypatch.setattr(training.torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(UserError, match="bf16-mixed, which Tesla T4 cannot compute: take 16-mixed"):
        training.check_precision("bf16-mixed", "gpu")
    training.check_precision("bf16-mixed", "cpu")
    training.check_precision("16-mixed", "gpu")


def test_options_that_the_trainer_refuses_are_a_mistake_of_the_user(training):
    from nuptse.errors import UserError

    with pytest.raises(UserError, match="`trainer.gradient_clip` .* unknown .*; did you mean `gradient_clip_val`"):
        training.make_trainer({"gradient_clip": 1})
    for refused in ({"gradient_clip_algorithm": "none"}, {"accelerator": "abacus"}, {"profiler": "nobody"}):
        with pytest.raises(UserError, match="Lightning's Trainer refuses"):
            training.make_trainer({"max_steps": 1} | refused, logger=False)
    assert training.make_trainer({"max_steps": 1, "accelerator": "cpu"}, logger=False).max_steps == 1


def test_a_batch_too_large_for_the_gpu_is_named_with_what_to_lower(training, job, capsys):
    from nuptse.errors import UserError
    from nuptse.gpu_memory import BatchInMemory

    torch, model = training.torch, SimpleNamespace(cfg=SimpleNamespace(sample_rate=100))
    config = training.resolve_options(job("finetune_from_cutset", range(1, 11)))
    config.model.train_ds.batch_duration, config.model.validation_ds.batch_duration = 300, 120
    memory = BatchInMemory("large", config)

    def full(message):
        with pytest.raises(UserError, match=message), memory.fits():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    full("large: no room .* for the model and its first batch: lower `train_ds.batch_duration`, now 300 s with as much")
    memory.on_train_batch_start(None, model, (torch.zeros(4, 1000),), 0)
    full("for a batch of 4 utterances, 40 s with padding: lower `train_ds.batch_duration`, now 300 s")
    memory.on_validation_batch_start(None, model, (torch.zeros(2, 500),), 0)
    full("for a batch of 2 utterances, 10 s with padding: lower `validation_ds.batch_duration`, now 120 s, or set")
    assert "Tried to allocate 2 GiB" in capsys.readouterr().out


def test_a_longer_run_is_the_same_run_with_more_steps(training, job):
    def options(layout, **trainer):
        settings = resolve_experiment(CONFIG, f"finetune_from_{layout}", SCHEMA)
        settings["trainer"] |= trainer
        settings["optim"]["sched"]["warmup_steps"] = settings["trainer"]["max_steps"] // 10
        return training.without_length(finetune_overrides(settings, SHARDS))

    for layout in ("cutset", "nemo_tarred"):
        endless = {"limit_train_batches": None}
        assert options(layout, max_steps=100, **endless) == options(layout, max_steps=300, **endless)
        assert options(layout, max_steps=100) != options(layout, max_steps=100, precision="bf16-mixed")
    assert options("nemo_tarred", limit_train_batches=50) == options("nemo_tarred", limit_train_batches=60)
    assert options("cutset", limit_train_batches=50) == options("cutset"), "data that ends has epochs of its own"


def test_a_warm_up_of_another_length_is_another_schedule(training, job):
    run = job("finetune_from_cutset", [1.0, 2.0])
    run.base.write_bytes(b"")
    warmup = "model.optim.sched.warmup_steps="
    other = [f"{warmup}3" if option.startswith(warmup) else option for option in run.options]
    assert other != run.options
    found = [training.identity(one) for one in (run, dataclasses.replace(run, options=other))]
    assert [name for name in found[0] if found[0][name] != found[1][name]] == ["schedule"]


def test_spec_augment_reaches_what_the_model_reads(training, tmp_path):
    """NeMo's own script sets model.spec_augment, which forward() does not look at."""
    from omegaconf import OmegaConf

    model = SimpleNamespace(
        cfg=OmegaConf.create({"sample_rate": 16000}),
        spec_augmentation=None,
        setup_training_data=lambda config: None,
        setup_multiple_validation_data=lambda config: None,
        setup_optimization=lambda config: None,
    )
    masks = {"freq_masks": 2, "freq_width": 5, "time_masks": 1, "time_width": 0.05}
    config = OmegaConf.create({"model": {"spec_augment": masks, "train_ds": {}, "validation_ds": {}, "optim": {}}})
    training.set_up(model, config)
    assert type(model.spec_augmentation).__name__ == "SpectrogramAugmentation"
    assert model.spec_augmentation.spec_augment.freq_width == 5
    assert config.model.train_ds.sample_rate == 16000


@pytest.mark.parametrize(
    ("section", "wrong", "cause"),
    [
        ("train_ds", {"drop_last": "maybe"}, r"Value 'maybe' is not a valid bool \(type str\) full_key: drop_last"),
        ("train_ds", {"noise_path": "/nowhere.jsonl"}, "No such file or directory: '/nowhere.jsonl'$"),
        ("train_ds", {"force_map_dataset": True, "force_iterable_dataset": True}, "Conflicting options"),
        ("validation_ds", {"num_workers": "two"}, "Value 'two' of type 'str' could not be converted to Integer"),
        ("validation_ds", {"drop_last": "${nothing}"}, "Interpolation key 'nothing' not found"),
    ],
)
def test_a_value_that_a_loader_refuses_is_a_mistake_of_the_user(training, tmp_path, section, wrong, cause):
    from lhotse import CutSet
    from lhotse.testing.dummies import DummyManifest
    from nemo.collections.common.data.lhotse import get_lhotse_dataloader_from_config
    from omegaconf import OmegaConf

    from nuptse.errors import UserError

    DummyManifest(CutSet, begin_id=0, end_id=4).to_file(tmp_path / "cuts.jsonl")

    def load(config):
        get_lhotse_dataloader_from_config(config, global_rank=0, world_size=1, dataset=None)

    model = SimpleNamespace(
        cfg=OmegaConf.create({"sample_rate": 16000}),
        setup_training_data=load,
        setup_multiple_validation_data=load,
    )
    right = {"cuts_path": str(tmp_path / "cuts.jsonl"), "batch_size": 2, "num_workers": 0}
    config = {name: right | (wrong if name == section else {}) for name in ("train_ds", "validation_ds")}
    refused = f"^NeMo refuses `{section}` or what `overrides` set of `model.{section}`: .*{cause}"
    with pytest.raises(UserError, match=refused):
        training.set_up(model, OmegaConf.create({"model": config}))


def test_a_file_that_is_no_model_is_refused(training, tmp_path):
    from nuptse.errors import UserError

    (tmp_path / "b.nemo").write_text("no tar")
    with pytest.raises(UserError, match="b.nemo cannot be read as a NeMo speech recogniser"):
        training.restore_model(tmp_path / "b.nemo", map_location="cpu")


def test_a_model_of_another_kind_is_refused(training, tmp_path, monkeypatch):
    from nemo.collections.asr.models import ASRModel

    from nuptse.errors import UserError

    monkeypatch.setattr(ASRModel, "restore_from", lambda path, map_location: SimpleNamespace())
    with pytest.raises(UserError, match="b.nemo is a SimpleNamespace; only CTC, RNN-T and hybrid models can be used"):
        training.restore_model(tmp_path / "b.nemo", map_location="cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_but_weights_is_in_memory_when_a_model_is_published(training, tmp_path):
    """The rest of a checkpoint stays on the disk; that of the optimizer is given back, of which others know as well."""
    torch = training.torch
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    model(torch.ones(300)).sum().backward()
    optimizer.step()
    torch.save({"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}, tmp_path / "b.ckpt")
    assert optimizer.state and model.weight.grad is not None
    training.free_optimizers(SimpleNamespace(optimizers=[optimizer]), model)
    assert not schedule.optimizer.state and model.weight.grad is None and model.bias.grad is None
    found = training.weights(tmp_path / "b.ckpt")
    assert found["weight"].equal(model.weight)
    assert str(tmp_path / "b.ckpt") in Path("/proc/self/maps").read_text(), "what is not looked at is not read"


def test_gradients_of_several_devices_are_in_memory_once(training):
    one, several = (
        training.make_trainer({"strategy": training.strategy(name)}, logger=False) for name in ("auto", "ddp")
    )
    assert type(one.strategy).__name__ == "SingleDeviceStrategy"
    assert several.strategy._ddp_kwargs == {"gradient_as_bucket_view": True}


def test_the_account_says_how_a_gpu_multiplies(training, monkeypatch):
    def hardware(kind):
        return training.hardware(SimpleNamespace(strategy=SimpleNamespace(root_device=training.torch.device(kind))))

    assert hardware("cpu").keys() == {"device", "threads", "cpus"}
    monkeypatch.setattr(training.torch.cuda, "get_device_name", lambda device: "H100")
    assert (hardware("cuda")["device"], hardware("cuda")["matmul"]) == ("H100", "highest")


class Trainer(SimpleNamespace):
    """What History reads of Lightning's trainer."""

    def __init__(self, **settings):
        optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
        super().__init__(
            **{
                "global_step": 0,
                "max_steps": 4,
                "accumulate_grad_batches": 1,
                "world_size": 1,
                "optimizers": [optimizer],
            }
            | settings
        )


def history_of(training, interval):
    return training.History(interval, ["c_dev"], ["c/train"], "x", training.time.monotonic())


def feed(training, history, trainer, loss):
    torch = training.torch
    model = SimpleNamespace(cfg=SimpleNamespace(sample_rate=16000))
    batch = (torch.zeros(2, 16000), torch.tensor([16000, 8000]), None, None)
    history.on_train_batch_start(trainer, model, batch, 0)
    history.on_train_batch_end(trainer, model, {"loss": torch.tensor(loss)}, batch, 0)


def test_the_history_counts_audio_and_padding(training, capsys):
    history, trainer = history_of(training, 2), Trainer()
    for step in (1, 2, 3, 4):
        trainer.global_step = step
        feed(training, history, trainer, 1.0)
    assert history.audio_seconds == 6.0
    assert history.utterances == 8
    assert history.train[0] == {
        "step": 1,
        "loss": 1.0,
        "lr": 0.1,
        "audio_seconds": 1.5,
        "utterances": 2,
        "longest_s": 1.0,
        "padding": 0.25,
        "by_source": {},
    }
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["2/4", "4/4"]


def test_accumulated_batches_are_one_step(training, capsys):
    history, trainer = history_of(training, 1), Trainer(accumulate_grad_batches=2)
    for step in (0, 1, 1, 2):  # global_step after each batch
        trainer.global_step = step
        feed(training, history, trainer, 0.5)
    assert [row["loss"] for row in history.train] == [1.0] * 4, "not divided by the accumulated batches"
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["1/4", "2/4"]


def test_the_wall_time_is_that_of_all_starts(training):
    first = history_of(training, 1)
    feed(training, first, Trainer(global_step=1), 1.0)
    first.started -= 100
    state = first.state_dict()
    second = history_of(training, 1)
    second.load_state_dict(state)
    second.started -= 10
    assert second.wall_so_far() == pytest.approx(110, abs=5)
    del state["wall_seconds"]  # a checkpoint of an earlier version
    second.load_state_dict(state | {"setup_seconds": 30.0, "training_seconds": 50.0})
    assert second.wall_so_far() == pytest.approx(90, abs=5)


def test_a_batch_without_a_finite_loss_leaves_an_account_that_can_be_read(training, tmp_path, monkeypatch):
    from nuptse.plan import Plan

    history, trainer = history_of(training, 100), Trainer(max_steps=3)
    for step, loss in enumerate((1.0, float("nan"), float("inf")), start=1):
        trainer.global_step = step
        feed(training, history, trainer, loss)
    plan = Plan(CONFIG, SCHEMA, ROOT)
    name = "finetune_from_cutset"
    folder = tmp_path / "results" / name
    (folder / "checkpoints").mkdir(parents=True)
    for file in (f"checkpoints/{name}.nemo", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml"):
        (folder / file).touch()
    training.write_account({"options": plan.overrides(name), "train": history.train}, folder / "train.json")
    assert [row["loss"] for row in json.loads((folder / "train.json").read_text())["train"]] == [1.0, None, None]
    monkeypatch.chdir(tmp_path)
    assert plan.is_trained(name), "or the doctor's report would have it trained again for ever"


def test_a_loss_that_stays_nan_ends_the_run(training):
    from nuptse.errors import UserError

    history, trainer = history_of(training, 100), Trainer(max_steps=100)
    with pytest.raises(UserError, match="the loss has been nan for 10 batches up to step 12: lower `optim.lr`"):
        for step in range(1, 100):
            trainer.global_step = step
            feed(training, history, trainer, float("nan") if step > 2 else 1.0)
    assert len(history.train) == 12


def test_the_configuration_of_a_published_model_names_no_file_of_the_training(training):
    from omegaconf import OmegaConf

    config = OmegaConf.create(
        {
            "train_ds": {
                "input_cfg": [{"type": "nemo", "manifest_filepath": "a.json"}],
                "noise_path": "/n",
                "rir_path": 1,
            },
            "validation_ds": {"manifest_filepath": ["b.json"], "batch_duration": 60},
        }
    )
    OmegaConf.set_struct(config, True)
    training.name_no_data(config)
    assert OmegaConf.to_container(config) == {
        "train_ds": {"input_cfg": None, "noise_path": None, "rir_path": None},
        "validation_ds": {"manifest_filepath": None, "batch_duration": 60},
    }
