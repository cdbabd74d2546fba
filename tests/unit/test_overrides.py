"""The plan of an experiment as NeMo's own options."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from nuptse.config import load_config
from nuptse.overrides import data_files, finetune_overrides
from nuptse.settings import resolve_experiment

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())
CONFIG = load_config(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), SCHEMA)
SHARDS = {"quickstart": 8, "quickstart_yesno": 1}


def options(name, **changes):
    settings = resolve_experiment(CONFIG, name, SCHEMA) | changes
    return OmegaConf.from_dotlist(finetune_overrides(settings, SHARDS))


def test_cutset_is_read_by_cuts_path():
    train_ds = options("finetune_from_cutset").model.train_ds
    assert train_ds.cuts_path == "data/manifests/quickstart_cuts_train.jsonl.gz"
    assert "manifest_filepath" not in train_ds


def test_nemo_json_is_read_by_manifest_filepath():
    train_ds = options("finetune_from_nemo_json").model.train_ds
    assert train_ds.manifest_filepath == "data/manifests/quickstart_nemo_train.json"
    assert "tarred_audio_filepaths" not in train_ds


def test_tarred_is_read_by_patterns_of_all_shards():
    tree = options("finetune_from_nemo_tarred")
    train_ds = tree.model.train_ds
    assert train_ds.manifest_filepath == "data/shards/quickstart_train/sharded_manifests/manifest__OP_0..7_CL_.json"
    assert train_ds.tarred_audio_filepaths == "data/shards/quickstart_train/audio__OP_0..7_CL_.tar"
    assert tree.model.validation_ds.manifest_filepath == "data/manifests/quickstart_nemo_dev.json"
    assert tree.trainer.limit_train_batches == 50


def test_a_mix_has_weights_and_every_validation_set():
    model = options("finetune_from_nemo_multidataset").model
    assert [entry.type for entry in model.train_ds.input_cfg] == ["nemo_tarred", "nemo_tarred"]
    assert [entry.weight for entry in model.train_ds.input_cfg] == [0.8, 0.2]
    assert model.train_ds.input_cfg[1].tarred_audio_filepaths.endswith("quickstart_yesno_train/audio__OP_0..0_CL_.tar")
    assert list(model.validation_ds.name) == ["quickstart_dev", "quickstart_yesno_test"]
    assert len(model.validation_ds.manifest_filepath) == 2


@pytest.mark.parametrize(("layout", "kind"), [("cutset", "lhotse"), ("nemo_json", "nemo"), ("tarred", "nemo_tarred")])
def test_every_layout_can_be_mixed(layout, kind):
    mix = options("finetune_from_nemo_multidataset", layout=layout).model.train_ds.input_cfg
    assert [entry.type for entry in mix] == [kind, kind]


def test_the_first_key_of_validation_that_is_a_path_is_the_data():
    """NeMo takes the first value of validation_ds that exists as a file for its data."""
    validation = options("finetune_from_cutset").model.validation_ds
    assert list(validation)[:3] == ["use_lhotse", "cuts_path", "name"]


def test_steps_end_the_run_and_the_schedule_knows_them():
    tree = options("finetune_from_cutset")
    assert tree.trainer.max_steps == tree.model.optim.sched.max_steps == 200
    assert tree.model.optim.sched.warmup_steps == 20
    assert tree.trainer.max_epochs == -1
    assert tree.trainer.check_val_every_n_epoch is None
    assert tree.model.train_ds.shard_seed == 0
    assert tree.model.train_ds.concurrent_bucketing is False


def test_an_endless_stream_without_pseudo_epochs_is_one_epoch():
    """NeMo asks such a stream for its length unless it is told one."""
    settings = resolve_experiment(CONFIG, "finetune_from_nemo_tarred", SCHEMA)
    settings["trainer"] |= {"limit_train_batches": None, "accumulate_grad_batches": 3}
    assert OmegaConf.from_dotlist(finetune_overrides(settings, SHARDS)).trainer.limit_train_batches == 600
    assert options("finetune_from_cutset").trainer.limit_train_batches is None


def test_values_keep_their_types():
    settings = resolve_experiment(CONFIG, "finetune_from_cutset", SCHEMA)
    settings["optim"]["lr"] = 1e-07
    tree = OmegaConf.from_dotlist(finetune_overrides(settings, SHARDS))
    assert tree.model.optim.lr == 1e-07
    assert tree.trainer.precision == "32-true"
    assert tree.model.train_ds.batch_size is None
    assert tree.model.train_ds.use_bucketing is True


def test_one_bucket_turns_bucketing_off():
    settings = resolve_experiment(CONFIG, "finetune_from_cutset", SCHEMA)
    settings["train_ds"]["num_buckets"] = 1
    assert OmegaConf.from_dotlist(finetune_overrides(settings, SHARDS)).model.train_ds.use_bucketing is False


def test_spec_augment_and_further_overrides():
    masks = {"freq_masks": 2, "freq_width": 5, "time_masks": 1, "time_width": 0.05}
    tree = options("finetune_from_cutset", spec_augment=masks, overrides=["model.train_ds.drop_last=true"])
    assert tree.model.spec_augment.freq_width == 5
    assert tree.model.train_ds.drop_last is True
    assert "spec_augment" not in options("finetune_from_cutset", spec_augment=None).model


def test_the_same_settings_give_the_same_plan():
    settings = resolve_experiment(CONFIG, "finetune_from_nemo_multidataset", SCHEMA)
    assert finetune_overrides(settings, SHARDS) == finetune_overrides(settings, SHARDS)


def test_data_files_of_each_layout():
    entries = [{"corpus": "c", "split": "s", "weight": 1}]
    assert data_files("cutset", entries) == ["data/manifests/c_cuts_s.jsonl.gz"]
    assert data_files("nemo_json", entries) == ["data/manifests/c_nemo_s.json"]
    assert data_files("tarred", entries) == ["data/shards/c_s/ledger.json"]


def test_a_validation_batch_is_as_long_as_one_of_training():
    assert options("finetune_from_cutset").model.validation_ds.batch_duration == 60
    own = options("finetune_from_cutset", validation_ds={"batch_duration": 90, "batch_size": 8, "num_workers": 0})
    assert (own.model.validation_ds.batch_duration, own.model.validation_ds.batch_size) == (90, 8)
