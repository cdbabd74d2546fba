"""From a recipe's tables to cuts and NeMo rows: every supervision is accounted for."""

import copy
import json
import subprocess
import sys
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet, RecordingSet, SupervisionSet

from nuptse.cutsets import build_cutset, nemo_rows
from nuptse.errors import UserError
from nuptse.jsonl import read_rows, write_rows
from nuptse.ledgers import Histogram
from nuptse.selection import Selection, select_utterances
from nuptse.splits import Shares


def recording(name, duration=10.0, channels=(0,), rate=16000):
    return {
        "id": name,
        "sources": [{"type": "file", "channels": list(channels), "source": f"data/raw/{name}.flac"}],
        "sampling_rate": rate,
        "num_samples": round(duration * rate),
        "duration": duration,
        "channel_ids": list(channels),
    }


def supervision(name, text="HELLO", start=0.0, duration=10.0, of=None):
    return {
        "id": name,
        "recording_id": of or name,
        "start": start,
        "duration": duration,
        "channel": 0,
        "text": text,
        "language": "English",
    }


@pytest.fixture
def build(tmp_path):
    """Write a recipe's output, select, build the cuts; give the ledger and the paths."""

    def run(recordings, supervisions, profile=("lower",), part="train"):
        write_rows(tmp_path / "train_recordings.jsonl.gz", recordings)
        write_rows(tmp_path / "train_supervisions.jsonl.gz", supervisions)
        kinds = ("recordings", "supervisions", "cuts", "quarantine")
        outputs = {kind: tmp_path / "out" / f"{kind}.jsonl.gz" for kind in kinds}
        selection = Selection("corpus", "train", [part], "en", profile)
        paths = [tmp_path / f"{name}.jsonl.gz" for name in ("selected", "dropped")]
        ledger, _ = select_utterances(tmp_path, selection, *paths)
        before = copy.deepcopy(ledger)
        build_cutset(tmp_path / "selected.jsonl.gz", outputs, ledger)
        assert ledger == before
        assert outputs["cuts"].read_bytes() == (tmp_path / "selected.jsonl.gz").read_bytes()
        return ledger, outputs

    return run


def test_one_cut_for_each_supervision_read_by_lhotse(build):
    ledger, outputs = build(
        [recording("b"), recording("a"), recording("unused")],
        [supervision("b2", start=4.0, duration=3.0, of="b"), supervision("a"), supervision("b1", duration=4.0, of="b")],
    )
    cuts = CutSet.from_file(outputs["cuts"])
    assert {(cut.id, cut.start, cut.duration) for cut in cuts} == {("a", 0, 10), ("b1", 0, 4), ("b2", 4, 3)}
    assert [cut.supervisions[0].text for cut in cuts] == ["hello"] * 3
    assert {cut.supervisions[0].language for cut in cuts} == {"en"}
    assert all(cut.supervisions[0].start == 0 for cut in cuts)
    assert sorted(r.id for r in RecordingSet.from_file(outputs["recordings"])) == ["a", "b"]
    assert [(s.id, s.start) for s in SupervisionSet.from_file(outputs["supervisions"])] == [
        (cut.id, cut.start) for cut in cuts
    ]
    assert ledger.unused_recordings == 1
    assert ledger.kept.utterances == 3
    assert ledger.kept.seconds == 17


def test_recordings_that_the_import_left_away_are_unused_too(build, tmp_path):
    account = {"parts": {"train": {"unused_recordings": 2}, "dev": {"unused_recordings": 7}, "old": {}}}
    (tmp_path / "ledger.json").write_text(json.dumps(account))
    ledger, _ = build([recording("a"), recording("unused")], [supervision("a")])
    assert ledger.unused_recordings == 3


def test_the_same_bytes_whatever_the_order_of_the_file_system(build):
    tables = [recording("a"), recording("b")], [supervision("a"), supervision("b")]
    first = {kind: path.read_bytes() for kind, path in build(*tables)[1].items()}
    second = {kind: path.read_bytes() for kind, path in build(tables[0][::-1], tables[1][::-1])[1].items()}
    assert first == second


def test_any_part_of_a_manifest_is_a_sample_of_all(build):
    """The ids of most corpora begin with the speaker, and the loaders' windows hold a few thousand cuts."""
    names = [f"speaker{speaker:03}-{number}" for speaker in range(100) for number in range(10)]
    _, outputs = build([recording(name) for name in names], [supervision(name) for name in names])
    for kind in ("cuts", "supervisions", "recordings"):
        speakers = [row["id"].split("-")[0] for row in read_rows(outputs[kind], dict)]
        # 100 draws of 100 speakers hit 63 of them on average, with a deviation of 3.
        assert all(len(set(speakers[start : start + 100])) > 50 for start in range(0, 1000, 100))


def test_what_is_left_out_is_accounted_for(build):
    ledger, _ = build(
        [recording("a")],
        [
            supervision("ok", duration=5.0, of="a"),
            supervision("empty", text="...", duration=1.0, of="a"),
            supervision("none", text=None, duration=2.0, of="a"),
            supervision("beyond", start=11.0, duration=3.0, of="a"),
            supervision("long", start=9.0, duration=1.05, of="a"),
            supervision("nothing", start=1.0, duration=0.0, of="a"),
            supervision("backwards", start=1.0, duration=-0.2, of="a"),
        ],
        profile=["strip_punctuation"],
    )
    assert ledger.taken.utterances == 7
    assert ledger.kept.utterances == 2
    assert {reason: amount.utterances for reason, amount in ledger.dropped.items()} == {
        "no transcript": 2,
        "no duration": 2,
        "outside its recording": 1,
    }
    assert ledger.dropped["no transcript"].seconds == 3
    assert ledger.trimmed.utterances == 1
    assert sum(ledger.histogram.counts.values()) == 2
    assert ledger.trimmed.seconds == pytest.approx(0.05)


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "min_duration": st.floats(0, 3),
        "max_duration": st.floats(3, 12),
        "min_characters_per_second": st.floats(0, 1),
        "max_characters_per_second": st.floats(1, 4),
        "min_words": st.integers(1, 2),
        "max_words": st.integers(2, 3),
        "languages": st.just(["english"]),
        "speakers": st.just(["anna", "ben", "carl"]),
        "drop_speakers": st.just(["ben"]),
        "drop_raw_text": st.just("NOISE"),
        "drop_text": st.just("b{2}"),
        "keep_text": st.just("^[a-z ]+$"),
    },
)
SHARES = st.sampled_from([None, {"train": 1.0}, {"train": 0.5, "dev": 0.5}, {"train": 0.6, "dev": 0.2, "test": 0.2}])
SEGMENTS = st.lists(
    st.tuples(
        st.floats(-1, 12),
        st.floats(0.01, 12),
        st.sampled_from(["a", "a bb", "a b c d", "NOISE", "7", "", None]),
        st.sampled_from(["anna", "ben", "carl", "dora", "emil"]),
        st.sampled_from(["English", "he", None]),
    ),
    max_size=30,
)


@given(segments=SEGMENTS, filters=FILTERS, shares=SHARES)
@settings(max_examples=200, deadline=None)
def test_nothing_is_lost_without_a_reason(tmp_path_factory, segments, filters, shares):
    """In every split: taken = kept + dropped, in utterances and seconds; the splits together take everything once."""
    folder = tmp_path_factory.mktemp("recipe")
    rows = [
        supervision(f"s{i}", text, start, duration, "a") | {"speaker": speaker, "language": language}
        for i, (start, duration, text, speaker, language) in enumerate(segments)
    ]
    write_rows(folder / "all_recordings.jsonl.gz", [recording("a")])
    write_rows(folder / "all_supervisions.jsonl.gz", rows)
    seen = []
    for split in shares or {"train": 1.0}:
        dealt = Shares("speaker", "1", shares) if shares else None
        selection = Selection("corpus", split, ["all"], "en", ["lower"], filters, dealt)
        selected, dropped = (folder / f"{split}_{name}.jsonl.gz" for name in ("selected", "dropped"))
        try:
            ledger, _ = select_utterances(folder, selection, selected, dropped)
        except UserError as error:
            assert "no utterance is left" in str(error) or f"nothing fell to {split}" in str(error)  # noqa: PT017
            assert not selected.exists() and not dropped.exists()
            seen += [row["id"] for row in rows if dealt is None or dealt.split_of(row["speaker"]) == split]
            continue
        kept, left_out = list(read_rows(selected, dict)), list(read_rows(dropped, dict))
        seen += [row["id"] for row in kept + left_out]
        amounts = ledger.dropped.values()
        assert ledger.kept.utterances == len(kept) and sum(a.utterances for a in amounts) == len(left_out)
        assert ledger.taken.utterances == len(kept) + len(left_out)
        assert ledger.taken.utterances + ledger.other_splits.utterances == len(rows)
        seconds = ledger.kept.seconds + sum(a.seconds for a in amounts)
        assert ledger.taken.seconds == pytest.approx(seconds + ledger.trimmed.seconds)
        for reason, amount in ledger.dropped.items():
            listed = [row["duration"] for row in left_out if row["reason"] == reason]
            assert (amount.utterances, amount.seconds) == (len(listed), pytest.approx(sum(listed)))
    assert sorted(seen) == sorted(row["id"] for row in rows), "every utterance is in exactly one split"


def test_what_is_dropped_can_be_looked_at(build, tmp_path):
    ledger, _ = build([recording("a")], [supervision("ok", duration=5.0, of="a"), supervision("x", text="…", of="a")], ["strip_punctuation"])  # fmt: skip
    assert list(read_rows(tmp_path / "dropped.jsonl.gz", dict)) == [
        {"id": "x", "reason": "no transcript", "duration": 10.0, "text": "…"}
    ]
    assert ledger.remarks(ledger.dropped) == [
        "corpus/train: 1 utterances, 0.003 h of 2 utterances, 0.004 h are left out: no transcript"
    ]


def test_the_command_warns_on_the_terminal_too(tmp_path):
    write_rows(tmp_path / "all_recordings.jsonl.gz", [recording("a"), recording("b"), recording("c")])
    speakers = {"a": "anna", "b": "ben", "c": "carl"}
    rows = [supervision(name) | {"speaker": speaker} for name, speaker in speakers.items()]
    write_rows(tmp_path / "all_supervisions.jsonl.gz", rows)
    shares = {"unit": "speaker", "key": "1", "shares": {"train": 0.9, "dev": 0.1}}
    split = Shares(**shares).split_of("anna")
    script = Path(__file__).parents[2] / "scripts" / "select_utterances.py"
    command = [sys.executable, str(script), *f"--recipe-dir {tmp_path} --part all --corpus c".split()]
    command += [*f"--split {split} --language en --text [] --selected s.jsonl.gz --dropped d.jsonl.gz".split()]
    command += ["--ledger", "l.json", "--log", "logs/x.log", "--split-by", json.dumps(shares)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    log = (tmp_path / "logs/x.log").read_text()
    assert run.stderr.startswith("WARNING: c: ") and "are few for these shares" in run.stderr
    assert run.stderr in log and f"c/{split}: in: " in log.splitlines()[-1]
    assert json.loads((tmp_path / "l.json").read_text())["taken"]["utterances"] == len(list(read_rows(tmp_path / "s.jsonl.gz", dict)))  # fmt: skip


def test_what_the_alphabet_removes_is_counted(build):
    ledger, _ = build([recording("a")], [supervision("a", "né à–là")], ["lower", {"keep": "a-zà "}])
    assert ledger.removed_characters == {"é": 1, "–": 1}


def test_a_recording_in_two_parts_is_one(tmp_path):
    own = {"train": "ab", "dev": "c"}

    def select(of_dev, second="c"):
        for part, names in (own | {"dev": second}).items():
            write_rows(tmp_path / f"{part}_recordings.jsonl.gz", [of_dev if part == "dev" else recording("talk")])
            rows = [supervision(name, start=float(ord(name) - 97), duration=1.0, of="talk") for name in names]
            write_rows(tmp_path / f"{part}_supervisions.jsonl.gz", rows)
        selection = Selection("c", "test", ["train", "dev"], "en", [], shares=Shares("recording", "1", {"test": 1.0}))
        ledger, _ = select_utterances(tmp_path, selection, tmp_path / "s.jsonl.gz", tmp_path / "d.jsonl.gz")
        return ledger, sorted(row["id"] for row in read_rows(tmp_path / "s.jsonl.gz", dict))

    ledger, ids = select(recording("talk"))
    assert (ids, ledger.unused_recordings) == (["a", "b", "c"], 0)
    with pytest.raises(UserError, match=r"dev_recordings.jsonl.gz: the id talk stands in train_recordings.jsonl.gz too; a split is made of both parts \(train, dev\)"):  # fmt: skip
        select(recording("talk", duration=9.0))
    with pytest.raises(
        UserError, match=r"dev_supervisions.jsonl.gz: the id b stands in train_supervisions.jsonl.gz too"
    ):
        select(recording("talk"), second="b")


@pytest.mark.parametrize(
    ("recordings", "supervisions", "part", "message"),
    [
        ([recording("a")], [supervision("a")], "test", "corpora.corpus.splits.train is 'test', but the recipe found only train"),
        ([recording("a")], [supervision("a"), supervision("a")], "train", "the id a stands there twice"),
        ([recording("a")], [supervision("x", of="b")], "train", "supervision x belongs to the recording b, which"),
        ([recording("a", channels=(0, 1))], [supervision("a")], "train", "recording a has 2 channels"),
        ([recording("a")], [supervision("a", text=" ")], "train", "corpus/train: no utterance is left"),
    ],
)  # fmt: skip
def test_a_bad_corpus_is_refused(build, recordings, supervisions, part, message):
    with pytest.raises(UserError, match=message):
        build(recordings, supervisions, part=part)


def test_nemo_rows_of_whole_files_and_of_segments(build):
    _, outputs = build(
        [recording("a", 10.0), recording("b", 5.0, rate=8000)],
        [
            supervision("a1", duration=4.0, of="a"),
            supervision("a2", start=4.0, duration=6.0, of="a"),
            supervision("b", duration=5.0),
        ],
    )
    rows = sorted(nemo_rows(outputs["cuts"]), key=itemgetter("id"))
    assert rows[0] == {
        "id": "a1",
        "audio_filepath": "data/raw/a.flac",
        "duration": 4.0,
        "text": "hello",
        "lang": "en",
        "offset": 0.0,
    }
    assert rows[1]["offset"] == 4.0
    assert "sampling_rate" not in rows[1]
    assert rows[2]["sampling_rate"] == 8000
    assert "offset" not in rows[2]


def test_the_histogram_puts_every_duration_between_the_edges_of_its_bin():
    histogram = Histogram()
    for seconds in (0.3, 0.05, 0.3999999, 12.0, 0.7):
        histogram.add(seconds)
    histogram.sort()
    assert list(histogram.counts.items()) == [(0, 1), (3, 2), (7, 1), (120, 1)]
