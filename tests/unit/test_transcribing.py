"""What a model hears: exactly NeMo's texts, every utterance once, and as much again after a kill as without one."""

import functools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet
from transducers import ARCHITECTURE, transducer_config

import transcribe as command
import transcribe_audio as command_audio
from nuptse.errors import UserError
from nuptse.folder_lock import folder_lock
from nuptse.jsonl import read_rows, write_rows
from nuptse.manifests import prepare_recipe
from nuptse.models import build_model, model_config, train_tokenizer
from nuptse.runtime import prepare_runtime
from nuptse.selection import Selection, select_utterances

pytestmark = pytest.mark.slow  # importing NeMo takes seconds

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "resources" / "quickstart"


@pytest.fixture(scope="module")
def transcribing():
    prepare_runtime()
    from nuptse import transcribing

    return transcribing


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Cuts of three sets: ``english`` at 16 kHz, ``yesno`` at 8 kHz, and ``parts``, segments of the former."""
    folder = tmp_path_factory.mktemp("corpora")
    for archive in ("12/test-clean.tar.gz", "1/waves_yesno.tar.gz"):
        with tarfile.open(QUICKSTART / archive) as tar:
            tar.extractall(folder, filter="data")
    recipes = {
        "english": ("librispeech", folder / "LibriSpeech", {"dataset_parts": ["test-clean"]}, "test-clean"),
        "yesno": ("yesno", folder / "waves_yesno", {}, "test"),
    }
    cuts = {}
    for name, (recipe, corpus, options, part) in recipes.items():
        tables = folder / name
        tables.mkdir()
        prepare_recipe(recipe, corpus, options, tables, 1)
        selected = tables / "selected.jsonl.gz"
        selection = Selection(name, "test", [part], "en", ["lower"])
        select_utterances(tables, selection, selected, tables / "dropped.jsonl.gz")
        cuts[name] = folder / f"{name}.jsonl.gz"
        write_rows(cuts[name], list(read_rows(selected, dict))[:16])
    cuts["parts"] = folder / "parts.jsonl.gz"
    write_rows(cuts["parts"], map(second_half, read_rows(cuts["english"], dict)))
    return cuts


def second_half(cut):
    half = round(cut["duration"] / 2, 2)
    supervision = cut["supervisions"][0] | {"duration": half, "speaker": None}
    return cut | {"start": cut["duration"] - half, "duration": half, "supervisions": [supervision]}


@pytest.fixture(scope="module")
def model_path(sets, tmp_path_factory, transcribing):
    path = tmp_path_factory.mktemp("model") / "m.nemo"
    build_model(ARCHITECTURE, [sets["english"], sets["yesno"]], path)
    return path


@pytest.fixture
def model(model_path, transcribing):
    import torch

    return transcribing.load_model(model_path, torch.device("cpu"))


@pytest.fixture
def go(model_path, tmp_path):
    """Run the command on some sets; return the bytes of the transcripts of each, and where they are."""

    def run(*cuts, **options):
        command.main(arguments(model_path, cuts, tmp_path / "out", **options))
        return [(tmp_path / "out" / f"{name_of(path)}.jsonl").read_bytes() for path in cuts]

    return run


def name_of(cuts):
    return cuts.name.removesuffix(".jsonl.gz")


def arguments(model_path, cuts, output_dir, **options):
    listed = ["--model", model_path, "--output-dir", output_dir, "--cuts", *cuts, "--names", *map(name_of, cuts)]
    return [*map(str, listed), *(f"--{key.replace('_', '-')}={value}" for key, value in options.items())]


def texts(content):
    return {row["id"]: row["pred_text"] for row in map(json.loads, content.splitlines())}


# --- what comes out ---


def test_every_utterance_sorted_by_id_with_nemos_fields(go, sets, tmp_path, capsys):
    english, yesno, parts = go(sets["english"], sets["yesno"], sets["parts"], batch_duration=20, threads=1)
    for name, content in (("english", english), ("yesno", yesno), ("parts", parts)):
        cuts = sorted(CutSet.from_file(sets[name]), key=lambda cut: cut.id)
        rows = [json.loads(line) for line in content.splitlines()]
        assert [row["id"] for row in rows] == [cut.id for cut in cuts]
        assert [row["duration"] for row in rows] == [cut.duration for cut in cuts]
        assert [row["text"] for row in rows] == [cut.supervisions[0].text for cut in cuts]
        assert all(Path(row["audio_filepath"]).is_file() and row["lang"] == "en" for row in rows)
        assert len({row["pred_text"] for row in rows}) > 1, "texts differ, so they can be compared"
        assert ({"offset"} <= rows[0].keys()) == (name == "parts")
        timing = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert timing["audio_seconds"] == pytest.approx(sum(cut.duration for cut in cuts), abs=1e-3)
        assert timing["rtf"] == pytest.approx(timing["seconds"] / timing["audio_seconds"], abs=1e-4)
        assert {"device", "threads", "batch_duration"} < timing.keys()
    assert {json.loads(line)["speaker"] for line in english.splitlines()} == {
        cut.supervisions[0].speaker for cut in CutSet.from_file(sets["english"])
    }
    assert b"speaker" not in parts
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".jsonl"}
    assert not (tmp_path / "out.partial").exists()
    last = capsys.readouterr().out.splitlines()[-1]
    assert "parts.jsonl.gz: 16 utterances" in last and "16 out; dropped 0" in last and "RTF" in last


@pytest.mark.parametrize("name", ["english", "yesno"])
def test_texts_are_those_of_nemos_transcribe(sets, transcribing, model, monkeypatch, name):
    monkeypatch.setattr(model.preprocessor.featurizer, "pad_to", 0)  # as NeMo's transcribe() does for itself
    ((cuts, audio),) = transcribing.load_ahead([transcribing.read_cuts(sets[name])], 16000, 1)
    rows = [{"audio_filepath": cut.recording.sources[0].source} for cut in cuts]
    heard = transcribing.hear(model, audio)
    assert heard == transcribe_with_nemo(model, rows)
    assert len(set(heard)) > 1


def transcribe_with_nemo(model, rows):
    from omegaconf import open_dict

    with open_dict(model.cfg):
        model.cfg.validation_ds = {"use_start_end_token": False}  # NeMo reads it there
    paths = [row["audio_filepath"] for row in rows]
    return [hypothesis.text for hypothesis in model.transcribe(paths, batch_size=len(paths), verbose=False)]


@pytest.mark.parametrize("name", ["english", "yesno", "parts"])
def test_their_wer_is_nemos_val_wer(go, sets, model, name):
    import lightning.pytorch as pl
    from nemo.collections.asr.metrics.wer import word_error_rate

    model.setup_multiple_validation_data(
        {
            "use_lhotse": True,
            "cuts_path": str(sets[name]),
            "batch_size": 16,
            "sample_rate": 16000,
            "shuffle": False,
            "num_workers": 0,
        }
    )
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (metrics,) = trainer.validate(model, verbose=False)
    rows = [json.loads(line) for line in go(sets[name], batch_duration=1000)[0].splitlines()]
    ours = word_error_rate([row["pred_text"] for row in rows], [row["text"] for row in rows])
    assert ours == pytest.approx(metrics["val_wer"], abs=1e-6)


def test_the_audio_is_the_batch_that_lhotse_makes(sets, transcribing):
    import torch
    from lhotse.dataset import AudioSamples

    for name in sets:
        cuts = list(CutSet.from_file(sets[name]))
        expected, lengths = AudioSamples()(CutSet.from_cuts(cuts).resample(16000))
        ((_, audio),) = transcribing.load_ahead([cuts], 16000, 2)
        assert [len(samples) for samples in audio] == lengths.tolist()
        assert torch.equal(torch.nn.utils.rnn.pad_sequence(audio, batch_first=True), expected)


def test_neighbours_in_a_batch_change_no_text_if_frames_are_padded_to_whole_stacks(
    sets, transcribing, model, monkeypatch
):
    """Without, they do: StackingSubsampling of NeMo 3.0 adds the padding of the batch to the length of every utterance."""
    audio = [transcribing.load_audio(cut, 16000) for cut in transcribing.read_cuts(sets["english"])]
    monkeypatch.setattr(model.preprocessor.featurizer, "pad_to", 0)
    alone, together = [transcribing.hear(model, [samples])[0] for samples in audio], transcribing.hear(model, audio)
    assert alone != together, "NeMo is mended: say so in transcribing.py"
    monkeypatch.setattr(model.preprocessor.featurizer, "pad_to", 16)
    assert [transcribing.hear(model, [samples])[0] for samples in audio] == transcribing.hear(model, audio)


@given(st.lists(st.floats(0.1, 40), min_size=1, max_size=30), st.floats(1, 100))
def test_batches_hold_every_cut_once_and_keep_to_their_size(transcribing, durations, limit):
    cuts = [SimpleNamespace(id=f"{number:02}", duration=duration) for number, duration in enumerate(durations)]
    batches = transcribing.make_batches(cuts, limit)
    assert sorted(cut.id for batch in batches for cut in batch) == [cut.id for cut in cuts]
    assert all(len(batch) == 1 or batch[0].duration * len(batch) <= limit for batch in batches)
    lengths = [cut.duration for batch in batches for cut in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_of_a_hybrid_model_the_transducer_is_heard(go, sets, tmp_path, transcribing):
    import lightning.pytorch as pl
    from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel
    from omegaconf import OmegaConf

    train_tokenizer([row["supervisions"][0]["text"] for row in read_rows(sets["english"], dict)], 64, tmp_path)
    config = transducer_config(tmp_path)
    config["preprocessor"]["pad_to"] = 0  # as NeMo's transcribe() sets it for itself
    decoder = model_config(ARCHITECTURE, tmp_path)["decoder"]
    config["aux_ctc"] = {"ctc_loss_weight": 0.3, "decoder": decoder, "decoding": {"strategy": "greedy"}}
    pl.seed_everything(0, verbose=False)
    model = EncDecHybridRNNTCTCBPEModel(OmegaConf.create(config))
    model.save_to(str(tmp_path / "hybrid.nemo"))
    (content,) = go(sets["english"], model=tmp_path / "hybrid.nemo", batch_duration=1000)
    rows = sorted(map(json.loads, content.splitlines()), key=lambda row: (-row["duration"], row["id"]))
    assert [row["pred_text"] for row in rows] == transcribe_with_nemo(model, rows)
    assert any(texts(content).values())
    for strategy in ("greedy", "beam", "maes_batch", "malsd_batch"):  # those that our message names
        beam = {} if strategy == "greedy" else {"beam": {"beam_size": 2, "maes_num_steps": 2}}
        transcribing.set_decoding(model, {"strategy": strategy} | beam)


# --- killed, and again ---

KILLED = """
import os, signal, sys
import transcribe as command
from nuptse.runtime import prepare_runtime
from nuptse.selection import Selection, select_utterances
prepare_runtime()
from nuptse import transcribing
hear, calls = transcribing.hear, []
def killed(*arguments):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return hear(*arguments)
transcribing.hear = killed
command.main(sys.argv[1:])
"""


def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    transcribing, go, sets, model_path, tmp_path, capsys, monkeypatch
):
    (whole,) = go(sets["english"], batch_duration=8)
    shutil.rmtree(tmp_path / "out")
    options = arguments(model_path, [sets["english"]], tmp_path / "out", batch_duration=8)
    environment = {"PYTHONPATH": str(ROOT / "scripts"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", KILLED, *options], env=environment, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert not (tmp_path / "out").exists()
    part = tmp_path / "out.partial" / "english.jsonl.part"
    assert part.read_bytes().count(b"\n") == 1 + 3
    with part.open("ab") as file:
        file.write(b'{"seconds":1,"texts":{"cut sh')
    capsys.readouterr()
    monkeypatch.setattr(transcribing, "PROGRESS_S", 0)
    assert go(sets["english"], batch_duration=8) == [whole]
    printed = capsys.readouterr().out
    assert (
        "of 16 utterances were done before" in printed
        and "16 of 16 utterances, " in printed
        and "x real time" in printed
    )
    assert not part.exists()


def test_a_job_waits_for_one_that_outlived_its_snakemake(go, sets, model_path, tmp_path):
    (whole,) = go(sets["english"])
    shutil.rmtree(tmp_path / "out")
    command = [
        sys.executable,
        ROOT / "scripts/transcribe.py",
        *arguments(model_path, [sets["english"]], tmp_path / "out"),
    ]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    printed = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], printed
    assert (tmp_path / "out" / "english.jsonl").read_bytes() == whole
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"english.jsonl", "english.json"}
    assert not (tmp_path / "out.partial").exists()


def test_two_jobs_never_write_one_transcript_of_own_audio(transcribing, tmp_path, monkeypatch):
    monkeypatch.setattr(command_audio, "folder_lock", functools.partial(folder_lock, patience_s=0.1))
    paths = {name: tmp_path / name for name in ("model", "cuts", "recordings")} | {"transcripts": tmp_path / "x.jsonl"}
    options = [f"--{name}={path}" for name, path in paths.items()]
    held = folder_lock(tmp_path, tmp_path / ".x.lock")
    with held, pytest.raises(UserError, match=f"is in the hands of process {os.getpid()}"):
        command_audio.main(options)
    with pytest.raises(UserError, match="cannot read .*cuts"):  # none is there
        command_audio.main(options)


def test_a_job_whose_transcripts_are_written_does_not_fail_afterwards(transcribing, sets, model_path, tmp_path):
    task = transcribing.Task(sets["english"], tmp_path / "x.jsonl")
    options = {"threads": 1, "batch_duration": 1000, "decoding": {}}
    transcribing.transcribe(model_path, [task], **options, publish=lambda task, *_: task.partial.unlink())


def test_what_is_done_counts_for_the_same_run_only(transcribing, tmp_path):
    done = [transcribing.Done(1.0, {"a": "x"}), transcribing.Done(2.0, {"b": "\u2028\n"})]
    transcribing.open_partial(tmp_path / "p", {"model": "1"}, done).close()
    assert transcribing.read_partial(tmp_path / "p", {"model": "1"}) == done
    assert transcribing.read_partial(tmp_path / "p", {"model": "2"}) == []
    (tmp_path / "empty").touch()
    assert transcribing.read_partial(tmp_path / "empty", {"model": "1"}) == []
    assert transcribing.read_partial(tmp_path / "none", {"model": "1"}) == []


# --- mistakes ---


@pytest.mark.parametrize("content", [None, b"", b"no audio at all"])
def test_audio_that_cannot_be_read_is_an_error_with_its_name(go, sets, tmp_path, content):
    rows = list(read_rows(sets["english"], dict))
    audio = tmp_path / "bad.flac"
    if content is not None:
        audio.write_bytes(content)
    rows[3]["recording"]["sources"][0]["source"] = str(audio)
    write_rows(tmp_path / "english.jsonl.gz", rows)
    with pytest.raises(UserError, match=rf"utterance {rows[3]['id']}: cannot read {audio}") as error:
        go(tmp_path / "english.jsonl.gz")
    assert "\n" not in str(error.value)


def test_audio_that_ends_too_early_is_an_error(go, sets, tmp_path):
    import soundfile

    rows = list(read_rows(sets["english"], dict))
    source = rows[0]["recording"]["sources"][0]
    samples, rate = soundfile.read(source["source"])
    source["source"] = str(tmp_path / "short.flac")
    soundfile.write(source["source"], samples[: len(samples) // 2], rate)
    write_rows(tmp_path / "english.jsonl.gz", rows)
    with pytest.raises(UserError, match=f"{rows[0]['id']}: cannot read .*short.flac"):
        go(tmp_path / "english.jsonl.gz")


@pytest.mark.parametrize("mistake", ["nothing", "twice", "no supervision"])
def test_cuts_that_are_no_utterances_are_refused(transcribing, sets, tmp_path, mistake):
    rows = list(read_rows(sets["english"], dict))[:2]
    rows = {"nothing": [], "twice": rows * 2, "no supervision": [rows[0] | {"supervisions": []}]}[mistake]
    write_rows(tmp_path / "c.jsonl.gz", rows)
    with pytest.raises(UserError, match="c.jsonl.gz"):
        transcribing.read_cuts(tmp_path / "c.jsonl.gz")


def test_a_file_that_is_no_model_is_refused(transcribing, tmp_path):
    (tmp_path / "m.nemo").write_text("no tar")
    with pytest.raises(UserError, match="m.nemo cannot be read as a NeMo speech recogniser"):
        transcribing.load_model(tmp_path / "m.nemo", "cpu")


def test_another_kind_of_model_is_refused(transcribing, monkeypatch):
    from nemo.collections.asr.models import ASRModel

    monkeypatch.setattr(ASRModel, "restore_from", lambda path, map_location: SimpleNamespace())
    with pytest.raises(UserError, match="m.nemo is a SimpleNamespace; only CTC, RNN-T and hybrid"):
        transcribing.load_model(Path("m.nemo"), "cpu")


def test_each_set_needs_its_outputs(capsys):
    with pytest.raises(SystemExit):
        command.main("--model m.nemo --cuts a b --names a --output-dir out".split())
    assert "as many --names as --cuts" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["greedy", "[1]", '"greedy"'])
def test_decoding_must_be_an_object(text):
    with pytest.raises(UserError, match="--decoding"):
        command.parse_decoding(text)


# --- decoding ---


def test_another_decoding_of_the_same_sense_gives_the_same_texts(go, sets):
    assert go(sets["english"], decoding='{"strategy": "greedy"}') == go(sets["english"])


def write_bigrams(path, texts, tokenizer):
    """Write a bigram model over the tokens as NeMo reads it: ARPA, each token as the character 100 + its number."""
    unigrams, bigrams = Counter(), Counter()
    for text in texts:
        tokens = ["<s>", *(chr(100 + token) for token in tokenizer.text_to_ids(text)), "</s>"]
        unigrams.update(tokens[1:])
        bigrams.update(pairwise(tokens))
    words = ["<unk>", "<s>", "</s>", *(chr(100 + token) for token in range(len(tokenizer.vocab)))]
    followers = {word: [count for (first, _), count in bigrams.items() if first == word] for word in words}
    backoff = {word: len(found) / (len(found) + sum(found)) if found else 1.0 for word, found in followers.items()}
    share = {word: (unigrams[word] + 0.5) / (unigrams.total() + 0.5 * len(words)) for word in words}
    lines = ["\\data\\", f"ngram 1={len(words)}", f"ngram 2={len(bigrams)}", "", "\\1-grams:"]
    lines += [f"{math.log10(share[word]):.6f}\t{word}\t{math.log10(backoff[word]):.6f}" for word in words]
    lines += ["", "\\2-grams:"]
    for (first, second), count in sorted(bigrams.items()):
        seen = (1 - backoff[first]) * count / sum(followers[first])
        lines.append(f"{math.log10(seen + backoff[first] * share[second]):.6f}\t{first} {second}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))


def test_a_language_model_over_the_tokens_lowers_the_error_rate(go, sets, transcribing, tmp_path, capsys):
    """The base model of the quickstart, on voices that it has not heard, with a bigram model of other transcripts."""
    import torch
    from nemo.collections.asr.metrics.wer import word_error_rate

    base = QUICKSTART / "base.nemo"
    with tarfile.open(QUICKSTART / "31" / "train-clean-5.tar.gz") as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith(".trans.txt")]
        lines = [line for file in files for line in file.read().decode().splitlines()]
    tokenizer = transcribing.load_model(base, torch.device("cpu")).tokenizer
    write_bigrams(tmp_path / "lm.arpa", [line.partition(" ")[2].lower() for line in lines], tokenizer)
    options = {"strategy": "beam_batch", "beam": {"beam_size": 8, "ngram_lm_model": str(tmp_path / "lm.arpa")}}

    def error_rate(decoding):
        (content,) = go(sets["english"], model=base, decoding=json.dumps(decoding))
        rows = [json.loads(line) for line in content.splitlines()]
        return word_error_rate([row["pred_text"] for row in rows], [row["text"] for row in rows])

    greedy = error_rate({})
    assert error_rate(options | {"beam": options["beam"] | {"ngram_lm_alpha": 0.5}}) < greedy - 0.05
    assert error_rate({"strategy": "greedy_batch", "greedy": {"ngram_lm_model": str(tmp_path / "lm.arpa"), "ngram_lm_alpha": 0.5}}) < greedy  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"strateg": "greedy"},
        {"strategy": "guess"},
        {"beam": {"beam_sise": 4}},
        {"temperature": "hot"},
        {"strategy": "flashlight"},
        {"strategy": "pyctcdecode"},
        {"strategy": "beam", "beam": {"kenlm_path": __file__}},
        {"strategy": "beam_batch", "beam": {"ngram_lm_model": __file__}},
    ],
)
def test_an_option_that_nemo_does_not_know_is_refused(transcribing, model_path, options):
    import torch

    with pytest.raises(UserError, match="`decoding` .* does not suit EncDecCTCModelBPE") as error:
        transcribing.set_decoding(transcribing.load_model(model_path, torch.device("cpu")), options)
    assert "\n" not in str(error.value)
