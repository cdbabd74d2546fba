"""The whole chain for real: what it makes, that a second run has nothing to do, and that interruptions leave no trace."""

import gzip
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from conftest import ROOT

from nuptse.base_model import read_base_model
from nuptse.overrides import DATA_OPTIONS

pytestmark = pytest.mark.slow

TEST = ("--configfile", "config/test.yaml")
FOUR = ["cutset", "nemo_json", "nemo_tarred", "nemo_multidataset"]
MIRROR = Path(os.environ.get("OPENSLR_MIRROR", ROOT.parent / "shared" / "openslr"))


def results(checkout, name):
    return checkout.folder / "results" / f"finetune_from_{name}"


def report(checkout, name):
    return json.loads((results(checkout, name) / "train.json").read_text())


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake(*TEST).stdout


@pytest.mark.parametrize("name", FOUR)
def test_every_fine_tune_leaves_its_results(finished, name):
    folder = results(finished, name)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    events = {path for path in files if "tensorboard/events.out.tfevents." in path}
    assert len(events) == 2
    # What is needed to train for more steps, and what keeps a second training out.
    kept = {"best-00000002.ckpt", "last-00000002.ckpt", "ledger.json", "history.json", "tensorboard/hparams.yaml"}
    assert files - events == {f"training/{file}" for file in kept} | {
        ".lock",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        f"checkpoints/finetune_from_{name}.nemo",
        "README.md",
        "config.yaml",
        "duration_bins.json",
        "tensorboard/hparams.yaml",
        "train.json",
    }


@pytest.mark.parametrize("name", FOUR)
def test_a_report_says_what_was_done(finished, name):
    train = report(finished, name)
    assert train["global_step"] == train["max_steps"] == 2
    assert [row["step"] for row in train["train"]] == [1, 2]
    assert train["audio_seconds"] == pytest.approx(sum(row["audio_seconds"] for row in train["train"]), abs=0.01)
    assert 20 < train["audio_seconds"] < 100, "two batches of at most 50 s"
    sets = ["quickstart_dev", "quickstart_yesno_test"] if name == "nemo_multidataset" else ["quickstart_dev"]
    assert list(train["validation"][-1]["val_wer"]) == sets
    assert train["best"]["val_wer"] == min(row["val_wer"][sets[0]] for row in train["validation"])
    assert train["versions"]["nemo-toolkit"] == "3.0.0"
    log = (finished.folder / f"logs/finetune_model/finetune_from_{name}.log").read_text().splitlines()
    assert re.fullmatch(
        rf"finetune_from_{name}: 2 steps, val_wer [\d.]+% \(best, step 2\), [\d.]+ audio hours seen, \d+ s", log[-1]
    )
    assert len(log) < 20, "a quiet log"


def test_cutset_and_json_see_the_same_batches(finished):
    cutset, nemo_json = (report(finished, name)["train"] for name in ("cutset", "nemo_json"))
    assert cutset == nemo_json


def test_the_model_is_the_best_checkpoint(finished):
    import torch

    from nuptse.runtime import prepare_runtime

    prepare_runtime()
    from nemo.collections.asr.models import ASRModel

    checkpoints = results(finished, "cutset") / "checkpoints"
    model = ASRModel.restore_from(str(checkpoints / "finetune_from_cutset.nemo"), map_location="cpu")
    best = torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=False)["state_dict"]
    assert all(torch.equal(weight, best[name]) for name, weight in model.state_dict().items())
    (audio,) = list((finished.folder / "data/raw/quickstart_yesno/waves_yesno").glob("*.wav"))[:1]
    assert isinstance(model.transcribe([str(audio)], verbose=False)[0].text, str)


@pytest.mark.parametrize("name", FOUR)
def test_a_published_model_names_no_file_of_its_training(finished, name):
    folder = results(finished, name)
    config = read_base_model(folder / f"checkpoints/finetune_from_{name}.nemo").config
    options = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    for section in ("train_ds", "validation_ds"):
        named = {key for key in DATA_OPTIONS if key in options[section]}
        assert named, "the account of the run tells them"
        assert options[section] | dict.fromkeys(named) == config[section]
    assert "data/" not in json.dumps(config)


@pytest.mark.parametrize("name", FOUR)
def test_a_model_card_says_what_was_measured(finished, name):
    from huggingface_hub import ModelCard

    card = ModelCard.load(results(finished, name) / "README.md")
    table = pd.read_csv(finished.folder / "results/wer.tsv", sep="\t")
    own = table[table.recogniser == f"finetune_from_{name}"].set_index(["corpus", "split"])
    found = {(r.dataset_type, r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert found.keys() == {(*split, metric) for split in own.index for metric in ("wer", "cer")}
    for (corpus, split, metric), value in found.items():
        assert value == pytest.approx(100 * own[metric][corpus, split], rel=1e-4, abs=1e-3)
    assert report(finished, name)["model_sha256"] in card.text
    assert f"snakemake results/finetune_from_{name}/README.md --cores 8 --configfile test.yaml\n" in card.text
    for path in re.findall(r'restore_from\("(.*?)"\)', card.text):
        assert (results(finished, name) / path).is_file()


def test_every_step_accounts_for_every_utterance(finished):
    data = finished.folder / "data"
    for corpus, split, count in (
        ("quickstart", "train", 180),
        ("quickstart", "dev", 54),
        ("quickstart_yesno", "train", 30),
    ):
        ledger = json.loads((data / f"manifests/{corpus}_ledger_{split}.json").read_text())
        assert ledger["taken"] == ledger["kept"]
        assert ledger["kept"]["utterances"] == count
        with gzip.open(data / f"manifests/{corpus}_cuts_{split}.jsonl.gz") as cuts:
            assert sum(1 for _ in cuts) == count
        manifest = (data / f"manifests/{corpus}_nemo_{split}.json").read_text().splitlines()
        assert len(manifest) == count
        if split == "train":
            shards = json.loads((data / f"shards/{corpus}_{split}/ledger.json").read_text())
            assert shards["utterances"] == count
            assert shards["duration_s"] == pytest.approx(ledger["kept"]["seconds"], abs=0.01)
    bins = json.loads((results(finished, "nemo_multidataset") / "duration_bins.json").read_text())
    assert [source["utterances"] for source in bins["sources"]] == [180, 30]


def test_every_model_is_judged_on_every_split(finished):
    table = pd.read_csv(finished.folder / "results/wer.tsv", sep="\t")
    english = [("quickstart", "dev"), ("quickstart", "test")]
    splits = {f"finetune_from_{name}": english for name in FOUR[:3]}
    splits |= {
        name: [*english, ("quickstart_yesno", "test")]
        for name in ("quickstart_base", "finetune_from_nemo_multidataset")
    }
    assert {(row.recogniser, row.corpus, row.split) for row in table.itertuples()} == {
        (name, *split) for name in splits for split in splits[name]
    }
    # After two steps the mix may hear one word in every yes or no: where all have one rate there is no interval.
    within = table[(table.corpus == "quickstart") | table.wer_low.notna()]
    assert (within.wer_low <= within.wer).all() and (within.wer <= within.wer_high).all()
    counts = {("quickstart", "dev"): 54, ("quickstart", "test"): 48, ("quickstart_yesno", "test"): 30}
    assert all(row.utterances == counts[row.corpus, row.split] for row in table.itertuples())
    base = table[(table.recogniser == "quickstart_base") & (table.split == "dev")].wer.item()
    assert 0.5 < base < 0.8, "it has not heard these voices, but it has learnt to listen"
    comparisons = pd.read_csv(finished.folder / "results/wer_comparisons.tsv", sep="\t")
    assert (comparisons.kind == "base").sum() == 9, "each fine-tune in each of its splits against the base"


def test_the_word_error_rate_is_that_of_the_validation(finished):
    """One scorer for all: it counts what NeMo counted during the training."""
    table = pd.read_csv(finished.folder / "results/wer.tsv", sep="\t").set_index(["recogniser", "corpus", "split"])
    for name in FOUR:
        best = report(finished, name)["best"]["val_wer"]
        assert table.wer[f"finetune_from_{name}", "quickstart", "dev"] == pytest.approx(best, abs=0.01)


def test_transcripts_are_as_the_profile_says(finished):
    rows = (finished.folder / "data/manifests/quickstart_nemo_train.json").read_text().splitlines()
    texts = [json.loads(row)["text"] for row in rows]
    assert all(text and text == text.lower() for text in texts)


# --- audio of one's own ---


def test_a_folder_of_recordings_is_transcribed(finished):
    """The texts of single utterances are those of the evaluation; one long recording of all of them has its own row."""
    source = finished.folder / "data/raw/quickstart/LibriSpeech/test-clean"
    audio = finished.folder / "my recordings ü"
    shutil.copytree(source, audio / "some")
    (audio / "notes.txt").write_text("no audio")
    parts = [soundfile.read(path, dtype="float32")[0] for path in sorted(source.rglob("*.flac"))]
    pause = np.zeros(12000, np.float32)
    soundfile.write(
        audio / "long.flac", np.concatenate([samples for part in parts for samples in (part, pause)]), 16000
    )
    target, options = "transcripts/finetune_from_cutset.jsonl", ("--config", f"audio={audio.name}")
    run = finished.snakemake(target, *TEST, *options)
    assert f"left out: {audio.name}/notes.txt: not audio" in run.stdout
    rows = [json.loads(line) for line in (finished.folder / target).read_text().splitlines()]
    transcripts = finished.folder / "results/transcripts/finetune_from_cutset/quickstart_test.jsonl"
    judged = {row["id"]: row["pred_text"] for row in map(json.loads, transcripts.read_text().splitlines())}
    long, *single = rows
    assert {Path(row["audio_filepath"]).stem: row["pred_text"] for row in single} == judged
    assert long["audio_filepath"] == f"{audio.name}/long.flac"
    assert len(long["segments"]) > 5 and long["segments"][-1]["end"] == long["duration"]
    assert long["pred_text"] == " ".join(filter(None, (segment["text"] for segment in long["segments"])))
    assert finished.scheduled(target, *TEST, *options) == set()
    (audio / "new.wav").touch()
    assert finished.scheduled(target, *TEST, *options) == {
        "list_audio",
        "transcribe_audio recogniser=finetune_from_cutset",
    }
    assert finished.scheduled(*TEST, *options) == set(), "results do not depend on it"


def test_transcripts_without_audio_are_refused(checkout):
    run = checkout.snakemake("transcripts/finetune_from_cutset.jsonl", check=False)
    assert run.returncode != 0
    assert "transcripts need the key `audio` of the configuration" in run.stdout


# --- mistakes ----------------------------------------------------------------------------------------------------


def test_a_wrong_configuration_is_refused_within_seconds(checkout):
    overlay = checkout.overlay({"experiments": {"finetune_from_cutset": {"layout": "cutsets"}}})
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run = checkout.snakemake("--configfile", overlay, check=False)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5, "CPU time: the machine may be busy"
    assert run.returncode != 0
    assert (
        "`experiments.finetune_from_cutset.layout` is 'cutsets', expected one of cutset, nemo_json, tarred"
        in run.stdout
    )
    assert "Traceback" not in run.stdout
    assert not (checkout.folder / "data").exists()


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (
            {"corpora": {"quickstart": {"archives": {"dev-clean-2.tar.gz": {"sha256": "0" * 64}}}}},
            "wrong sha256: expected 000000",
        ),
        (
            {"mirrors": {"quickstart": ["nowhere"]}},
            "no address gave the file",
        ),
    ],
)
def test_a_download_that_fails_says_so_and_leaves_nothing(checkout, overlay, message):
    target = "data/downloads/quickstart/dev-clean-2.tar.gz"
    run = checkout.snakemake(target, "--configfile", checkout.overlay(overlay), check=False)
    assert run.returncode != 0
    assert message in run.stdout
    assert "Traceback" not in run.stdout
    assert not (checkout.folder / target).exists()


def test_the_doctor_refuses_a_training_and_its_remedy_lets_it_run(finished):
    """A lower-case model and upper-case transcripts, the tutorial's own trap: refused, told how to mend it, mended."""
    overlay = {
        "corpora": {"upper": {"recipe": "yesno", "folder": "data/raw/quickstart_yesno", "recipe_root": "waves_yesno", "splits": {"train": "train", "test": "test"}, "language": "en", "text": []}},
        "experiments": {"upper": {"layout": "cutset", "train": [{"corpus": "upper"}]}},
    }  # fmt: skip
    target = "results/upper/train.json"
    run = finished.snakemake(target, *TEST, finished.overlay(overlay), check=False)
    assert run.returncode != 0 and "Traceback" not in run.stdout
    refused = run.stdout.partition("ERROR: the doctor found errors in upper: mend them as it says")[2]
    assert "ERROR unknown_characters upper/train: 30 of 30, 100.00% of the hours" in refused
    assert 'corpora.upper.text: ["lower"]' in refused
    assert not (finished.folder / target).exists()

    # All experiments at once: one's errors hide nobody else's findings, and the report is there.
    run = finished.snakemake("doctor", *TEST, finished.overlay(overlay), check=False)
    assert run.returncode != 0
    for name in FOUR:
        assert f"finetune_from_{name}: healthy" in run.stdout
    found = json.loads((finished.folder / "results/doctor/upper.json").read_text())["findings"]
    (change,) = [finding["change"] for finding in found if finding["severity"] == "error"]
    assert change == {"corpora.upper.text": ["lower"]}

    overlay["corpora"]["upper"]["text"] = change["corpora.upper.text"]
    finished.snakemake(target, *TEST, finished.overlay(overlay))
    assert json.loads((finished.folder / target).read_text())["global_step"] == 2
    assert "upper: healthy" in finished.snakemake("doctor", *TEST, finished.overlay(overlay)).stdout


# --- interruptions -----------------------------------------------------------------------------------------------

STEPS = {
    "experiments": {"killed": {"layout": "tarred"}},
    "defaults": {
        "trainer": {"max_steps": 8, "val_check_interval": 4, "log_every_n_steps": 1},
        "checkpoint": {"every_n_steps": 2},
    },
}
KILLED = "results/killed/train.json"


def start_and_signal(checkout, overlay, number):
    """Start the training, send its process a signal after a step, and wait for Snakemake to end."""
    log = checkout.folder / "logs/finetune_model/killed.log"
    log.unlink(missing_ok=True)
    process = subprocess.Popen(
        checkout.command(KILLED, *TEST, overlay),
        cwd=checkout.folder,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    wanted = "step 3/8" if number == signal.SIGKILL else "step 5/8"
    while not (log.exists() and wanted in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None, "the training never reached that step"
        time.sleep(0.05)
    subprocess.run(["pkill", f"-{number}", "-f", "scripts/finetune.py --experiment killed"], check=True)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_a_validation_manifest_without_its_last_line_is_refused_and_its_remedy_helps(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    checkout, name = finished.of(tmp_path), "data/manifests/quickstart_nemo_dev.json"
    command = ("results/finetune_from_nemo_json/train.json", "--configfile", "config/test.yaml")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    run = checkout.snakemake(*command, check=False)
    assert run.returncode != 0
    assert f"{name} has 53 utterances, but 54 were counted before: a file was cut short between two" in run.stdout
    assert f"delete {name} and run again" in run.stdout
    assert "Traceback" not in run.stdout
    (tmp_path / name).unlink()
    checkout.snakemake(*command)
    assert (tmp_path / name).read_bytes() == whole


def test_a_killed_training_converges_to_the_same_model(finished):
    """kill -9 and SIGTERM in the middle: never called done; it goes on, and the model is that of an undisturbed run."""
    overlay = finished.overlay(STEPS)
    for number in (signal.SIGKILL, signal.SIGTERM):
        code, output = start_and_signal(finished, overlay, number.value)
        assert code != 0, output[-3000:]
        assert not (finished.folder / KILLED).exists()
        assert not (finished.folder / "results/killed/checkpoints/killed.nemo").exists()
    finished.snakemake(KILLED, *TEST, overlay)
    interrupted = json.loads((finished.folder / KILLED).read_text())
    shutil.rmtree(finished.folder / "results/killed/training")  # or it would be published once more
    finished.snakemake(KILLED, "--forcerun", "finetune_model", *TEST, overlay)
    undisturbed = json.loads((finished.folder / KILLED).read_text())
    assert interrupted["global_step"] == undisturbed["global_step"] == 8
    assert interrupted["train"] == undisturbed["train"]
    assert interrupted["model_sha256"] == undisturbed["model_sha256"]
    first, second = interrupted["resumed"]
    assert 2 <= first <= second, "after kill -9 from the last checkpoint, after SIGTERM from where it stood"
    assert undisturbed["resumed"] == []


# --- real speech -------------------------------------------------------------------------------------------------

REAL = {
    "mirrors": {"openslr": [str(MIRROR / "resources")]},
    "corpora": {
        "mini_librispeech": {
            "archives": {
                "train-clean-5.tar.gz": {
                    "bytes": 75342696,
                    "sha256": "7550e6f90118664bd4e3bf63399ad579a4ba5fe5286cbb1af920bbd67c0d3ddd",
                },
                "dev-clean-2.tar.gz": {
                    "bytes": 15948380,
                    "sha256": "f38ac48e2570602f9eba7173cedb4379b94f53a8d1db4217b9d50f5d83f39ede",
                },
            }
        },
        "yesno": {
            "archives": {
                "waves_yesno.tar.gz": {
                    "sha256": "a6aa822415b8ccbf867732c9f99a8c9883675f3c77ece1f8e9515d391bf5935c",
                }
            }
        },
    },
    # The hub's model cannot be had everywhere; an untrained one shows the same chain.
    "models": {
        "untrained": {
            "from_scratch": {
                "tokenizer": {"train": [{"corpus": "mini_librispeech"}, {"corpus": "yesno"}]},
                "d_model": 64,
                "n_layers": 2,
                "subsampling": "stacking",
            }
        },
        "adapted": {
            "from_model": {"model": "quickstart_base", "tokenizer": {"train": [{"corpus": "mini_librispeech"}]}}
        },
    },
    "experiments": {"finetune_from_nemo_multidataset": {"model": "adapted"}},
    "defaults": {
        "model": "untrained",
        "train_ds": {"batch_duration": 60},
        "validation_ds": {"batch_size": 8},
        "trainer": {"max_steps": 3, "val_check_interval": 3},
    },
}


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror of OpenSLR at {MIRROR}; name one in OPENSLR_MIRROR")
def test_the_tutorial_on_real_speech(checkout):
    overlays = ("--configfile", "config/tutorial.yaml", checkout.overlay(REAL))
    checkout.snakemake(*overlays)
    for name in FOUR:
        assert report(checkout, name)["global_step"] == 3
    shards = checkout.folder / "data/shards/mini_librispeech_train"
    ledger = json.loads((shards / "ledger.json").read_text())
    assert ledger["num_shards"] == len(list(shards.glob("audio_*.tar"))) == 32
    assert ledger["utterances"] == 493, "NeMo's own converter keeps 480 of them"
    bins = json.loads((results(checkout, "nemo_multidataset") / "duration_bins.json").read_text())
    assert bins["num_buckets"] == 30
    assert [round(source["weight"], 3) for source in bins["sources"]] == [0.8, 0.2]
    mix = report(checkout, "nemo_multidataset")
    assert list(mix["validation"][-1]["val_wer"]) == ["mini_librispeech_dev", "yesno_test"]
    assert (
        "all but the decoder from data/models/quickstart_base.nemo"
        in (checkout.folder / "logs/adapt_model/adapted.log").read_text()
    )
    assert checkout.scheduled(*overlays) == set()
