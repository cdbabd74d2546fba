"""Every finding of the doctor: found in a tiny broken corpus, named, and gone when exactly what it says is done."""

import copy
import io
import json
import os
import random
import re
import tarfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import doctor
import examine_experiment
import index_shards
import plan_shards
import tar_shards
from nuptse.audio_facts import AudioFacts
from nuptse.base_model import BaseModel, read_base_model
from nuptse.diagnosis import check_report
from nuptse.duration_bins import Source, plan_bins
from nuptse.durations import Durations
from nuptse.errors import UserError
from nuptse.filters import Filters
from nuptse.finding_codes import CODES
from nuptse.findings import read_report
from nuptse.jsonl import read_rows, write_rows
from nuptse.ledgers import Ledger
from nuptse.memory import machine_memory, training_bytes
from nuptse.plan import Plan
from nuptse.shard_findings import shard_findings
from nuptse.shard_ledger import repairs
from nuptse.text import apply_profile

ROOT = Path(__file__).parents[2]
BASE = ROOT / "resources/quickstart/base.nemo"
SCHEMA = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
WORDS = "the bird will sing at noon after rain in town and ten ships sail from home with bread for all".split()


def sentence(number):
    """A sentence of six words that no other number gives."""
    chance = random.Random(number)
    return " ".join([*chance.sample(WORDS, 5), WORDS[number % len(WORDS)], WORDS[number // len(WORDS) % len(WORDS)]])


class Corpus:
    """Rows of the splits of a corpus, which tests break; texts are as the corpus has them, before the profile."""

    def __init__(self, name, splits=("train", "dev", "test"), number=60):
        self.name, self.dropped, self.not_imported = name, {}, {}
        self.rows = {
            split: [
                {"id": f"{name}-{split}-{i:03}", "text": sentence(1000 * place + i), "duration": 2.5 + i % 7 / 10, "speaker": f"{name}-{split}-{i % 4}", "audio": {}}
                for i in range(number if split == "train" else number // 3)
            ]
            for place, split in enumerate(splits)
        }  # fmt: skip
        self.settings = {"recipe": "yesno", "folder": ".", "language": "en", "text": []}
        self.settings["splits"] = {split: split for split in splits}


class Study:
    """A configuration with one experiment on the corpora `a` and `b`, and the files that the doctor reads of it."""

    def __init__(self, folder):
        self.folder = folder
        self.corpora = {name: Corpus(name) for name in ("a", "b")}
        self.config = {
            "corpora": {},
            "models": {"base": {"url": str(BASE)}},
            "defaults": {
                "model": "base",
                "train": [{"corpus": "a"}],
                "validation": [{"corpus": "a"}],
                "test": [{"corpus": "a"}],
                "train_ds": {"batch_duration": 20, "num_buckets": 2, "num_workers": 0},
                "trainer": {"max_steps": 100, "val_check_interval": 50},
            },
            "experiments": {"x": {"layout": "cutset"}},
        }

    def apply(self, change):
        """Do what a finding says: set keys of the configuration, as an overlay would."""
        for key, value in change.items():
            *path, last = key.split(".")
            node = self.config
            for part in path:
                node = node.setdefault(part, {})
            node[last] = value

    def plan(self):
        blocks = self.config["corpora"]
        for name, corpus in self.corpora.items():
            blocks[name] = corpus.settings | blocks.get(name, {})
        return Plan(copy.deepcopy(self.config), SCHEMA, ROOT)

    def write(self, plan):
        """What the workflow would have made of the corpora, their text profiles and `on_bad_audio`."""
        manifests = self.folder / "data/manifests"
        for name, corpus in self.corpora.items():
            for split, rows in corpus.rows.items():
                ledger, cuts, facts = Ledger(name, split), [], []
                settings = plan.corpora[name]
                filters, only = Filters(settings["filters"]), settings["filters"]["splits"]
                for row in rows:
                    ledger.taken.add(row["duration"])
                    fact, text = audio_facts(row), apply_profile(row["text"], settings["text"])
                    reason = filters.reason(row, text, row["duration"])
                    if reason and (only is None or split in only):
                        ledger.drop(reason, row["duration"])
                        continue
                    if fact.error and plan.corpora[name]["on_bad_audio"] == "exclude":
                        ledger.quarantine(fact.error, row["duration"])
                        continue
                    ledger.keep(row["duration"])
                    cuts.append(cut(row, text))
                    facts.append(fact)
                for reason, number in corpus.dropped.items():
                    for _ in range(number):
                        ledger.taken.add(1.0)
                        ledger.drop(reason, 1.0)
                for reason, number in corpus.not_imported.items():
                    for _ in range(number):
                        ledger.taken.add(0.0)
                        ledger.quarantine(f"not imported: {reason}", 0.0)
                write_rows(manifests / f"{name}_cuts_{split}.jsonl.gz", cuts)
                write_rows(manifests / f"{name}_audio_{split}.jsonl.gz", facts)
                ledger.write(manifests / f"{name}_ledger_{split}.json")
        settings = plan.experiments["x"]
        train_ds = settings["train_ds"]
        sources = [
            Source(f"{e['corpus']}/{e['split']}", Durations.of([r["duration"] for r in self.corpora[e["corpus"]].rows[e["split"]]]), e.get("weight"))
            for e in settings["train"]
        ]  # fmt: skip
        limits = {key: train_ds[key] for key in ("min_duration", "max_duration", "perturb_speed")}
        bins = self.folder / "bins.json"
        bins.write_text(json.dumps(plan_bins(sources, train_ds["num_buckets"], **limits)))
        return bins

    def arguments(self, plan, bins):
        files = plan.examined_files("x")
        return [
            *("--settings", plan.examined_settings("x"), "--base", str(BASE), "--bins", str(bins)),
            *("--splits", *plan.examined_splits("x"), "--report", str(self.report)),
            *(word for key, paths in files.items() for word in (f"--{key}", *(str(self.folder / path) for path in paths))),
        ]  # fmt: skip

    @property
    def report(self):
        return self.folder / "x.json"

    def examine(self):
        """Run the command; return the findings that are not accepted, by code and subject."""
        plan = self.plan()
        examine_experiment.main(self.arguments(plan, self.write(plan)))
        self.read = read_report(self.report)
        return {(found.code, found.subject): found for found in self.read.findings if not found.accepted}


def audio_facts(row):
    seconds = dict.fromkeys(("duration_s", "declared_s", "header_s", "file_s", "cut_s"), row["duration"])
    sound = {"sampling_rate": 16000, "channels": 1, "rms_db": -20.0, "peak": 0.5, "digest": row["id"]}
    facts = {"id": row["id"], "audio": f"{row['id']}.wav", "start_s": 0.0, "declared_rate": 16000}
    return AudioFacts(**facts | seconds | sound | row["audio"])


def cut(row, text):
    recording = {"id": row["id"], "sources": [{"type": "file", "channels": [0], "source": f"{row['id']}.wav"}]}
    supervision = {
        "id": row["id"],
        "recording_id": row["id"],
        "text": text,
        "speaker": row["speaker"],
        "start": 0.0,
        "duration": row["duration"],
    }
    times = {"id": row["id"], "start": 0.0, "duration": row["duration"]}
    return times | {"recording": recording, "supervisions": [supervision], "type": "MonoCut"}


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_a_healthy_study_has_no_finding(study, capsys):
    assert study.examine() == {}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("x: healthy; 3 splits, 0.08 h; 100 steps see the training data 11")
    facts = {split["name"]: split for split in study.read.splits}
    assert facts["a/train"]["roles"] == ["train"]
    assert set(facts["a/train"]["speakers"]) == {f"a-train-{i}" for i in range(4)}
    assert facts["a/train"]["unknown_share"] == 0
    assert len({split["audio"] for split in facts.values()}) == 3
    assert study.read.base["pieces"] == 96 and study.read.base["encoder_frame_s"] == 0.04


# --- each way to break it, and what the finding says about it ---


def rows(study, corpus="a", split="train"):
    return study.corpora[corpus].rows[split]


def upper_case(study):
    for split in ("train", "dev", "test"):
        for row in rows(study, split=split):
            row["text"] = row["text"].upper()


def curly_quotes_and_accents(study):
    for row in rows(study)[::2]:
        row["text"] = row["text"].replace("e", "é") + " “noon”"


def unmendable_letters(study):
    for row in rows(study):
        row["text"] = "привет мир " + row["text"]


def empty_text(study):
    rows(study)[5]["text"] = " "


def no_transcripts(study):
    study.corpora["a"].dropped = {"no transcript": 10}


def behind_the_audio(study):
    study.corpora["a"].not_imported = {"it begins behind the end of its audio": 90, "_skipme": 7}


def short_clip(study):
    rows(study)[7].update(duration=0.2, text="the ten ships sail from home with bread for all")


def hardly_any_text(study):
    rows(study)[9].update(duration=60.0, text="rain")
    study.config["defaults"]["train_ds"]["batch_duration"] = 100


def same_id(study):
    rows(study)[3]["id"] = rows(study)[2]["id"]


def same_audio(study):
    rows(study)[3]["audio"] = {"digest": "same"}
    rows(study)[4]["audio"] = {"digest": "same"}
    rows(study)[4]["text"] = rows(study)[3]["text"]


def audio_in_train_and_test(study):
    rows(study)[3]["audio"] = rows(study, split="test")[0]["audio"] = {"digest": "same"}


def trained_on_the_test_split(study):
    study.config["defaults"]["test"] = [{"corpus": "a", "split": "train"}]


def same_sentences(study):
    for known, row in zip(rows(study), rows(study, split="test"), strict=False):
        row["text"] = known["text"]


def same_speakers(study):
    for row in rows(study, split="dev"):
        row["speaker"] = rows(study)[0]["speaker"]


def one_speaker_for_most(study):
    for row in rows(study)[8:]:
        row["speaker"] = rows(study)[0]["speaker"]


def missing_audio(study):
    rows(study)[0]["audio"] = {"error": "missing"}


def clipped_audio(study):
    rows(study)[0]["audio"] = {"clipped": 0.5}


def trainer(study, **values):
    study.config["defaults"]["trainer"] |= values


def long_warmup(study):
    study.config["defaults"]["optim"] = {"sched": {"warmup_steps": 80}}


def few_steps(study):
    trainer(study, max_steps=4, val_check_interval=2)


def many_steps(study):
    trainer(study, max_steps=10000, val_check_interval=5000)


def longer_than_a_batch(study):
    rows(study)[0].update(duration=25.0, text=" ".join(WORDS * 4))


def many_buckets(study):
    for place, row in enumerate(rows(study)):
        row["duration"] += place / 100
    study.config["defaults"]["train_ds"]["num_buckets"] = 40


def small_window(study):
    study.config["defaults"]["train_ds"] |= {"num_buckets": 2, "bucket_buffer_size": 2, "batch_duration": 10}


def short_limit(study):
    study.config["defaults"]["train_ds"]["max_duration"] = 3.0


def one_validation(study):
    trainer(study, val_check_interval=100)


def many_validations(study):
    trainer(study, val_check_interval=1)


def small_memory(study):
    study.config["doctor"] = {"memory_gb": 0.05}


def one_corpus_with_capitals(study):
    study.config["defaults"]["train"] = [{"corpus": "a"}, {"corpus": "b"}]
    for row in rows(study, "b"):
        row["text"] = row["text"].capitalize() + "."


BROKEN = {
    "unknown_characters a/train error": upper_case,
    "unknown_characters a/train error ": curly_quotes_and_accents,
    "dropped_utterances a/train warning": no_transcripts,
    "dropped_utterances a/train warning ": behind_the_audio,
    "too_short_for_ctc a/train error": short_clip,
    "too_much_text a/train warning": short_clip,
    "too_little_text a/train warning": hardly_any_text,
    "shared_text a/test warning": same_sentences,
    "shared_speakers a/dev warning": same_speakers,
    "uneven_speakers a/train note": one_speaker_for_most,
    "audio_missing a/train error": missing_audio,
    "audio_clipped a/train warning": clipped_audio,
    "long_warmup x warning": long_warmup,
    "few_passes x note": few_steps,
    "many_passes x warning": many_steps,
    "long_utterances x warning": longer_than_a_batch,
    "starved_buckets x warning": many_buckets,
    "starved_buckets x warning ": small_window,
    "duration_limits a/train warning": short_limit,
    "rare_validation x note": one_validation,
    "costly_validation x note": many_validations,
    "much_memory x warning": small_memory,
    "mixed_style x warning": one_corpus_with_capitals,
}


@pytest.mark.parametrize(("name", "break_it"), BROKEN.items(), ids=BROKEN)
def test_a_finding_is_mended_by_exactly_what_it_says(study, name, break_it):
    break_it(study)
    code, subject, severity = name.split()
    found = study.examine()[code, subject]
    assert found.severity == severity
    assert found.change, found.remedy
    study.apply(found.change)
    again = study.examine()
    assert (code, subject) not in again
    assert not any(other.severity == "error" for other in again.values()) or code == "unknown_characters"


# --- findings whose remedy is not a key of the configuration: done by hand as it says ---


def test_letters_that_no_step_mends_want_another_model(study):
    unmendable_letters(study)
    found = study.examine()["unknown_characters", "a/train"]
    assert found.severity == "error" and found.change == {}
    assert "take another model" in found.remedy
    assert "'р'" in found.message and "привет" in found.message
    assert [example.id for example in found.examples] == ["a-train-000", "a-train-001", "a-train-002"]
    assert found.examples[0].where.endswith("a_cuts_train.jsonl.gz:1")


def test_digits_are_spelt_out_where_that_is_known(study):
    rows(study)[0]["text"] += " 7"
    found = study.examine()["unknown_characters", "a/train"]
    assert found.severity == "warning" and found.change == {"corpora.a.text": ["numbers"]}
    study.apply({"corpora.a.language": "xx"})
    found = study.examine()["unknown_characters", "a/train"]
    assert found.change == {} and "spell the numbers out" in found.remedy


def test_an_apostrophe_that_is_unknown_can_go(study):
    rows(study)[0]["text"] += " don't don’t"
    found = study.examine()["unknown_characters", "a/train"]
    assert found.change == {"corpora.a.text": [{"map": {"'": "", "’": ""}}]}
    study.apply(found.change)
    assert study.examine() == {}


def test_few_unknown_characters_may_spoil_many_words(study):
    for row in rows(study):
        first, *rest = row["text"].split()
        row["text"] = " ".join([first.capitalize(), *rest[:8]])
    found = study.examine()["unknown_characters", "a/train"]
    assert found.severity == "error"
    assert found.change == {"corpora.a.text": ["lower"]}
    study.apply(found.change)
    assert study.examine() == {}


def test_a_short_answer_with_pauses_is_no_missing_text(study):
    rows(study)[9].update(duration=2.4, text="ay me")
    assert study.examine() == {}


def test_a_model_from_scratch_learns_letters_from_lines(study):
    unmendable_letters(study)
    plan = study.plan()
    settings = json.loads(plan.examined_settings("x")) | {
        "tokenizer_of": "models.base.from_scratch.tokenizer",
        "tokenizer_text": ["a line"],
    }
    arguments = study.arguments(plan, study.write(plan))
    arguments[1] = json.dumps(settings)
    examine_experiment.main(arguments)
    (found,) = read_report(study.report).findings
    assert found.change == {"models.base.from_scratch.tokenizer.text": ["a line", "".join(sorted(set("приветмир")))]}


def test_empty_text(study):
    empty_text(study)
    found = study.examine()["empty_text", "a/train"]
    assert found.severity == "error" and found.count == 1
    del rows(study)[5]  # what running again does
    assert study.examine() == {}


def test_shards_that_are_used_as_they_are_are_mended_in_their_manifests(study):
    upper_case(study)
    empty_text(study)
    plan = study.plan()
    arguments = [word for word in study.arguments(plan, study.write(plan)) if "/a_audio_" not in word]
    examine_experiment.main(arguments)
    found = {finding.code: finding for finding in read_report(study.report).findings if finding.subject == "a/train"}
    for code in ("unknown_characters", "empty_text"):
        assert found[code].change == {}, "the configuration would refuse it"
        assert found[code].remedy.startswith("mend the manifests of `nemo_shards`")


def test_more_text_than_can_be_said(study):
    short_clip(study)
    found = study.examine()["too_much_text", "a/train"]
    assert found.count == 1 and found.examples[0].id == "a-train-007"
    assert "usual is" in found.message
    rows(study)[7]["duration"] = 3.0
    assert study.examine() == {}


def test_less_text_than_is_said(study):
    hardly_any_text(study)
    found = study.examine()["too_little_text", "a/train"]
    assert found.count == 1 and found.examples[0].text == "rain"
    del rows(study)[9]
    study.config["defaults"]["train_ds"]["batch_duration"] = 20
    assert study.examine() == {}


def test_one_id_twice(study):
    same_id(study)
    found = study.examine()["repeated_ids", "a/train"]
    assert found.severity == "error" and found.examples[0].id == "a-train-002"
    rows(study)[3]["id"] = "another"
    assert study.examine() == {}


def test_one_audio_twice(study):
    same_audio(study)
    found = study.examine()["repeated_audio", "a/train"]
    assert found.severity == "warning" and [example.id for example in found.examples] == ["a-train-004"]
    rows(study)[4]["text"] = "something else was said"
    found = study.examine()["repeated_audio", "a/train"]
    assert found.severity == "error" and "1 of them with another transcript" in found.message
    del rows(study)[4]
    assert study.examine() == {}


def test_equal_hashes_of_different_texts_are_no_finding(study, monkeypatch):
    monkeypatch.setattr("nuptse.surveys.fingerprints", lambda values: np.zeros(len(values), dtype=np.int64))
    assert {code for code, _ in study.examine()} <= {"shared_text"}, "a warning is by the hashes alone"
    same_id(study)
    rows(study)[3]["audio"] = rows(study, split="test")[0]["audio"] = {"digest": "same"}
    found = study.examine()
    assert found["repeated_ids", "a/train"].count == found["leaked_audio", "a/test"].count == 1


def test_audio_of_the_training_in_the_test(study):
    audio_in_train_and_test(study)
    found = study.examine()["leaked_audio", "a/test"]
    assert found.severity == "error" and found.count == 1 and found.of == 20
    del rows(study)[3]
    assert study.examine() == {}


def test_a_test_on_the_training_itself(study):
    trained_on_the_test_split(study)
    found = study.examine()["leaked_audio", "a/train"]
    assert found.count == found.of == 60
    assert "name another split in place of a/train under train, validation or test of x" in found.remedy
    study.config["defaults"]["test"] = [{"corpus": "a", "split": "test"}]
    assert study.examine() == {}


def test_a_few_sentences_that_all_say_are_only_noted(study):
    for split in ("train", "test"):
        for place, row in enumerate(rows(study, split=split)):
            row["text"] = sentence(place % 10)
    assert study.examine()["shared_text", "a/test"].severity == "note"


def test_a_corpus_of_one_speaker_is_only_noted(study):
    for split in ("train", "dev", "test"):
        for row in rows(study, split=split):
            row["speaker"] = "the one"
    assert study.examine()["shared_speakers", "a/test"].severity == "note"


def test_a_base_model_with_capitals_unlearns_them(study, tmp_path, monkeypatch):
    class Cased:
        vocabulary, unknown = list("abcABC.,"), -1

        def encode(self, texts):
            return [[0] * len(text) for text in texts]

    monkeypatch.setattr("nuptse.base_model._tokenizer", lambda *_: Cased())
    study.corpora["a"].settings["text"] = ["lower", "strip_punctuation"]
    for row in rows(study):
        row["text"] = row["text"].capitalize() + "."
    found = study.examine()["other_style", "a/train"]
    assert found.change == {"corpora.a.text": []}
    study.apply(found.change)
    assert ("other_style", "a/train") not in study.examine()


def test_a_tokenizer_of_many_languages_is_said_not_to_be_read(study, monkeypatch):
    monkeypatch.setattr("nuptse.base_model._tokenizer", lambda *_: None)
    found = study.examine()["unread_tokenizer", "x"]
    assert found.severity == "note"
    study.apply(found.change)
    assert study.examine() == {}


def test_a_small_corpus_in_a_mix_is_counted_by_its_weight(study):
    study.corpora["b"].rows["train"] = rows(study, "b")[:5]
    study.config["defaults"]["train"] = [{"corpus": "a", "weight": 0.5}, {"corpus": "b", "weight": 0.5}]
    study.config["doctor"] = {"most_passes": 60}
    found = study.examine()["many_passes", "x"]
    assert "each utterance of b/train is seen" in found.message and "lower the weight" in found.remedy
    a, b = study.read.plan["sources"]
    assert b["passes"] == pytest.approx(12 * a["passes"], rel=0.01) and a["weight"] == b["weight"] == 0.5


def test_audio_that_nobody_decoded_and_cuts_without_recordings(study):
    """As of tar shards that are used as they are."""
    plan = study.plan()
    arguments = study.arguments(plan, study.write(plan))
    place = arguments.index("--audio")
    arguments[place : place + 4] = []
    for split in ("train", "dev", "test"):
        cuts = study.folder / f"data/manifests/a_cuts_{split}.jsonl.gz"
        write_rows(
            cuts, [{key: value for key, value in row.items() if key != "recording"} for row in read_rows(cuts, dict)]
        )
    examine_experiment.main(arguments)
    assert read_report(study.report).findings == []


# --- shards ---


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Real shards, six utterances in three of them; call it again to write lost ones as the workflow does."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for number in range(6):
        Path(f"u{number}.wav").write_bytes(bytes([number]) * 1000)
        lines.append({"id": f"u{number}", "audio_filepath": f"u{number}.wav", "duration": 1.0, "text": "yes"})
    write_rows(Path("m.json"), lines)
    plan_shards.main("--manifest m.json --num-shards 3 --seed 1 --plan plan.bin".split())
    tar = "--manifest m.json --plan plan.bin --group 0 --shards-per-job 4 --output-dir out --ledger out/ledger/0.json"
    index = "--plan plan.bin --output-dir out --ledger out/ledger.json --group-ledger out/ledger/0.json"

    def write():
        tar_shards.main([*tar.split(), "--repair", json.dumps(repairs(Path("out/ledger/0.json")))])
        index_shards.main(index.split())
        return Path("out/ledger.json")

    return write


def test_whole_shards_have_no_finding(shards):
    assert list(shard_findings("a/train", shards())) == []


def swap(first, second):
    aside = first.with_suffix(".aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


@pytest.mark.parametrize("hashed", [10**9, 0], ids=["by checksum", "by names"])
def test_swapped_tars_are_found_and_written_again(shards, hashed, monkeypatch):
    monkeypatch.setattr("nuptse.shard_findings.HASHED_BYTES", hashed)
    ledger = shards()
    before = Path("out/audio_0.tar").read_bytes()
    assert len(before) == Path("out/audio_1.tar").stat().st_size, "their sizes tell nothing"
    swap(Path("out/audio_0.tar"), Path("out/audio_1.tar"))
    (found,) = shard_findings("a/train", ledger)
    assert found.code == "damaged_shards" and found.severity == "error" and found.count == 2
    assert found.share_of_hours == pytest.approx(2 / 3, abs=1e-5)
    named = found.remedy.removeprefix("delete ").partition(", and run again")[0].split(", ")
    assert named == ["out/audio_0.tar", "out/audio_1.tar"]
    for file in named:
        Path(file).unlink()
    assert list(shard_findings("a/train", shards())) == []
    assert Path("out/audio_0.tar").read_bytes() == before


def test_a_lost_shard_and_a_cut_one(shards):
    ledger = shards()
    Path("out/audio_0.tar").unlink()
    Path("out/audio_2.tar").write_bytes(b"cut")
    (found,) = shard_findings("a/train", ledger)
    assert [example.id for example in found.examples] == ["audio_0.tar", "audio_2.tar"]


# --- accepting, and what stops ---


def test_an_accepted_finding_stays_in_the_report_and_stops_nothing(study, capsys):
    upper_case(study)
    study.examine()
    with pytest.raises(UserError, match="the doctor found errors in x: mend them") as refused:
        check_report(study.report)
    for words in ("ERROR unknown_characters a/train: 60 of 60, 100.00% of the hours", 'corpora.a.text: ["lower"]'):
        assert words in str(refused.value)
    study.apply({"doctor.accept": ["unknown_characters:a/train", "unknown_characters:a/dev"]})
    assert study.examine().keys() == {("unknown_characters", "a/test")}
    study.apply({"doctor.accept": ["unknown_characters"]})
    assert study.examine() == {}
    assert len(study.read.findings) == 3
    assert "x: healthy (3 accepted);" in capsys.readouterr().out
    check_report(study.report)


def test_the_doctor_shows_all_experiments_and_each_finding_once(study, tmp_path, capsys):
    upper_case(study)
    study.examine()
    report = json.loads(study.report.read_text())
    well = report | {"experiment": "well", "findings": []}
    for name, content in (("y", report | {"experiment": "y"}), ("well", well)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    capsys.readouterr()
    with pytest.raises(UserError, match="the doctor found errors in x, y: mend them"):
        doctor.main(["--reports", *(str(tmp_path / f"{name}.json") for name in ("x", "well", "y"))])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(";")[0] for line in lines[:3]] == ["x: 3 errors", "well: healthy", "y: 3 errors"]
    assert sum("ERROR unknown_characters a/train" in line for line in lines) == 1
    assert sum("(in x, y)" in line for line in lines) == 3
    doctor.main(["--reports", str(tmp_path / "well.json")])


def test_a_report_of_another_form_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="x.json is not of the form that this version writes"):
        check_report(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("shared_txt", r"`doctor.accept\[0\]` names the finding 'shared_txt', which does not exist; did you mean `shared_text`"),
        ("shared_text:a/tets", r"`doctor.accept\[0\]` is about 'a/tets', which is neither .*; did you mean `a/test`"),
        ("long_warmup:xx", "is about 'xx', which is neither a corpus/split nor an experiment"),
    ],
)  # fmt: skip
def test_what_cannot_be_accepted_is_refused(study, entry, message):
    study.config["doctor"] = {"accept": [entry]}
    with pytest.raises(UserError, match=message):
        study.plan()


def test_an_acceptance_examines_only_those_that_it_concerns(study):
    study.config["experiments"]["y"] = {"layout": "cutset", "test": []}
    before = {name: study.plan().examined_settings(name) for name in "xy"}
    study.config["doctor"] = {"accept": ["shared_text:a/test"]}
    after = {name: study.plan().examined_settings(name) for name in "xy"}
    assert after["y"] == before["y"] and after["x"] != before["x"]


def test_every_finding_has_a_test():
    tested = {name.split()[0] for name in BROKEN}
    here = Path(__file__).read_text().partition("# --- findings whose remedy")[2]
    audio = {code for code in CODES if code.startswith("audio_")}
    assert {code for code in CODES if code in here} | tested | audio >= CODES.keys()


# --- the base model ---


def test_a_base_model_is_read_without_nemo():
    model = read_base_model(BASE)
    assert model.is_ctc and model.subsampling == 4 and model.parameters == pytest.approx(940_000, rel=0.02)
    assert model.encoder_frames(np.array([1.0, 0.2, 0.0])).tolist() == [25, 5, 0]
    assert model.tokenizer.encode(["the"]) == [[3]]


def test_no_model(tmp_path):
    (tmp_path / "a.nemo").write_bytes(b"no tar")
    with pytest.raises(UserError, match="a.nemo"):
        read_base_model(tmp_path / "a.nemo")


@pytest.mark.parametrize("name", ["EncDecMultiTaskModel", "EncDecRNNTBPEModelWithPrompt", "EncDecRNNTBPEModel"])
def test_a_base_model_of_another_kind_is_refused(study, tmp_path, name):
    """Canary reads like any other, and would end its training in a traceback, after the wait for a GPU."""
    study.corpora["a"] = Corpus("a")
    config = yaml.safe_dump({"target": f"nemo.collections.asr.models.its_file.{name}"}).encode()
    with tarfile.open(tmp_path / "canary.nemo", "w") as archive:
        header = tarfile.TarInfo("./model_config.yaml")
        header.size = len(config)
        archive.addfile(header, io.BytesIO(config))
    plan = study.plan()
    arguments = study.arguments(plan, study.write(plan))
    arguments[arguments.index("--base") + 1] = str(tmp_path / "canary.nemo")
    usable = name == "EncDecRNNTBPEModel"
    with (
        nullcontext()
        if usable
        else pytest.raises(UserError, match=f"canary.nemo is a {name}; only CTC, RNN-T and hybrid models can be used")
    ):
        examine_experiment.main(arguments)


def test_a_hundred_thousand_utterances_take_seconds(study):
    study.corpora["a"] = Corpus("a", number=100_000)
    plan = study.plan()
    arguments = study.arguments(plan, study.write(plan))
    started = time.monotonic()
    examine_experiment.main(arguments)
    assert time.monotonic() - started < 30, "a few seconds on an idle machine"


def conformer(width, layers, subsampling, factor, bands=80, parameters=0):
    encoder = {"d_model": width, "n_layers": layers, "n_heads": 4, "feat_in": bands, "subsampling_conv_channels": width}
    encoder |= {"subsampling": subsampling, "subsampling_factor": factor}
    return BaseModel(Path("a.nemo"), {"encoder": encoder}, None, 4 * parameters)


@pytest.mark.parametrize(
    ("model", "longest_s", "measured"),
    [
        (conformer(176, 4, "striding", 4), 10, 512e6),
        (conformer(176, 8, "striding", 4), 10, 799e6),
        (conformer(176, 4, "striding", 4), 20, 585e6),
        (conformer(256, 4, "striding", 4), 10, 710e6),
        (conformer(176, 4, "dw_striding", 8), 10, 386e6),
        (conformer(96, 4, "stacking", 4, bands=40), 4, 158e6),
    ],
)
def test_the_estimate_of_activations_is_near_what_was_measured(model, longest_s, measured):
    """What autograd kept of one forward pass of NeMo 3.0 on 60 s of audio, all utterances of one length."""
    assert training_bytes(model, 60, longest_s, "32-true") == pytest.approx(measured, rel=0.1)


def test_local_attention_looks_at_the_widest_of_its_contexts():
    def estimate(context, longest_s=100):
        model = conformer(176, 4, "striding", 4)
        model.encoder.update(self_attention_model="rel_pos_local_attn", att_context_size=context)
        return training_bytes(model, 600, longest_s, "32-true")

    assert estimate([70, 13]) < estimate([128, 128])
    assert estimate([[70, 13], [128, 128], [0, 0]]) == estimate([128, 128])
    assert estimate([128, 128]) == estimate([128, 128], 200) and estimate([-1, 0]) < estimate([-1, 0], 200)


def nvidia_smi(folder, monkeypatch, script):
    """Put a command of this name into the path, before all others."""
    folder.mkdir(exist_ok=True)
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_only_the_gpus_that_this_process_may_use_count(tmp_path, monkeypatch):
    """nvidia-smi itself shows all GPUs: a display card beside the others would be the smallest."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    script = "case $* in *MIG*) exit 6;; *--id=1,2) echo 80000; echo 81000;; *--id=*) exit 2;; *) echo 2000; echo 80000;; esac"
    nvidia_smi(tmp_path / "bin", monkeypatch, script)
    assert machine_memory() == (2000 * 2**20, "the GPU")
    for chosen in ("1,2", "1, 2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert machine_memory() == (80000 * 2**20, "the GPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert machine_memory() is None, "it has a part of a GPU, and neither all of it nor that of the machine"
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert machine_memory()[1] == "this machine"


def test_a_slurm_job_without_a_gpu_tells_nothing_of_the_one_that_trains(study, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    nvidia_smi(tmp_path / "bin", monkeypatch, "exit 9")
    found = study.examine()["unknown_memory", "x"]
    assert (found.severity, found.remedy) == (
        "note",
        "set `doctor.memory_gb` to the memory of the GPU, or of the machine, that trains",
    )
    assert re.search(r"a batch takes about [0-9.]+ GB by a rough estimate; how much memory there is", found.message)
    study.config["doctor"] = {"memory_gb": 80}
    assert study.examine() == {}


def test_an_unknown_encoder_has_no_estimate():
    assert training_bytes(BaseModel(Path("a.nemo"), {"encoder": {"jasper": []}}, None, 4), 60, 10, "32-true") is None


@given(st.integers(0, 10**7), st.floats(-2e-6, 2e-6))
def test_frames_are_those_of_the_length_rounded_to_six_digits_of_a_hop(hops, more):
    seconds = max(0.0, (hops + more) * 0.01)
    frames = int(round(seconds / 0.01, 6))
    assert conformer(176, 4, "stacking", 1).encoder_frames(seconds) == frames


def test_frames_are_those_of_nemo():
    assert conformer(176, 4, "striding", 4).encoder_frames(1.01) == 26, "convolutions round up"
    assert conformer(176, 4, "stacking", 4).encoder_frames(1.03) == 25, "stacking rounds down"
    assert conformer(176, 4, "dw_striding", 8).encoder_frames(1.01) == 13
    jasper = {"encoder": {"jasper": [{"stride": [2]}, {"stride": [1]}, {"stride": [2]}]}}
    assert BaseModel(Path("a.nemo"), jasper, None, 4).subsampling == 4
