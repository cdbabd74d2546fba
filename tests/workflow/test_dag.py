"""What is planned: for a fresh checkout, for single targets, and after each kind of change."""

import json
import os
import shutil
from contextlib import contextmanager

import pytest
import yaml

from nuptse.plan import Plan

TEST = ("--configfile", "config/test.yaml")
FOUR = ["cutset", "nemo_json", "nemo_tarred", "nemo_multidataset"]


def finetunes(*names):
    return {f"finetune_model experiment=finetune_from_{name}" for name in names}


BASE = "quickstart_base"
PAGE = {"write_report"}
SUMMARY = {"summarize_wer"} | PAGE


def judged(*recognisers):
    """The jobs that judge a base model or an experiment in each of its splits, and the table and the page of all."""
    jobs = set(SUMMARY)
    for name in recognisers:
        full = name if name == BASE else f"finetune_from_{name}"
        jobs.add(f"transcribe recogniser={full}")
        if name != BASE:
            jobs.add(f"write_model_card experiment={full}")
        splits = [("quickstart", "dev"), ("quickstart", "test")]
        if name in (BASE, "nemo_multidataset"):
            splits.append(("quickstart_yesno", "test"))
        jobs |= {f"score_wer recogniser={full}, corpus={corpus}, split={split}" for corpus, split in splits}
    return jobs


def trained(*names):
    return finetunes(*names) | judged(*names)


def cards(*names):
    return {f"write_model_card experiment=finetune_from_{name}" for name in names}


def bins(*names):
    return {f"estimate_duration_bins experiment=finetune_from_{name}" for name in names}


def examined(*names):
    """The doctor looks at these experiments again, and the page shows what it found."""
    return {f"examine_experiment experiment=finetune_from_{name}" for name in names} | PAGE


def cutsets(corpus, *splits):
    return {
        f"{rule} corpus={corpus}, split={split}" for rule in ("select_utterances", "build_cutset") for split in splits
    }


def checks(corpus, *splits):
    return {f"check_audio corpus={corpus}, split={split}" for split in splits}


def exports(corpus, *splits):
    return {f"export_nemo_manifest corpus={corpus}, split={split}" for split in splits}


def counts(corpus, *splits):
    return {f"count_durations corpus={corpus}, split={split}" for split in splits}


def shards(corpus, groups, split="train"):
    group_jobs = {f"tar_shards corpus={corpus}, split={split}, group={group}" for group in range(groups)}
    return group_jobs | {f"{rule}_shards corpus={corpus}, split={split}" for rule in ("plan", "index")}


MODEL = {"download_model model=quickstart_base"}
# Everything that the cuts of the corpus `quickstart` lead to.
FROM_CUTS = (
    exports("quickstart", "train", "dev")
    | shards("quickstart", 2)
    | counts("quickstart", "train")
    | bins(*FOUR)
    | examined(*FOUR)
    | trained(*FOUR)
    | judged(BASE)
)
# And those of its dev split: every experiment validates on it, no bins and no shards are made of it.
FROM_DEV = exports("quickstart", "dev") | examined(*FOUR) | trained(*FOUR) | judged(BASE)
QUICKSTART = ("quickstart", "train", "dev", "test")
FROM_RECIPE = cutsets(*QUICKSTART) | checks(*QUICKSTART) | FROM_CUTS
FROM_RAW = {"prepare_manifests corpus=quickstart"} | FROM_RECIPE


def test_a_fresh_checkout_plans_everything(checkout):
    planned = checkout.scheduled(*TEST)
    assert planned > FROM_RAW
    assert shards("quickstart_yesno", 1) < planned
    assert len(planned) == 72
    assert not (checkout.folder / "data").exists(), "a dry run makes nothing"


def test_the_page_knows_the_rules_that_lead_to_it(checkout):
    schema, config = (
        yaml.safe_load((checkout.folder / "config" / name).read_text()) for name in ("schema.yaml", "config.yaml")
    )
    steps = json.loads(Plan(config, schema, checkout.folder).page_settings())["steps"]
    assert {job.split()[0] for job in checkout.scheduled(*TEST)} == {*steps, "write_report", "write_model_card"}


def test_one_experiment_needs_only_its_own_layout(checkout):
    planned = checkout.scheduled("results/finetune_from_cutset/checkpoints/finetune_from_cutset.nemo", *TEST)
    rules = {job.split()[0] for job in planned}
    assert not rules & {"export_nemo_manifest", "plan_shards", "tar_shards", "index_shards"}
    assert finetunes("cutset") < planned
    assert not finetunes("nemo_json", "nemo_tarred", "nemo_multidataset") & planned


def test_a_fresh_fine_tune_waits_for_the_doctor(checkout):
    planned = checkout.scheduled("results/finetune_from_cutset/train.json", *TEST)
    assert "examine_experiment experiment=finetune_from_cutset" in planned
    assert checks(*QUICKSTART) < planned
    alone = checkout.scheduled("doctor", *TEST)
    assert examined(*FOUR) - PAGE < alone
    assert not any(job.startswith(("finetune_model", "transcribe")) for job in alone)


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("downloads", {"download_archive"}),
        ("manifests", {"download_archive", "extract_archives", "prepare_manifests", "select_utterances", "check_audio", "build_cutset", "export_nemo_manifest"}),
        ("shards", {"download_archive", "extract_archives", "prepare_manifests", "select_utterances", "build_cutset", "export_nemo_manifest", "plan_shards", "tar_shards", "index_shards"}),
        ("text_samples", {"download_archive", "extract_archives", "prepare_manifests", "sample_texts"}),
        ("bins", {"download_archive", "extract_archives", "prepare_manifests", "select_utterances", "build_cutset", "count_durations", "estimate_duration_bins"}),
        ("data/shards/quickstart_yesno_train/ledger/0.json", {"download_archive", "extract_archives", "prepare_manifests", "select_utterances", "build_cutset", "export_nemo_manifest", "plan_shards", "tar_shards"}),
    ],
)  # fmt: skip
def test_named_targets_and_single_files(checkout, target, rules):
    planned = {job.split()[0] for job in checkout.scheduled(target, *TEST)}
    assert planned - {target} == rules


def test_only_where_bad_audio_is_excluded_the_cutset_waits_for_the_check(checkout):
    cuts = "data/manifests/quickstart_cuts_dev.jsonl.gz"
    assert checks("quickstart", "dev").isdisjoint(checkout.scheduled(cuts))
    excluded = checkout.overlay({"corpora": {"quickstart": {"on_bad_audio": "exclude"}}})
    planned = checkout.scheduled(cuts, "--configfile", excluded)
    assert checks("quickstart", "dev") | cutsets("quickstart", "dev") < planned


def test_jobs_share_the_audio_of_a_large_split(checkout):
    large = checkout.overlay({"corpora": {"quickstart": {"num_shards": 96}}})
    planned = checkout.scheduled("data/manifests/quickstart_audio_train.jsonl.gz", "--configfile", large)
    groups = {f"check_audio_group corpus=quickstart, split=train, group={group}" for group in range(3)}
    assert {job for job in planned if job.startswith("check_audio")} == groups | checks("quickstart", "train")


def test_targets_are_listed_with_what_they_do(checkout):
    listed = checkout.snakemake("--list-target-rules").stdout
    for target in (
        "all",
        "downloads",
        "manifests",
        "text_samples",
        "shards",
        "bins",
        "doctor",
        "finetune",
        "evaluate",
        "model_cards",
        "report",
        "transcripts",
    ):
        assert f"\n{target} (" in listed
    assert "Download the archives of every corpus that an experiment uses." in listed


def test_the_base_model_of_the_quickstart_can_be_made_anew(checkout):
    planned = checkout.scheduled("pretrain_quickstart", "--configfile", "config/pretrain_quickstart.yaml")
    assert {"speak_pretraining_corpus", "build_model model=untrained_conformer_ctc"} < planned
    assert "finetune_model experiment=pretrain_quickstart" in planned
    assert "download_archive corpus=quickstart_pretrain, archive=train.tar.gz" not in planned


@pytest.mark.parametrize("overlay", ["config/tutorial.yaml", "config/test.yaml"])
def test_overlays_plan(checkout, overlay):
    planned = checkout.scheduled("--configfile", overlay)
    assert finetunes(*FOUR) < planned
    if "tutorial" in overlay:
        assert {job for job in planned if job.startswith("tar_shards")} == {
            f"tar_shards corpus={corpus}, split=train, group={group}"
            for corpus, groups in (("mini_librispeech", 8), ("yesno", 1))
            for group in range(groups)
        }
        assert not any("quickstart" in job for job in planned), "what no experiment uses is not made"


def test_audio_of_ones_own_is_transcribed_on_request(checkout):
    (checkout.folder / "talks").mkdir()
    audio = ("--config", "audio=talks")
    planned = checkout.scheduled("transcripts/quickstart_base.jsonl", *audio)
    assert planned == {"list_audio", "transcribe_audio recogniser=quickstart_base"} | MODEL
    assert "list_audio" not in checkout.scheduled(*audio)
    planned = checkout.scheduled("transcripts", *audio)
    assert {f"transcribe_audio recogniser=finetune_from_{name}" for name in FOUR} | finetunes(*FOUR) < planned


def test_the_working_directory_may_be_elsewhere(checkout, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    planned = checkout.scheduled("--directory", elsewhere, *TEST)
    assert len(planned) == 72


# --- the staleness table: after a full run, what each change makes stale -----------------------------------------


@contextmanager
def changed(path, edit):
    """Change a file for the time of the block, then give it back its contents and time."""
    before, times = path.read_bytes(), path.stat()
    try:
        edit(path)
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def append(text):
    return lambda path: path.write_bytes(path.read_bytes() + text.encode())


def replace(old, new):
    def edit(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return edit


def experiments(**changes):
    return {"experiments": {f"finetune_from_{name}": value for name, value in changes.items()}}


MIX = [
    {"corpus": "quickstart", "split": "train", "weight": 0.7},
    {"corpus": "quickstart_yesno", "split": "train", "weight": 0.3},
]
ARCHIVE = {"dev-clean-2.tar.gz": {"sha256": "0" * 64}}
EXTRACTED = {
    "download_archive corpus=quickstart, archive=dev-clean-2.tar.gz",
    "extract_archives corpus=quickstart",
} | FROM_RAW

CONFIG_CHANGES = {
    "nothing": ({}, set()),
    "steps of one experiment": (experiments(cutset={"trainer": {"max_steps": 3}}), trained("cutset") | examined("cutset")),
    "learning rate of all": ({"defaults": {"optim": {"lr": 0.001}}}, trained(*FOUR)),
    "one experiment's weight": (
        experiments(nemo_multidataset={"train": MIX}),
        bins("nemo_multidataset") | trained("nemo_multidataset") | examined("nemo_multidataset"),
    ),
    "number of buckets": ({"defaults": {"train_ds": {"num_buckets": 3}}}, bins(*FOUR) | trained(*FOUR) | examined(*FOUR)),
    "batch size of one": (experiments(cutset={"train_ds": {"batch_duration": 40}}), trained("cutset") | examined("cutset")),
    "a threshold of the doctor": ({"doctor": {"unknown_share": 0.01}}, examined(*FOUR)),
    "a limit for audio": ({"doctor": {"audio": {"silence": 0.8}}}, examined(*FOUR)),
    "a finding that is accepted for one": ({"doctor": {"accept": ["few_passes:finetune_from_cutset"]}}, examined("cutset")),
    "the licence of one": (experiments(cutset={"license": "cc-by-4.0"}), cards("cutset") | PAGE),
    "the licence of all": ({"defaults": {"license": "apache-2.0"}}, cards(*FOUR) | PAGE),
    "the decoding": ({"decoding": {"strategy": "beam_batch"}}, judged(BASE, *FOUR)),
    "a text profile": ({"corpora": {"quickstart": {"text": ["lower", "nfkc"]}}}, FROM_RECIPE),
    "a filter of one split": ({"corpora": {"quickstart": {"filters": {"splits": ["dev"], "max_words": 9}}}}, cutsets("quickstart", "dev") | checks("quickstart", "dev") | FROM_DEV),
    "a split by shares beside the others": ({"corpora": {"quickstart": {"split_by": {"shares": {"a": 0.5, "b": 0.5}}}}}, PAGE),
    "bad audio left out": (
        {"corpora": {"quickstart": {"on_bad_audio": "exclude"}}},
        {f"build_cutset corpus=quickstart, split={split}" for split in ("train", "dev", "test")}
        | FROM_CUTS,
    ),
    "one archive": ({"corpora": {"quickstart": {"archives": ARCHIVE}}}, EXTRACTED),
    "another mirror of pinned archives": ({"mirrors": {"quickstart": ["https://example.org"]}}, set()),
    "an experiment less": ({"experiments": {"finetune_from_cutset": None}}, SUMMARY),
    "number of shards": (
        {"corpora": {"quickstart": {"num_shards": 4}}},
        (shards("quickstart", 1)) | trained("nemo_tarred", "nemo_multidataset") | examined("nemo_tarred", "nemo_multidataset"),
    ),
    "shards in another form": (
        {"corpora": {"quickstart": {"shard_audio": "flac"}}},
        (shards("quickstart", 2) - {"plan_shards corpus=quickstart, split=train"})
        | trained("nemo_tarred", "nemo_multidataset")
        | examined("nemo_tarred", "nemo_multidataset"),
    ),
    "another base model": ({"models": {"quickstart_base": {"sha256": "0" * 64}}}, MODEL | trained(*FOUR) | examined(*FOUR) | judged(BASE)),
    "a new experiment": (
        {"experiments": {"again": {"layout": "cutset"}}},
        {"estimate_duration_bins experiment=again", "examine_experiment experiment=again", "finetune_model experiment=again", "transcribe recogniser=again"}
        | {f"score_wer recogniser=again, corpus=quickstart, split={split}" for split in ("dev", "test")}
        | SUMMARY
        | {"write_model_card experiment=again"},
    ),
    "a corpus that nobody uses": ({"corpora": {"other": {"recipe": "yesno", "folder": ".", "splits": {"train": "train"}, "language": "he", "text": []}}}, set()),
}  # fmt: skip


DECODING = {"decoding": {"strategy": "greedy_batch", "greedy": {"ngram_lm_model": "lm.arpa"}}}


@pytest.mark.slow
def test_stale_after_a_change_of_the_decoding(finished):
    """Every recogniser is transcribed anew and scored, and nothing is trained; a file of the options counts too."""
    (finished.folder / "lm.arpa").write_text("one")
    assert finished.scheduled(*TEST, finished.overlay(DECODING)) == judged(BASE, *FOUR)
    (finished.folder / "lm.arpa").unlink()
    refused = finished.snakemake("--dry-run", *TEST, finished.overlay(DECODING), check=False).stdout
    assert "`decoding.greedy.ngram_lm_model` is 'lm.arpa', which is no file" in refused


@pytest.mark.slow
def test_a_training_is_not_forgotten_while_the_doctor_runs_again(finished):
    """Snakemake asks no job behind an ancient() file for reasons of its own while the job before it has to run."""
    threshold = {"doctor": {"unknown_share": 0.01}}
    steps = threshold | experiments(cutset={"trainer": {"max_steps": 3}})
    assert finished.scheduled(*TEST, finished.overlay(steps)) == trained("cutset") | examined(*FOUR)
    model = finished.folder / "results/finetune_from_cutset/checkpoints/best.ckpt"
    aside = model.with_name("aside")
    model.rename(aside)
    try:
        assert finished.scheduled(*TEST, finished.overlay(threshold)) == trained("cutset") | examined(*FOUR)
    finally:
        aside.rename(model)


@pytest.mark.slow
@pytest.mark.parametrize(("change", "expected"), CONFIG_CHANGES.values(), ids=CONFIG_CHANGES.keys())
def test_stale_after_a_change_of_the_configuration(finished, change, expected):
    assert finished.scheduled(*TEST, finished.overlay(change)) == expected


FILE_CHANGES = {
    "a comment in a rule file": ("rules/finetune.smk", append("# why\n"), set()),
    "a comment in the Snakefile": ("Snakefile", append("# why\n"), set()),
    "a docstring of a rule": ("rules/finetune.smk", replace('"""Fine-tune the base', '"""Train the base'), set()),
    "memory of a rule": ("rules/finetune.smk", replace("for_each_device(16000)", "for_each_device(32000)"), set()),
    "the command of a rule": (
        "rules/duration_bins.smk",
        replace(" --bins {output.bins:q} >", " --bins  {output.bins:q} >"),
        bins(*FOUR) | trained(*FOUR) | examined(*FOUR),
    ),
    "a helper module": ("scripts/nuptse/text.py", append("# why\n"), FROM_RECIPE | cutsets("quickstart_yesno", "train", "test") | checks("quickstart_yesno", "train", "test") | exports("quickstart_yesno", "train", "test") | shards("quickstart_yesno", 1) | counts("quickstart_yesno", "train")),
    "a module of the durations": ("scripts/nuptse/durations.py", append("# why\n"), counts("quickstart", "train") | counts("quickstart_yesno", "train") | bins(*FOUR) | trained(*FOUR) | examined(*FOUR)),
    "a module of the bins": ("scripts/nuptse/duration_bins.py", append("# why\n"), bins(*FOUR) | trained(*FOUR) | examined(*FOUR)),
    "a module of the doctor": ("scripts/nuptse/text_findings.py", append("# why\n"), examined(*FOUR)),
    "the command of the doctor": ("scripts/examine_experiment.py", append("# why\n"), examined(*FOUR)),
    "a report of the doctor": ("results/doctor/finetune_from_cutset.json", append(" "), PAGE),
    "the template of the cards": ("scripts/nuptse/model_card.md.jinja", append("More.\n"), cards(*FOUR)),
    "a module of the cards": ("scripts/nuptse/model_card.py", append("# why\n"), cards(*FOUR)),
    "a module of the training": ("scripts/nuptse/training.py", append("# why\n"), set()),
    "the launcher of the training": ("scripts/finetune.py", append("# why\n"), trained(*FOUR)),
    "a module of the page": ("scripts/nuptse/page.py", append("# why\n"), PAGE),
    "a template of the page": ("scripts/nuptse/templates/report_data.html.j2", append("<!-- why -->"), PAGE),
    "the style of the page": ("scripts/nuptse/templates/report.css", append("/* why */"), PAGE),
    "a module of the table and the page": ("scripts/nuptse/wer_table.py", append("# why\n"), SUMMARY | cards(*FOUR)),
    "a caption": ("rules/captions/page.rst", append("More.\n"), set()),
    "scores": ("results/scores/quickstart_base/quickstart_dev.json", append(" "), SUMMARY | cards(*FOUR)),
    "an account of a training": ("results/finetune_from_cutset/train.json", append(" "), PAGE | cards("cutset")),
    "a shard index that only looks newer": ("data/shards/quickstart_train/ledger.json", os.utime, set()),
    "an archive that only looks newer": ("data/downloads/quickstart/train-clean-5.tar.gz", os.utime, set()),
    "cuts that only look newer": ("data/manifests/quickstart_cuts_train.jsonl.gz", os.utime, set()),
    "a transcript": (
        "data/raw/quickstart/LibriSpeech/dev-clean-2/9101/910101/9101-910101.trans.txt",
        replace(" THE ", " THE THE "),
        FROM_RAW,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("path", "edit", "expected"), FILE_CHANGES.values(), ids=FILE_CHANGES.keys())
def test_stale_after_a_change_of_a_file(finished, path, edit, expected):
    with changed(finished.folder / path, edit):
        assert finished.scheduled(*TEST) == expected


LOST_FILES = {
    "a shard": (
        "data/shards/quickstart_train/audio_5.tar",
        {"tar_shards corpus=quickstart, split=train, group=1", "index_shards corpus=quickstart, split=train"}
        | trained("nemo_tarred", "nemo_multidataset")
        | examined("nemo_tarred", "nemo_multidataset"),
    ),
    "a manifest of a shard": (
        "data/shards/quickstart_yesno_train/sharded_manifests/manifest_0.json",
        {
            "tar_shards corpus=quickstart_yesno, split=train, group=0",
            "index_shards corpus=quickstart_yesno, split=train",
        }
        | trained("nemo_multidataset")
        | examined("nemo_multidataset"),
    ),
    "a checkpoint": ("results/finetune_from_cutset/checkpoints/best.ckpt", trained("cutset")),
    "a report of the doctor": ("results/doctor/finetune_from_cutset.json", set()),
    "a log": ("logs/finetune_model/finetune_from_cutset.log", set()),
    "the page": ("results/report.html", PAGE),
    "the figures": ("results/figures", PAGE),
    "a benchmark": ("benchmarks/finetune_model/finetune_from_cutset.tsv", set()),
    "duration bins": ("results/finetune_from_cutset/duration_bins.json", set()),
}


@pytest.mark.slow
@pytest.mark.parametrize(("path", "expected"), LOST_FILES.values(), ids=LOST_FILES.keys())
def test_stale_after_a_loss(finished, path, expected):
    path = finished.folder / path
    aside = path.with_name(f"{path.name}.aside")
    shutil.move(path, aside)
    try:
        assert finished.scheduled(*TEST) == expected
    finally:
        shutil.move(aside, path)
