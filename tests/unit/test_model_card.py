"""A model card says what was measured, the Hub's library reads it back, and no name in it becomes markup."""

import copy
import json
import socket

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

import write_model_card as command
from nuptse.errors import UserError
from nuptse.jsonl import write_rows
from nuptse.model_card import as_code, as_text

HOSTILE = "a|b`c\n---\n# <script>alert(1)</script> *x* {{ 7*7 }} [l](http://e)"
RATES = {"length": 100, "substitutions": 10, "deletions": 5, "insertions": 1, "rate": 0.16, "low": 0.1, "high": 0.25}
FACTS = {
    "experiment": "mine",
    "license": None,
    "base": {
        "name": "conformer",
        "source": "pretrained",
        "pretrained": "nvidia/stt_en_conformer_ctc_small",
        "adapted": False,
    },
    "languages": {"speech": "pt-BR"},
    "text": {"speech": ["lower", {"replace": {"’": "'"}}]},
    "datasets": ["someone/speech-corpus"],
    "validation": [{"corpus": "speech", "split": "dev"}],
    "layout": "cutset",
    "batch_duration": 60,
    "optim": {"name": "adamw", "lr": 0.004, "sched": {"name": "CosineAnnealing", "warmup_steps": 10}},
    "precision": "32-true",
    "decoding": {},
}
TRAIN = {
    "global_step": 100,
    "best": {"step": 50, "val_wer": 0.16},
    "audio_seconds": 3693.6,
    "utterances": 1139,
    "sources": [{"name": "speech/train", "weight": 1.0, "too_short": 0.0, "too_long": 2.0}],
    "seed": 0,
    "data_fingerprint": "f" * 64,
    "model_sha256": "a" * 64,
    "hardware": {"device": "CPU", "threads": 2},
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "commit": None,
    "effective_batch": {"devices": 1, "accumulate_grad_batches": 1, "audio_seconds": 36.9, "utterances": 11.39},
    "seconds": 51.1,
}


def score(recogniser, split, **rates):
    words = RATES | rates
    return {"recogniser": recogniser, "corpus": "speech", "split": split, "normalizer": "lower", "utterances": 54, "hours": 0.05, "words": words, "characters": words | {"rate": 0.0512345}}  # fmt: skip


def utterance(text, speaker="s1"):
    return {"duration": 300.0, "supervisions": [{"text": text, "speaker": speaker, "language": "pt-BR"}]}


@pytest.fixture
def write(tmp_path):
    """Write a card by the command; return its path."""

    def run(facts=FACTS, train=TRAIN, utterances=("olá a|b", "é isso"), speakers=("s1", "s2"), configfiles=(), **rates):
        for name, content in {
            "train": train,
            "ledger": {
                "corpus": "speech",
                "split": "train",
                "dropped": {"no transcript": {"utterances": 3}},
                "quarantined": {"bad audio: silent": {"utterances": 2}},
            },
            **{f"{who}_{split}": score(who, split, **rates) for who in ("mine", "base") for split in ("dev", "test")},
        }.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        write_rows(tmp_path / "cuts.jsonl.gz", map(utterance, utterances, speakers))
        template = command.__file__.replace("write_model_card.py", "nuptse/model_card.md.jinja")
        scores = {who: [str(tmp_path / f"{who}_{split}.json") for split in ("dev", "test")] for who in ("mine", "base")}
        command.main([
            *("--facts", json.dumps(facts), "--train", str(tmp_path / "train.json")),
            *("--cuts", str(tmp_path / "cuts.jsonl.gz"), "--ledgers", str(tmp_path / "ledger.json")),
            *("--scores", *scores["mine"], "--base-scores", *scores["base"]),
            *("--configfile", *configfiles),
            *("--template", template, "--card", str(tmp_path / "README.md")),
        ])  # fmt: skip
        return tmp_path / "README.md"

    return run


def test_the_hub_reads_it_back_without_the_network(write, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    path = write()
    card = ModelCard.load(path)
    assert card.data.language == ["pt"] and card.data.library_name == "nemo"
    assert card.data.pipeline_tag == "automatic-speech-recognition" and card.data.datasets == ["someone/speech-corpus"]
    assert card.data.base_model == "nvidia/stt_en_conformer_ctc_small"
    assert [(r.dataset_split, r.metric_type, r.metric_value, r.dataset_args) for r in card.data.eval_results] == [
        (split, metric, value, {"language": "pt-BR"})
        for split in ("dev", "test")
        for metric, value in (("wer", 16.0), ("cer", 5.1235))
    ]
    assert metadata_load(path)["model-index"][0]["name"] == "mine"
    assert str(card) == path.read_text(), "what the Hub's library reads it writes"


def test_same_input_same_bytes(write):
    assert write().read_bytes() == write().read_bytes()


def test_the_body_says_what_is_known(write):
    text = " ".join(write().read_text().split())
    assert "fine-tuned in 100 steps on 61.6 min of audio" in text
    assert "| speech | train | pt-BR | 2 | 10.0 min | 2 | 100.0 % |" in text
    assert "Left out of speech/train before the training: 3 utterances (no transcript)." in text
    assert "Left out of speech/train before the training: 2 utterances (bad audio: silent)." in text
    assert "Left out of speech/train by the duration limits: 0 utterances that are too short, 2 too long." in text
    assert (
        "| speech | dev | the checkpoint was chosen on it | 54 | 16.0 % (10.0 to 25.0) | 16.0 % (10.0 to 25.0) |"
        in text
    )
    assert "| speech | test | nothing was chosen on it | 54 |" in text
    assert "the weights are those of step 50" in text and "a" * 64 in text
    assert "consist of 9 characters besides spaces, lower case only: `abilos|áé`" in text
    assert '`["lower", {"replace": {"’": "\'"}}]`' in text
    assert "were normalised before scoring: `lower`" in text


def test_the_commands_name_the_configuration_files_last(write):
    text = write(configfiles=("config/test.yaml", "/home/me/my own.yaml")).read_text()
    files = "--configfile test.yaml 'my own.yaml'"
    assert f"\nsnakemake results/mine/README.md --cores 8 {files}\n" in text
    # Each of these options takes all words up to the next one.
    assert f"\nsnakemake transcripts/mine.jsonl --cores 2 {files} --config audio=path/to/recordings\n" in text
    assert "/home" not in text
    assert "configfile" not in write().read_text()


def test_a_licence_is_stated_or_asked_for(write):
    assert "No licence is stated" in write().read_text()
    path = write(FACTS | {"license": "cc-by-4.0"})
    assert ModelCard.load(path).data.license == "cc-by-4.0"
    assert "No licence is stated" not in path.read_text()


@pytest.mark.parametrize(
    ("base", "named"),
    [
        ({"source": "pretrained", "pretrained": "stt_en_conformer"}, None),
        ({"source": "url", "pretrained": ""}, None),
        ({"source": "from_scratch", "pretrained": ""}, None),
        ({"source": "pretrained", "pretrained": "a/b"}, "a/b"),
    ],
)
def test_only_a_base_of_the_hub_is_named_in_the_head(write, base, named):
    assert ModelCard.load(write(FACTS | {"base": {"name": "m", "adapted": False} | base})).data.base_model == named


def test_a_tokenizer_of_its_own_is_told(write):
    base = {"name": "german", "source": "pretrained", "pretrained": "a/b", "adapted": True}
    card = ModelCard.load(write(FACTS | {"base": base}))
    assert card.data.base_model == "a/b"
    assert "`german` (`a/b`) with a tokenizer of its own and a new decoder, fine-tuned in" in " ".join(
        card.text.split()
    )


def test_only_datasets_of_the_hub_are_named_in_the_head(write):
    text = write(FACTS | {"datasets": []}).read_text()
    assert "datasets:" not in text, "the Hub would take the name of a corpus of one's own for somebody's dataset"


def test_a_rate_without_an_interval_is_told(write):
    assert "| nothing was chosen on it | 54 | 16.0 % | 16.0 % |" in write(low=None, high=None).read_text()


def test_a_batch_is_that_of_each_device_and_of_a_step(write):
    text = write().read_text()
    assert (
        "| batch | 60 s of audio |\n| effective batch | 37 s of audio, 11.4 utterances on average in a step |" in text
    )
    step = {"devices": 4, "accumulate_grad_batches": 2, "audio_seconds": 470.0, "utterances": 120.0}
    text = write(train=TRAIN | {"effective_batch": step}).read_text()
    assert "| batch | 60 s of audio on each device |\n| effective batch | 7.8 min of audio, 120 utterances" in text
    assert "in a step, on 4 devices, 2 batches accumulated on each |" in text
    earlier = {key: value for key, value in TRAIN.items() if key != "effective_batch"}
    assert "| batch | 60 s of audio |\n| optimizer |" in write(train=earlier).read_text()


def test_a_third_of_an_utterance_is_not_none(write):
    sources = [{"name": "speech/train", "weight": 1.0, "too_short": 1 / 3, "too_long": 2.0}]
    text = write(train=TRAIN | {"sources": sources}).read_text()
    assert "0.3 utterances that are too short, 2 too long (of the three speeds of an utterance each counts" in text


def test_what_is_not_known_is_not_made_up(write):
    text = write(speakers=("s1", None), rate=None).read_text()
    assert "| not known |" in text and "| – |" in text
    assert ModelCard.load(write(rate=None)).data.eval_results[0].metric_type == "cer"


def test_no_name_becomes_markup(write):
    train = copy.deepcopy(TRAIN)
    train["hardware"]["device"] = HOSTILE
    train["versions"]["python"] = HOSTILE
    facts = FACTS | {"base": {"name": HOSTILE, "source": "pretrained", "pretrained": HOSTILE, "adapted": False}}
    facts |= {"text": {"speech": [{"replace": {HOSTILE: "`"}}]}, "decoding": {"beam": {"ngram_lm_model": HOSTILE}}}
    path = write(facts, train, utterances=("ok", HOSTILE))
    card = ModelCard.load(path)
    assert card.data.base_model is None
    head, body = yaml.safe_load(path.read_text().split("\n---\n")[0].removeprefix("---\n")), card.text
    assert head["model-index"][0]["name"] == "mine"
    assert "\n# <script>" not in body and "{{ 7*7 }}" in body
    for line in body.splitlines():
        if "alert" in line and line.startswith("|"):
            assert "<script>" not in line and line.replace("\\|", "").count("|") == 3, "one row of two cells"


def test_names_are_escaped():
    assert as_text("finetune_from_x") == "finetune_from_x"
    assert as_text("a|b <i> *c* _d_") == r"a\|b &lt;i&gt; \*c\* \_d\_"
    assert as_code("a") == "`a`"
    assert as_code("a``b") == "```a``b```"
    assert as_code("`") == "`` ` ``"


def test_damaged_scores_are_named(write, tmp_path):
    path = tmp_path / "s.json"
    path.write_text("{}")
    from nuptse.model_card import read_scores

    with pytest.raises(UserError, match="s.json: .*delete .*s.json and run again"):
        read_scores(path)
