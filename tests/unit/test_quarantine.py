"""Bad audio is left out only if so wished, and whatever is left out is listed and counted."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lhotse import CutSet, RecordingSet, SupervisionSet

import build_cutset as command
from nuptse.audio_facts import AudioFacts
from nuptse.audio_problems import AudioLimits
from nuptse.errors import UserError
from nuptse.jsonl import read_rows, write_rows
from nuptse.ledgers import Ledger

GOOD = {"sampling_rate": 16000, "channels": 1, "header_s": 1.0, "file_s": 1.0, "cut_s": 1.0, "silence": 0.1}
FOUND = {
    "good": GOOD,
    "silent": GOOD | {"silence": 1.0},
    "clipped": GOOD | {"clipped": 0.5},  # a warning
    "missing": {"error": "missing"},
    "unreadable": {"error": "unreadable", "reason": "no FLAC"},
    "wrong_duration": GOOD | {"file_s": 0.5, "cut_s": 0.5, "header_s": 0.5},
}
BAD = set(FOUND) - {"good", "clipped"}


def cut(name):
    recording = {"id": name, "sources": [{"type": "file", "channels": [0], "source": f"{name}.flac"}], "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0, "channel_ids": [0]}  # fmt: skip
    supervision = {"id": name, "recording_id": name, "start": 0.0, "duration": 1.0, "text": "word", "language": "en"}
    return {"id": name, "start": 0.0, "duration": 1.0, "channel": 0, "supervisions": [supervision], "recording": recording, "type": "MonoCut"}  # fmt: skip


def facts(name, **found):
    return AudioFacts(id=name, audio=f"{name}.flac", start_s=0, duration_s=1, declared_s=1, declared_rate=16000, **found)  # fmt: skip


def build(folder, kinds, *, exclude=True, rejected=()):
    """Run the command on utterances of these kinds; give the ledger and the rows of the quarantine."""
    names = [f"u{number:03}" for number in range(len(kinds))]
    write_rows(folder / "selected.jsonl.gz", map(cut, names))
    write_rows(folder / "audio.jsonl.gz", (facts(name, **FOUND[kind]) for name, kind in zip(names, kinds, strict=True)))
    write_rows(folder / "rejected.jsonl.gz", rejected)
    selection = Ledger("c", "train")
    for _ in names:
        selection.taken.add(1.0)
        selection.keep(1.0)
    selection.taken.add(2.0)
    selection.drop("no transcript", 2.0)
    selection.write(folder / "selection.json")
    options = (
        ["--audio", str(folder / "audio.jsonl.gz"), "--limits", json.dumps({"duration_s": 0.1})] if exclude else []
    )
    outputs = {kind: folder / f"{kind}.jsonl.gz" for kind in ("recordings", "supervisions", "cuts", "quarantine")}
    paths = [text for kind, path in outputs.items() for text in (f"--{kind}", str(path))]
    command.main(["--selected", str(folder / "selected.jsonl.gz"), "--selection", str(folder / "selection.json"), "--rejected", str(folder / "rejected.jsonl.gz"), *options, *paths, "--ledger", str(folder / "ledger.json")])  # fmt: skip
    return Ledger.read(folder / "ledger.json"), list(read_rows(outputs["quarantine"], dict))


@given(
    st.lists(st.sampled_from(sorted(FOUND)), min_size=1, max_size=12),
    st.lists(st.sampled_from([None, 0.5, 3.0]), max_size=3),
    st.booleans(),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_through_quarantine(tmp_path, kinds, rejected_s, exclude):
    kinds = ["good", *kinds]
    rejected = [{"id": f"r{i}", "audio": "x", "reason": "empty", "seconds": s} for i, s in enumerate(rejected_s)]
    ledger, quarantine = build(tmp_path, kinds, exclude=exclude, rejected=rejected)
    cuts = list(read_rows(tmp_path / "cuts.jsonl.gz", dict))
    bad = sum(kind in BAD for kind in kinds) if exclude else 0
    assert sorted(row["id"] for row in [*cuts, *quarantine]) == sorted(
        [row["id"] for row in rejected] + [f"u{i:03}" for i in range(len(kinds))]
    )
    assert len(quarantine) == bad + len(rejected)
    out = [ledger.kept, *ledger.dropped.values(), *ledger.quarantined.values()]
    assert ledger.taken.utterances == sum(amount.utterances for amount in out) == len(kinds) + len(rejected) + 1
    assert ledger.taken.seconds == pytest.approx(sum(amount.seconds for amount in out))
    assert ledger.kept.utterances == len(cuts) == sum(ledger.histogram.counts.values())
    assert {row["id"] for row in cuts} == set(CutSet.from_file(tmp_path / "cuts.jsonl.gz").ids)
    assert len(RecordingSet.from_file(tmp_path / "recordings.jsonl.gz")) == len(cuts)
    assert len(SupervisionSet.from_file(tmp_path / "supervisions.jsonl.gz")) == len(cuts)


def test_the_quarantine_says_what_was_found(tmp_path, capsys):
    rejected = [{"id": "r", "audio": "gone.wav", "reason": "no such file", "seconds": None}]
    ledger, rows = build(tmp_path, ["good", "missing", "silent", "clipped"], rejected=rejected)
    assert rows == [
        {"id": "r", "audio": "gone.wav", "start_s": None, "duration_s": None, "text": None, "problems": ["not_imported"], "found": ["no such file"]},
        {"id": "u001", "audio": "u001.flac", "start_s": 0.0, "duration_s": 1.0, "text": "word", "problems": ["missing"], "found": ["there is no such file"]},
        {"id": "u002", "audio": "u002.flac", "start_s": 0.0, "duration_s": 1.0, "text": "word", "problems": ["silent"], "found": ["all of it is silent"]},
    ]  # fmt: skip
    assert set(ledger.quarantined) == {"not imported: no such file", "bad audio: missing", "bad audio: silent"}
    assert "out: 2 utterances" in capsys.readouterr().out and ledger.kept.utterances == 2


def test_an_import_that_lost_most_of_a_split_is_warned_of(tmp_path, capsys):
    behind = "it begins behind the end of its audio"
    rows = [{"id": f"r{number}", "audio": "a.wav", "reason": behind, "seconds": None} for number in range(9)]
    build(tmp_path, ["good"], rejected=rows)
    assert (
        f"WARNING: c/train: 9 utterances, 0.000 h of 11 utterances, 0.001 h are left out: not imported: {behind}"
        in (capsys.readouterr().out)
    )


def test_without_the_wish_bad_audio_stays_for_the_doctor_to_see(tmp_path):
    ledger, rows = build(tmp_path, ["good", "missing"], exclude=False)
    assert ledger.kept.utterances == 2 and rows == [] and ledger.quarantined == {}
    assert (tmp_path / "cuts.jsonl.gz").read_bytes() == (tmp_path / "selected.jsonl.gz").read_bytes()


def test_a_split_of_bad_audio_alone_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"c/train: no utterance is left .*bad audio: missing: 2 utterances"):
        build(tmp_path, ["missing", "missing"])
    assert not (tmp_path / "cuts.jsonl.gz").exists()


def test_facts_of_other_cuts_are_refused(tmp_path):
    build(tmp_path, ["good", "good"])
    for names in (["u000"], ["u000", "u002"], ["u000", "u001", "u002"]):
        write_rows(tmp_path / "other.jsonl.gz", (facts(name, **GOOD) for name in names))
        with pytest.raises(UserError, match="is not of the cuts in"):
            from nuptse.cutsets import build_cutset

            outputs = {kind: tmp_path / f"{kind}.gz" for kind in ("recordings", "supervisions", "cuts", "quarantine")}
            build_cutset(tmp_path / "selected.jsonl.gz", outputs, Ledger("c", "train"), tmp_path / "other.jsonl.gz", AudioLimits())  # fmt: skip
