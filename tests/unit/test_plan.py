"""What the rules ask the configuration does not depend on the order in which files were merged."""

import json
import os
from pathlib import Path

import pytest
import yaml

from nuptse.audio_sources import OTHER_SUFFIXES, READABLE_SUFFIXES
from nuptse.errors import UserError
from nuptse.folder_state import folder_state
from nuptse.import_ledger import Account, write_account
from nuptse.plan import Plan
from nuptse.plan_base import any_of
from nuptse.ranks import visible_gpus

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())


def config():
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def reverse(tree):
    return {key: reverse(value) for key, value in reversed(tree.items())} if isinstance(tree, dict) else tree


def test_audio_must_exist(tmp_path):
    with pytest.raises(UserError, match=r"`audio` is '.*none', which does not exist"):
        Plan(config() | {"audio": str(tmp_path / "none")}, SCHEMA, ROOT)
    with pytest.raises(UserError, match="`audio` is 7, expected text or null"):
        Plan(config() | {"audio": 7}, SCHEMA, ROOT)


def test_transcripts_want_audio(tmp_path):
    with pytest.raises(UserError, match=r"transcripts need the key `audio`"):
        Plan(config(), SCHEMA, ROOT).audio_source()
    plan = Plan(config() | {"audio": str(tmp_path)}, SCHEMA, ROOT)
    before = plan.audio_changes()
    (tmp_path / "a.wav").write_bytes(b"audio")
    assert plan.audio_source() == str(tmp_path) and plan.audio_changes() != before
    before = plan.audio_changes()
    (tmp_path / "a.wav").write_bytes(b"other")
    assert plan.audio_changes() == before, "audio counts by its size"


@pytest.mark.parametrize("suffix", sorted(READABLE_SUFFIXES | OTHER_SUFFIXES))
def test_no_audio_to_transcribe_is_read_for_its_changes(tmp_path, monkeypatch, suffix):
    (tmp_path / f"a{suffix.upper()}").write_bytes(b"audio")
    plan = Plan(config() | {"audio": str(tmp_path)}, SCHEMA, ROOT)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a file was read"))
    assert plan.audio_changes()


def test_a_card_names_the_datasets_of_the_hub(tmp_path, monkeypatch):
    corpus = {"splits": {"train": "train", "dev": "dev"}, "language": "en", "text": []}
    entries = [{"corpus": "own", "split": "train"}], [{"corpus": "own", "split": "dev"}]
    experiment = {"layout": "cutset", "train": entries[0], "validation": entries[1], "test": []}

    def datasets(dataset, **more):
        own = corpus | {"huggingface": dataset} | more
        content = config() | {"experiments": {"mine": experiment}}
        content["corpora"] |= {"own": own}
        return json.loads(Plan(content, SCHEMA, ROOT).card_facts("mine"))["datasets"]

    monkeypatch.chdir(tmp_path)
    assert datasets("someone/corpus") == ["someone/corpus"]
    assert datasets({"dataset": "corpus", "config": "en"}) == ["corpus"]
    assert datasets("/data/mine/saved") == []
    (tmp_path / "base/someone/corpus").mkdir(parents=True)
    assert datasets("someone/corpus", folder="base") == [], "it is read from there"


def test_the_order_of_keys_changes_no_param():
    plans = Plan(config(), SCHEMA, ROOT), Plan(reverse(config()), SCHEMA, ROOT)
    for plan in plans:
        assert plan.evaluation_names("quickstart_base") == [
            "quickstart_dev",
            "quickstart_test",
            "quickstart_yesno_test",
        ]
    for question in ("all_scores", "comparison_arguments", "of_each_experiment", "ledgers", "page_settings"):
        arguments = ["train.json"] if question == "of_each_experiment" else []
        first, second = (getattr(plan, question)(*arguments) for plan in plans)
        assert first == second
    for experiment in plans[0].experiments:
        for question in ("overrides", "bin_arguments", "evaluation_names", "training_data", "validation_data"):
            first, second = (getattr(plan, question)(experiment) for plan in plans)
            assert first == second
    for corpus in plans[0].corpora:
        first, second = (plan.source_arguments(corpus) for plan in plans)
        assert first == second


def test_a_split_is_told_only_what_it_is_made_of():
    changed = config()
    changed["corpora"]["quickstart"] |= {
        "split_by": {"shares": {"b": 0.25, "a": 0.75}, "parts": ["more", "most"]},
        "filters": {"splits": ["train", "a"], "max_words": 9},
    }
    for plan in (Plan(changed, SCHEMA, ROOT), Plan(reverse(changed), SCHEMA, ROOT)):
        text = ["--language=en", '--text=["lower"]']
        assert plan.selection_arguments("quickstart", "dev") == ["--part=dev-clean-2", *text]
        filters = '--filters={"max_words": 9}'
        assert plan.selection_arguments("quickstart", "train") == ["--part=train-clean-5", *text, filters]
        shares = '--split-by={"key": "1", "shares": {"a": 0.75, "b": 0.25}, "unit": "speaker"}'
        assert plan.selection_arguments("quickstart", "b") == ["--part=more", "--part=most", *text, shares]
        assert plan.selection_arguments("quickstart", "a") == ["--part=more", "--part=most", *text, shares, filters]
        assert plan.text_arguments("quickstart", "a") == plan.selection_arguments("quickstart", "b")


def test_layouts_of_the_same_data_are_compared_with_each_other():
    *_, flag, group = Plan(config(), SCHEMA, ROOT).comparison_arguments()
    assert flag == "--same-data"
    assert group == "finetune_from_cutset,finetune_from_nemo_json,finetune_from_nemo_tarred"


@pytest.mark.parametrize(("num_shards", "per_job"), [(1, 4), (32, 4), (400, 4), (401, 5), (100_000, 1000)])
def test_shards_are_at_most_a_hundred_jobs(num_shards, per_job):
    changed = config()
    changed["corpora"]["quickstart"]["num_shards"] = num_shards
    plan = Plan(changed, SCHEMA, ROOT)
    assert plan.shards_per_job("quickstart") == per_job
    assert len(plan.group_ledgers("quickstart", "train")) == -(-num_shards // per_job) <= 100


def test_only_limits_that_make_errors_change_the_data():
    changed = config()
    changed["corpora"]["quickstart"]["on_bad_audio"] = "exclude"

    def arguments(corpus, **limits):
        return Plan(changed | {"doctor": {"audio": limits}}, SCHEMA, ROOT).quarantine_arguments(corpus, "train")

    before = arguments("quickstart")
    assert before[0] == "--rejected=data/recipes/quickstart/train-clean-5_rejected.jsonl.gz"
    assert before[1] == "--audio=data/manifests/quickstart_audio_train.jsonl.gz"
    assert before == arguments("quickstart", clipped=0.5, bandwidth=None, silence=0.5)
    assert before != arguments("quickstart", duration_s=0.2) and before != arguments("quickstart", silence=None)
    assert len(arguments("quickstart_yesno")) == 1


def test_what_the_import_left_out_counts_once():
    changed = config()
    changed["corpora"]["quickstart"]["split_by"] = {"shares": {"a": 0.1, "b": 0.7, "c": 0.2}, "parts": ["x", "y"]}
    plan = Plan(changed, SCHEMA, ROOT)
    counted = {split: plan.quarantine_arguments("quickstart", split) for split in "abc"}
    assert counted == {"a": [], "b": [f"--rejected=data/recipes/quickstart/{part}_rejected.jsonl.gz" for part in "xy"], "c": []}  # fmt: skip


@pytest.mark.parametrize(("num_shards", "groups"), [(1, 0), (63, 0), (64, 2), (1024, 32), (100_000, 100)])
def test_few_jobs_share_the_check_of_audio(num_shards, groups):
    changed = config()
    changed["corpora"]["quickstart"]["num_shards"] = num_shards
    assert len(Plan(changed, SCHEMA, ROOT).audio_groups("quickstart", "train")) == groups


def test_a_missing_corpus_folder_is_refused():
    changed = config()
    changed["corpora"]["mine"] = {"recipe": "yesno", "folder": "/no/where", "splits": {"train": "train"}, "language": "he", "text": []}  # fmt: skip
    Plan(changed, SCHEMA, ROOT)  # no experiment uses it: it may be on another machine
    changed["experiments"]["finetune_from_nemo_tarred"]["train"] = [{"corpus": "mine"}]
    with pytest.raises(UserError, match="`corpora.mine.folder` is '/no/where', which is no folder"):
        Plan(changed, SCHEMA, ROOT)


def test_a_missing_model_file_is_refused():
    changed = config()
    changed["mirrors"]["quickstart"] = ["nowhere"]  # mirrors are asked when something is fetched from them
    changed["models"]["mine"] = {"url": "models/none.nemo"}
    Plan(changed, SCHEMA, ROOT)
    changed["experiments"]["finetune_from_nemo_tarred"]["model"] = "mine"
    with pytest.raises(UserError, match=r"`models.mine.url` is '.*models/none.nemo', which is no file"):
        Plan(changed, SCHEMA, ROOT)


def using(tmp_path, block):
    """A plan whose first experiment trains on a corpus of this source, below ``tmp_path``."""
    changed = config()
    common = {"folder": str(tmp_path), "splits": {"train": "train"}, "language": "en", "text": []}
    changed["corpora"]["mine"] = common | block
    changed["experiments"]["finetune_from_nemo_tarred"]["train"] = [{"corpus": "mine"}]
    return Plan(changed, SCHEMA, ROOT)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"table": "t.csv"}, r"`corpora.mine.table` is '.*/t.csv', which is no file: give one that exists"),
        ({"kaldi": {"train": "k"}}, r"`corpora.mine.kaldi` is '.*/k', which is no folder"),
        ({"lhotse": {"train": {"recordings": "r", "supervisions": "s"}}}, r"`corpora.mine.lhotse` is '.*/r', which is no file"),
    ],
)  # fmt: skip
def test_a_missing_source_is_refused_where_it_is_used(tmp_path, block, message):
    with pytest.raises(UserError, match=message):
        using(tmp_path, block)


def test_tables_and_manifests_are_inputs_and_folders_are_watched(tmp_path):
    (tmp_path / "t.csv").touch()
    plan = using(tmp_path, {"table": "t.csv"})
    assert plan.corpus_inputs("mine") == {"files": [f"{tmp_path}/t.csv"]}
    assert f"--corpus-dir={tmp_path}" in plan.source_arguments("mine")
    assert (plan.corpus_changes("mine"), plan.audio_losses("mine")) == ("", "[]")
    for kind, block in (("audio_folder", {"folder": {"train": "audio_folder"}}), ("shar", {"train": "shar"})):
        (tmp_path / kind).mkdir()
        plan = using(tmp_path, {kind: block})
        before = plan.corpus_changes("mine")
        (tmp_path / kind / "a.tar").write_bytes(b"x")
        assert plan.corpus_inputs("mine") == {} and plan.corpus_changes("mine") != before
    plan = using(tmp_path, {"huggingface": "name/on-the-hub"})
    assert plan.corpus_inputs("mine") == {} and plan.corpus_changes("mine") == ""


def test_folders_that_a_recipe_is_given_besides_are_watched(tmp_path):
    for name in ("audio", "texts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("hello")
    alone = {"recipe": "gale_arabic", "folder": str(tmp_path / "audio")}
    before = using(tmp_path, alone).corpus_changes("mine")
    assert before == folder_state(tmp_path / "audio")
    options = {"transcript_dirs": [f"{tmp_path}/texts", f"{tmp_path}/gone"], "output_dir": str(tmp_path)}
    both = using(tmp_path, alone | {"recipe_options": options})
    assert both.corpus_changes("mine") == f"{before} {folder_state(tmp_path / 'texts')}"
    (tmp_path / "texts" / "a.txt").write_text("hallo")
    assert both.corpus_changes("mine") == f"{before} {folder_state(tmp_path / 'texts')}"


def test_a_file_that_a_recipe_is_given_besides_is_watched(tmp_path):
    (tmp_path / "audio").mkdir()
    listed = tmp_path / "list.tsv"
    options = {"lists": {"train": str(listed)}, "words": "/not/there.txt"}
    plan = using(tmp_path, {"recipe": "gale_arabic", "folder": str(tmp_path / "audio"), "recipe_options": options})
    states = [plan.corpus_changes("mine")]
    for text in ("hello", "hallo"):
        listed.write_text(text)
        states.append(plan.corpus_changes("mine"))
    os.utime(listed, (1, 1))
    assert plan.corpus_changes("mine") == states[-1], "by its contents"
    listed.unlink()
    assert plan.corpus_changes("mine") == states[0]
    assert len(set(states)) == 3


def test_audio_that_a_dataset_names_is_watched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"audio")
    folder = tmp_path / "data" / "recipes" / "mine"
    folder.mkdir(parents=True)
    write_account(Account("mine", "huggingface"), [("a.wav", 5)], folder)
    plan = using(tmp_path, {"huggingface": "name/on-the-hub"})
    assert plan.audio_losses("mine") == "[]"
    (tmp_path / "a.wav").unlink()
    assert "1: 1 audio files" in plan.audio_losses("mine")


def test_shards_that_are_there_are_trained_on_where_they_lie(tmp_path):
    patterns = {"manifests": "m_manifest_{0..1}.json", "tars": "audio_{0..1}.tar"}
    plan = using(tmp_path, {"nemo_shards": {"train": patterns}})
    assert f"model.train_ds.tarred_audio_filepaths={tmp_path}/audio__OP_0..1_CL_.tar" in [
        option.replace('"', "") for option in plan.overrides("finetune_from_nemo_tarred")
    ]
    assert plan.shard_manifests("mine", "train") == [f"{tmp_path}/m_manifest_{i}.json" for i in (0, 1)]
    assert "data/manifests/mine_nemo_train.json" not in plan.all_manifests()
    assert "results/text_samples/mine_train.json" not in plan.all_text_samples()
    assert plan.training_data("finetune_from_nemo_tarred") == ["data/shards/mine_train/ledger.json"]
    assert "index_nemo_shards" in json.loads(plan.page_settings())["steps"]


def test_a_pinned_file_is_the_same_wherever_it_comes_from():
    changed = config()
    changed["mirrors"]["quickstart"] = ["https://example.org"]
    first, second = Plan(config(), SCHEMA, ROOT), Plan(changed, SCHEMA, ROOT)
    archive = ("quickstart", "dev-clean-2.tar.gz")
    assert first.archive_urls(*archive) != second.archive_urls(*archive)
    assert first.archive_identity(*archive) == second.archive_identity(*archive)


def test_a_training_that_is_tried_again_stays_within_a_node():
    changed = config()
    changed["experiments"]["finetune_from_cutset"]["trainer"] = {"devices": 4}
    plan = Plan(changed, SCHEMA, ROOT)
    four = [plan.node_memory("finetune_from_cutset", 16000, attempt) for attempt in (1, 2, 3, 4)]
    assert four == [64000, 96000, 128000, 160000]
    assert plan.node_memory("finetune_from_nemo_json", 16000, 2) == 24000


def test_names_are_matched_literally():
    assert any_of(["a.b", "c"]) == r"a\.b|c"
    assert any_of([]) == "(?!)"


def test_the_page_is_told_of_what_is_used_and_of_no_secret():
    changed = config()
    changed["corpora"]["mine"] = {
        "recipe": "yesno",
        "folder": ".",
        "splits": {"train": "train"},
        "language": "he",
        "text": [],
    }
    archive = changed["corpora"]["quickstart"]["archives"]["dev-clean-2.tar.gz"]
    archive["url"] = "https://me:secret@example.org/a.tar.gz?token=secret"
    changed["decoding"] = {"strategy": "beam"}
    text = Plan(changed, SCHEMA, ROOT).page_settings()
    assert json.loads(text)["decoding"] == {"strategy": "beam"}
    assert "secret" not in text and "example.org" in text
    assert set(json.loads(text)["corpora"]) == {"quickstart", "quickstart_yesno"}


def test_the_page_is_told_the_rules_of_this_configuration():
    changed = config()
    for experiment in changed["experiments"].values():
        experiment["layout"] = "cutset"
    steps = json.loads(Plan(changed, SCHEMA, ROOT).page_settings())["steps"]
    assert steps == [
        *(
            "download_archive",
            "extract_archives",
            "prepare_manifests",
            "select_utterances",
            "check_audio",
            "build_cutset",
            "download_model",
        ),
        *("count_durations", "estimate_duration_bins", "examine_experiment", "finetune_model"),
        *("transcribe", "score_wer", "summarize_wer"),
    ]


def test_the_page_is_told_of_the_groups_of_an_audio_check():
    changed = config()
    changed["corpora"]["quickstart"]["num_shards"] = 64
    steps = json.loads(Plan(changed, SCHEMA, ROOT).page_settings())["steps"]
    assert steps[steps.index("check_audio") - 1] == "check_audio_group"


@pytest.mark.parametrize(
    ("cores", "gpus", "threads"),
    [
        (None, 0, 8),  # on a cluster: what the profile does not say
        (1, 0, 1),
        (2, 0, 1),  # two trainings side by side
        (8, 0, 2),  # all four of the quickstart
        (64, 0, 8),
        (2, 1, 2),  # one GPU, one training
        (16, 1, 8),
        (16, 4, 4),
        (2, 4, 1),
    ],
)
def test_jobs_with_a_model_share_the_cores(monkeypatch, cores, gpus, threads):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
    assert Plan(config(), SCHEMA, ROOT, cores=cores).threads == threads


@pytest.mark.parametrize(("value", "count"), [("", 0), ("-1", 0), ("0", 1), ("1,3", 2), ("GPU-5a, GPU-7c", 2)])
def test_gpus_that_the_environment_names(monkeypatch, value, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == count


def test_a_fine_tune_is_trained_if_all_is_there_and_made_with_these_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = Plan(config(), SCHEMA, ROOT)
    name = "finetune_from_cutset"
    folder = tmp_path / "results" / name
    (folder / "checkpoints").mkdir(parents=True)
    for file in (f"checkpoints/{name}.nemo", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml"):
        (folder / file).touch()
    assert not plan.is_trained(name)
    (folder / "train.json").write_text(json.dumps({"train": [{"loss": 1.0}], "options": plan.overrides(name)}))
    assert plan.is_trained(name)
    (folder / "train.json").write_text(json.dumps({"options": ["seed=1"]}))
    assert not plan.is_trained(name)
    (folder / "train.json").write_text("{")
    assert not plan.is_trained(name)


def test_what_slurm_is_asked_for_a_training():
    content = config()
    content["experiments"] = {
        "small": {"layout": "cutset", "trainer": {"devices": 4}},
        "large": {"layout": "cutset", "trainer": {"devices": 4, "num_nodes": 2}},
    }
    plan = Plan(content, SCHEMA, ROOT)
    assert plan.gpus("small") == 4 and plan.node_resources("small") == {"nodes": 1}, "not here and there"
    assert plan.gpus("large") == 8
    asked = {"nodes": 2, "tasks": 2, "tasks_per_gpu": 0, "gres": "gpu:4", "mpi": "srun"}
    assert plan.node_resources("large") == asked, "one task on each node"
    assert plan.training_threads("large") == plan.training_threads("small"), "on each node"
    assert "trainer.strategy=ddp" in plan.overrides("large") and "trainer.num_nodes=2" in plan.overrides("large")
