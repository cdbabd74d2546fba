"""Every mistake in a configuration ends in one sentence that names the key and the remedy."""

import copy
from pathlib import Path

import pytest
import yaml

from nuptse.config import load_config
from nuptse.config_mistakes import known_recipes
from nuptse.errors import UserError
from nuptse.settings import resolve_experiment, resolve_urls

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())


def read(name="config.yaml"):
    return yaml.safe_load((ROOT / "config" / name).read_text())


def merged(over):
    """The default configuration under an overlay, merged as Snakemake merges files."""

    def merge(base, over):
        for key, value in over.items():
            if isinstance(value, dict) and isinstance(base.get(key), dict):
                merge(base[key], value)
            else:
                base[key] = copy.deepcopy(value)
        return base

    return merge(read(), over)


@pytest.mark.parametrize("name", ["config.yaml", "tutorial.yaml", "test.yaml", "pretrain_quickstart.yaml"])
def test_every_configuration_file_is_valid(name):
    config = load_config(merged(read(name)), SCHEMA)
    for experiment in config["experiments"]:
        resolve_experiment(config, experiment, SCHEMA)


@pytest.mark.parametrize("name", ["tutorial.yaml", "test.yaml", "pretrain_quickstart.yaml"])
def test_an_overlay_holds_only_keys_that_differ(name):
    def same_leaves(base, over, path=()):
        for key, value in over.items():
            if isinstance(value, dict):
                yield from same_leaves(base.get(key, {}) if isinstance(base, dict) else {}, value, (*path, key))
            elif isinstance(base, dict) and key in base and base[key] == value:
                yield ".".join((*path, key))

    assert list(same_leaves(read(), read(name))) == []


def test_the_tutorial_overlay_has_what_the_tutorial_uses():
    config = load_config(merged(read("tutorial.yaml")), SCHEMA)
    mix = resolve_experiment(config, "finetune_from_nemo_multidataset", SCHEMA)
    assert [(entry["corpus"], entry["weight"]) for entry in mix["train"]] == [("mini_librispeech", 0.8), ("yesno", 0.2)]
    assert [(entry["corpus"], entry["split"]) for entry in mix["validation"]] == [
        ("mini_librispeech", "dev"),
        ("yesno", "test"),
    ]
    assert mix["train_ds"]["batch_duration"] == 300
    assert mix["train_ds"]["num_buckets"] == 30
    assert mix["train_ds"]["quadratic_duration"] == 15
    assert mix["train_ds"]["batch_size"] is None
    assert mix["train_ds"]["perturb_speed"] is False
    assert mix["validation_ds"]["batch_size"] is None
    assert mix["trainer"]["max_steps"] == 100
    assert mix["trainer"]["val_check_interval"] == 50
    assert mix["trainer"]["limit_train_batches"] == 50
    assert config["corpora"]["mini_librispeech"]["num_shards"] == 32
    assert config["corpora"]["yesno"]["num_shards"] == 1
    assert config["models"][mix["model"]]["pretrained"] == "nvidia/stt_en_conformer_ctc_small"
    cutset = resolve_experiment(config, "finetune_from_cutset", SCHEMA)
    assert cutset["trainer"]["limit_train_batches"] is None
    assert cutset["optim"]["sched"]["warmup_steps"] == 10


CORPUS = read()["corpora"]["quickstart"]
NO_SPLITS = {key: value for key, value in read()["corpora"]["quickstart_yesno"].items() if key != "splits"}
EXPERIMENT = "experiments.finetune_from_cutset"

MINE = {"table": "t.csv", "splits": {"train": "train"}, "language": "en", "text": []}

MISTAKES = {
    "unknown key": ("corpora.quickstart.recipt", "librispeech", "`corpora.quickstart.recipt` is not a key that exists; did you mean `recipe`"),
    "unknown top-level key": ("experimnts", {}, "`experimnts` is not a key that exists; did you mean `experiments`"),
    "min_lr above lr": ("defaults.optim.lr", 5.0e-6, "`defaults.optim.sched.min_lr` is 1e-05, above `optim.lr`, 5e-06"),
    "text for a whole number": ("defaults.train_ds.num_buckets", "4", "has fewer distinct durations); write it as 4"),
    "float for a whole number": ("defaults.train_ds.num_buckets", 4.0, "has fewer distinct durations); write it as 4"),
    "unknown trainer key": ("defaults.trainer.train_limit_batches", 50, "did you mean `limit_train_batches`"),
    "wrong type": ("defaults.trainer.max_steps", "many", "`defaults.trainer.max_steps` is 'many', expected a whole number"),
    "YAML reads 1e-4 as text": ("defaults.optim.lr", "1e-4", "YAML wants 1.0e-04"),
    "a key that is no text": ("corpora.quickstart.recipe_options", {7: "x"}, "`corpora.quickstart.recipe_options` has the key 7, which is not text: write it in quotes"),
    "a number that is none": ("defaults.optim.lr", float("nan"), "`defaults.optim.lr` is nan: give a number"),
    "a limit without end": ("defaults.train_ds.max_duration", float("inf"), "`defaults.train_ds.max_duration` is inf: give a number, or null"),
    "a value in place of a block": ("corpora.quickstart", 7, "`corpora.quickstart` is 7, expected a block of keys"),
    "below its bound": ("defaults.trainer.max_steps", 0, "is 0, expected at least 1"),
    "not among the choices": (f"{EXPERIMENT}.layout", "tared", "is 'tared', expected one of cutset, nemo_json, tarred"),
    "missing key": ("corpora.quickstart.text", None, "`corpora.quickstart` lacks `text`"),
    "bad name": ("mirrors.my mirror", ["x"], "'my mirror' in `mirrors` cannot be a name"),
    "archives and folder": ("corpora.quickstart.folder", "/data", "has `archives` and `folder` of `archives`, `folder`: give exactly one"),
    "neither archives nor folder": ("corpora.quickstart.archives", None, "`corpora.quickstart` has none of `archives`, `folder`"),
    "base model given in two ways": ("models.quickstart_base.pretrained", "nvidia/x", "`models.quickstart_base` has `pretrained` and `url`"),
    "bad checksum": ("corpora.quickstart.archives.train-clean-5.tar.gz.sha256", "abc", "is 'abc', expected text of the form"),
    "no source": ("corpora.quickstart.recipe", None, "`corpora.quickstart` has none of `recipe`, `table`, `audio_folder`, `nemo_manifest`, `kaldi`, `lhotse`, `shar`, `huggingface`, `nemo_shards`: give exactly one"),
    "two sources": ("corpora.mine.kaldi", "data/train", "`corpora.mine` has `table` and `kaldi` of `recipe`, `table`"),
    "table in two places": ("corpora.mine", {**MINE, "folder": "/data", "archives": {"a.tar": {"url": "a.tar"}}}, "`corpora.mine` has `archives` and `folder`: give one of them, in which `table` lies"),
    "table outside of the archives": ("corpora.mine", {**MINE, "table": "../t.csv", "archives": {"a.tar": {"url": "a.tar"}}}, "`corpora.mine.table` is '../t.csv': it must lie inside the unpacked archives"),
    "a table without a file": ("corpora.mine.table", {"root": "clips"}, "`corpora.mine.table` lacks `file`"),
    "unknown column": ("corpora.mine.table", {"file": "t.csv", "columns": {"speker": "s"}}, "`corpora.mine.table.columns.speker` is not a key that exists; did you mean `speaker`"),
    "files and a column for the parts": ("corpora.mine.table", {"file": {"train": "t.csv"}, "columns": {"split": "set"}}, "`corpora.mine.table` has a file for each part and a column `split`: give one of the two"),
    "unknown part": ("corpora.mine", {**{key: value for key, value in MINE.items() if key != "table"}, "nemo_manifest": {"training": "t.json"}}, "`corpora.mine.splits.train` is 'train', which `corpora.mine.nemo_manifest` lacks; did you mean `training`"),
    "options of a recipe": ("corpora.mine.recipe_options", {"x": 1}, "`corpora.mine.recipe_options` belongs to a `recipe`, and this corpus has a `table`: remove it"),
    "unknown policy": ("corpora.mine.channels", "left", "`corpora.mine.channels` is 'left', which has none of the forms that are allowed here"),
    "channels that nobody names": ("corpora.mine", {**{key: value for key, value in MINE.items() if key != "table"}, "audio_folder": {"folder": {"train": "t"}}, "channels": "split"}, "`corpora.mine.channels` is split, but `audio_folder` cannot say on which channel somebody speaks: take mix or the number of one"),
    "a rate in kHz": ("corpora.mine.sampling_rate", 16, "`corpora.mine.sampling_rate` is 16, expected at least 4000"),
    "shell command as source": ("corpora.mine.table", "pipe:cat t.csv", "`corpora.mine.table` holds `pipe:`, which NeMo would run as a shell command"),
    "bad audio in shards": ("corpora.shards.on_bad_audio", "exclude", "`corpora.shards.on_bad_audio` cannot leave anything out of `nemo_shards`"),
    "splits of shards": ("corpora.shards.split_by", {"shares": {"most": 0.9, "dev": 0.1}, "parts": ["rest"]}, "`corpora.shards.split_by` cannot divide `nemo_shards`, which are used as they are: remove it"),
    "filters of shards": ("corpora.shards.filters", {"max_duration": 20}, "`corpora.shards.filters` cannot leave anything out of `nemo_shards`, which are used as they are: remove them"),
    "archives of shards": ("corpora.shards.archives", {"a.tar": {"url": "https://example.org/a.tar", "sha256": "0" * 64}}, "`corpora.shards` has `archives`, but `nemo_shards` must be there already: unpack them, and name their `folder`"),
    "text profile of shards": ("corpora.shards.text", ["lower"], "`corpora.shards.text` is ['lower'], but the transcripts of `nemo_shards` are used as they are: set it to []"),
    "rate of shards": ("corpora.shards.sampling_rate", 16000, "`corpora.shards.sampling_rate` is 16000, but the audio of `nemo_shards` is used as it is"),
    "shards in another layout": (f"{EXPERIMENT}.train", [{"corpus": "shards"}], f"`{EXPERIMENT}.train[0]` names shards/train, whose audio lies in `nemo_shards`: they can only be trained on, with the layout tarred"),
    "shards to validate on": ("experiments.finetune_from_nemo_tarred.validation", [{"corpus": "shards", "split": "train"}], "`experiments.finetune_from_nemo_tarred.validation[0]` names shards/train, whose audio lies in `nemo_shards`"),
    "unknown recipe": ("corpora.quickstart.recipe", "libri_speech", "Lhotse has no recipe 'libri_speech'; did you mean `librispeech`"),
    "unknown mirror": ("corpora.quickstart.archives.train-clean-5.tar.gz.url", "quikstart:31/a.tar.gz", "begins with `quikstart:`, which is neither http(s):// nor file:// nor a name under `mirrors`; did you mean `quickstart`"),
    "unknown text step": ("corpora.quickstart.text", ["lowercase"], "which has none of the forms that are allowed here"),
    "numbers of an unknown language": ("corpora.quickstart", CORPUS | {"language": "tlh", "text": ["numbers"]}, "`corpora.quickstart.text[0]` is numbers, but num2words cannot spell numbers in `corpora.quickstart.language`, tlh"),
    "no regular expression in a step": ("corpora.quickstart.text", ["lower", {"regex": {"(": ""}}], "`corpora.quickstart.text[1].regex` is no regular expression"),
    "alphabet that runs backwards": ("corpora.quickstart.text", [{"keep": "z-a"}], "`corpora.quickstart.text[0].keep`: the range z-a runs backwards"),
    "two keys in a step": ("corpora.quickstart.text", [{"keep": "a", "replace": {"b": "c"}}], "which has none of the forms that are allowed here"),
    "no splits": ("corpora.mine", NO_SPLITS, "`corpora.mine` has neither `splits` nor `split_by`"),
    "shares that do not add up": ("corpora.quickstart.split_by", {"shares": {"a": 0.5, "b": 0.4}}, "`corpora.quickstart.split_by.shares` add up to 0.9, not to 1: a 0.5, b 0.4"),
    "a split twice": ("corpora.quickstart.split_by", {"shares": {"dev": 1.0}}, "`corpora.quickstart.splits.dev` and `corpora.quickstart.split_by.shares.dev` have one name"),
    "a part twice": ("corpora.quickstart.split_by", {"shares": {"a": 1.0}, "parts": ["dev-clean-2"]}, "`corpora.quickstart.splits.dev` is the part 'dev-clean-2', which `corpora.quickstart.split_by.parts` divides again"),
    "a share of nothing": ("corpora.quickstart.split_by", {"shares": {"a": 1, "b": 0}}, "`corpora.quickstart.split_by.shares.b` is 0, expected more than 0"),
    "unknown unit": ("corpora.quickstart.split_by", {"shares": {"a": 1}, "unit": "sex"}, "`corpora.quickstart.split_by.unit` is 'sex', expected one of speaker"),
    "filter that leaves nothing": ("corpora.quickstart.filters", {"min_words": 3, "max_words": 2}, "`corpora.quickstart.filters.min_words` is 3, above max_words, 2"),
    "no such group in a step": ("corpora.quickstart.text", [{"regex": {"(a)": r"\g<b>"}}], "`corpora.quickstart.text[0].regex` is no regular expression: unknown group name 'b'"),
    "too many repetitions in a step": ("corpora.quickstart.text", [{"regex": {"a{99999999999}": ""}}], "`corpora.quickstart.text[0].regex` is no regular expression: the repetition number is too large"),
    "too many repetitions in a filter": ("corpora.quickstart.filters", {"drop_text": "a{99999999999}"}, "`corpora.quickstart.filters.drop_text` is no regular expression: the repetition number is too large"),
    "no regular expression in a filter": ("corpora.quickstart.filters", {"keep_text": "["}, "`corpora.quickstart.filters.keep_text` is no regular expression"),
    "filter of an unknown split": ("corpora.quickstart.filters", {"splits": ["devel"]}, "`corpora.quickstart.filters.splits` names 'devel', which is no split of the corpus: it has train, dev, test"),
    "unknown filter": ("corpora.quickstart.filters", {"max_durations": 2}, "`corpora.quickstart.filters.max_durations` is not a key that exists; did you mean `max_duration`"),
    "recipe root outside": ("corpora.quickstart.recipe_root", "../x", "must lie inside the corpus folder"),
    "unknown corpus": (f"{EXPERIMENT}.train", [{"corpus": "quikstart"}], f"`{EXPERIMENT}.train[0]` names the corpus 'quikstart', which `corpora` lacks; did you mean `quickstart`"),
    "unknown split": (f"{EXPERIMENT}.validation", [{"corpus": "quickstart", "split": "devel"}], "names the split 'devel', which `corpora.quickstart.splits` lacks; did you mean `dev`"),
    "same data twice": (f"{EXPERIMENT}.train", [{"corpus": "quickstart"}, {"corpus": "quickstart"}], "names quickstart/train for the second time"),
    "unknown model": ("defaults.model", "tiny", "`defaults.model` is 'tiny', which `models` lacks"),
    "weight of 0": (f"{EXPERIMENT}.train", [{"corpus": "quickstart", "weight": 0}, {"corpus": "quickstart_yesno", "weight": 1}], "weight` is 0: a weight must be above 0"),
    "some weights missing": (f"{EXPERIMENT}.train", [{"corpus": "quickstart", "weight": 1}, {"corpus": "quickstart_yesno"}], "gives a weight to some corpora and not to others"),
    "warm-up as long as the run": ("defaults.optim.sched.warmup_steps", 200, "`defaults.optim.sched.warmup_steps` is 200, but `trainer.max_steps` is 200"),
    "never validates": (f"{EXPERIMENT}.trainer", {"max_steps": 20}, "`defaults.trainer.val_check_interval` is 50 batches, more than the whole run of 20 steps"),
    "nothing between the durations": ("defaults.train_ds", {"min_duration": 5, "max_duration": 4}, "min_duration` is 5 s, not below max_duration, 4 s"),
    "batch below the longest cut": ("defaults.train_ds", {"batch_duration": 50, "max_duration": 60}, "batch_duration` is 50 s, below max_duration, 60 s"),
    "shards for several devices without a process that reads": ("experiments.finetune_from_nemo_tarred.trainer", {"devices": 2}, "`defaults.train_ds.num_workers` is 0, but `trainer.devices` is 2"),
    "shards for several nodes without a process that reads": ("experiments.finetune_from_nemo_tarred.trainer", {"num_nodes": 2}, "`defaults.train_ds.num_workers` is 0, but `trainer.num_nodes` is 2"),
    "shell command for NeMo": ("corpora.quickstart.archives.train-clean-5.tar.gz.url", "pipe:cat x", "holds `pipe:`, which NeMo would run as a shell command"),
    "shell command in an override": (f"{EXPERIMENT}.overrides", ["model.train_ds.noise_path=pipe:cat x"], "holds `pipe:`"),
    "override of a key": (f"{EXPERIMENT}.overrides", ["trainer.max_steps=5"], "sets `trainer.max_steps`, which has a key of its own"),
    "override of what is ours": (f"{EXPERIMENT}.overrides", ["trainer.logger.name=x"], "sets `trainer.logger`, which Nuptse sets itself: remove it"),
    "override of what is ours, a flag": (f"{EXPERIMENT}.overrides", ["trainer.enable_progress_bar=true"], "sets `trainer.enable_progress_bar`, which Nuptse"),
    "override unknown to the trainer": (f"{EXPERIMENT}.overrides", ["trainer.gradient_clip=1"], "sets `trainer.gradient_clip`, which Lightning's Trainer does not know; did you mean `gradient_clip_val`?"),
    "override of a key that has a default": (f"{EXPERIMENT}.overrides", ["model.optim.betas=[0.9,0.99]"], "sets `model.optim.betas`, which has a key of its own"),
    "override of all keys of a section": (f"{EXPERIMENT}.overrides", ["model.optim.sched={}"], "sets `model.optim.sched.name`, which has a key of its own"),
    "override of what follows from the data": (f"{EXPERIMENT}.overrides", ["model.train_ds.manifest_filepath=x.json"], "sets `model.train_ds.manifest_filepath`, which Nuptse sets itself"),
    "override of what resuming needs": (f"{EXPERIMENT}.overrides", ["model.train_ds.shard_seed=trng"], "sets `model.train_ds.shard_seed`, which Nuptse sets itself"),
    "override of SpecAugment": (f"{EXPERIMENT}.overrides", ["model.spec_augment.freq_masks=0"], "sets `model.spec_augment`, which has a key of its own"),
    "override unknown to the loader": (f"{EXPERIMENT}.overrides", ["model.train_ds.drop_lst=true"], "sets `model.train_ds.drop_lst`, which NeMo's loader does not know; did you mean `drop_last`?"),
    "override of the model": (f"{EXPERIMENT}.overrides", ["model.encoder.dropout=0.2"], "sets `model.encoder.dropout`, which no fine-tune reads"),
    "override of nothing": (f"{EXPERIMENT}.overrides", ["max_steps=5"], "expected text of the form"),
    "remote model without checksum": ("models.mine", {"url": "https://example.org/a.nemo"}, "`models.mine` is downloaded but has no `sha256`"),
    "heads that do not divide": ("models.untrained.from_scratch.n_heads", 5, "make it a multiple of `n_heads`"),
    "even convolution": ("models.untrained.from_scratch.conv_kernel_size", 8, "it must be odd"),
    "made of an unknown model": ("models.adapted.from_model.model", "quickstart_bas", "which `models` lacks; did you mean `quickstart_base`?"),
    "made of one that is made": ("models.adapted.from_model.model", "adapted", "which is made of another model itself: name that one"),
    "tokenizer of an unknown corpus": ("models.adapted.from_model.tokenizer.train", [{"corpus": "nowhere"}], "names the corpus 'nowhere', which `corpora` lacks"),
    "tokenizer by weights": ("models.adapted.from_model.tokenizer.train", [{"corpus": "quickstart", "weight": 2}], "`models.adapted.from_model.tokenizer.train[0]` has a `weight`, but a tokenizer reads each transcript once: remove it"),
    "checksum of what is made": ("models.adapted.sha256", "0" * 64, "belongs to a file, not to a model that is made `from_model`: remove it"),
}  # fmt: skip


@pytest.mark.parametrize(("dotted", "value", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_its_remedy(dotted, value, sentence):
    config = read()
    config["corpora"]["mine"] = copy.deepcopy(MINE)
    config["corpora"]["shards"] = {"nemo_shards": {"train": "s"}, "splits": {"train": "train"}, "language": "en", "text": []}  # fmt: skip
    config["models"]["untrained"] = {
        "from_scratch": {"tokenizer": {"train": [{"corpus": "quickstart"}]}, "n_heads": 4, "conv_kernel_size": 9}
    }
    config["models"]["adapted"] = {
        "from_model": {"model": "quickstart_base", "tokenizer": {"train": [{"corpus": "quickstart"}]}}
    }
    *path, last = _split(dotted)
    node = config
    for part in path:
        node = node[part]
    if value is None:
        node.pop(last)
    else:
        node[last] = value
    with pytest.raises(UserError) as caught:
        load_config(config, SCHEMA)
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2, "one mistake, one sentence"


def _split(dotted):
    """Split at dots, but keep the file name of an archive whole."""
    parts = dotted.replace("train-clean-5.tar.gz", "train-clean-5\0tar\0gz").split(".")
    return [part.replace("\0", ".") for part in parts]


def test_splits_that_would_share_files_are_refused():
    config = read()
    config["corpora"]["quickstart_dev"] = copy.deepcopy(config["corpora"]["quickstart"]) | {"splits": {"x": "x"}}
    config["corpora"]["quickstart"]["splits"]["dev_x"] = "dev-clean-2"
    with pytest.raises(UserError, match="would share the files of quickstart_dev_x: rename one"):
        load_config(config, SCHEMA)


def test_null_removes_a_block():
    config = merged({"experiments": {"finetune_from_cutset": None}, "corpora": {"unknown": None}})
    assert list(load_config(config, SCHEMA)["experiments"]) == list(read()["experiments"])[1:]


def test_all_mistakes_are_told_at_once():
    config = read()
    config["defaults"]["model"] = "none"
    config["defaults"]["optim"]["sched"]["warmup_steps"] = 500
    with pytest.raises(UserError) as caught:
        load_config(config, SCHEMA)
    assert len(str(caught.value).splitlines()) == 3


def test_defaults_fill_what_is_absent():
    config = load_config(read(), SCHEMA)
    assert config["corpora"]["quickstart_yesno"]["recipe_options"] == {}
    settings = resolve_experiment(config, "finetune_from_cutset", SCHEMA)
    assert settings["train_ds"]["max_duration"] is None
    assert settings["overrides"] == []
    assert settings["train"] == [{"corpus": "quickstart", "split": "train"}]


def test_an_experiment_overrides_single_keys_of_the_defaults():
    config = read()
    config["experiments"]["finetune_from_cutset"]["optim"] = {"lr": 0.5}
    settings = resolve_experiment(load_config(config, SCHEMA), "finetune_from_cutset", SCHEMA)
    assert settings["optim"]["lr"] == 0.5
    assert settings["optim"]["weight_decay"] == 0.001


def test_the_configuration_handed_in_is_not_changed():
    config = read()
    before = copy.deepcopy(config)
    load_config(config, SCHEMA)
    assert config == before


def test_urls_are_spelt_out_for_every_mirror():
    mirrors = {"openslr": ["https://a.org/r/", "local"]}
    assert resolve_urls("openslr:31/x.tgz", mirrors) == ["https://a.org/r/31/x.tgz", "local/31/x.tgz"]
    assert resolve_urls(["https://b.org/x", "openslr:x"], mirrors) == [
        "https://b.org/x",
        "https://a.org/r/x",
        "local/x",
    ]


def test_recipes_are_known_without_importing_lhotse():
    recipes = known_recipes()
    assert {"librispeech", "yesno", "commonvoice", "tedlium"} <= set(recipes)


def test_every_property_of_the_schema_is_described():
    def undescribed(node, path):
        for key, child in node.get("properties", {}).items():
            reference = child.get("$ref") or next((part["$ref"] for part in child.get("allOf", [])), "")
            target = SCHEMA["$defs"].get(reference.removeprefix("#/$defs/"), {})
            if not (child.get("description") or target.get("description") or "properties" in child):
                yield f"{path}.{key}"
            yield from undescribed(child, f"{path}.{key}")
        for branch in ("items", "additionalProperties"):
            if isinstance(node.get(branch), dict):
                yield from undescribed(node[branch], path)

    found = list(undescribed(SCHEMA, ""))
    for name, node in SCHEMA["$defs"].items():
        found += undescribed(node, name)
    assert found == [], "properties without a description"
