"""Shards that are there already: counted and hashed as they are, and refused where tars and manifests differ."""

import io
import json
import shutil
import tarfile
import tracemalloc

import numpy as np
import pytest
import soundfile

from index_nemo_shards import main
from nuptse.checksums import xxh128_of
from nuptse.errors import UserError
from nuptse.jsonl import read_rows
from nuptse.shard_ledger import check_shards, read_ledger, repairs
from nuptse.source_settings import expand_shards, shard_patterns

DEFAULT = {0: {"a.wav": 0.5, "b.wav": 0.25}, 1: {"c.wav": 0.5}}


def row(name, seconds, shard, **more):
    return {"audio_filepath": name, "duration": seconds, "text": f"text of {name}", "shard_id": shard} | more


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Two shards in the layout of NeMo's converter, in a folder with a space."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my shards"
    (folder / "sharded_manifests").mkdir(parents=True)
    for shard, files in DEFAULT.items():
        write_tar(folder / f"audio_{shard}.tar", files)
        write_manifest(folder, shard, [row(name, seconds, shard) for name, seconds in files.items()])
    return folder


def write_tar(path, names):
    with tarfile.open(path, "w") as tar:
        for name in names:
            audio = io.BytesIO()
            soundfile.write(audio, np.zeros(4000), 8000, format="WAV")
            member = tarfile.TarInfo(name)
            member.size = len(audio.getvalue())
            tar.addfile(member, io.BytesIO(audio.getvalue()))


def write_manifest(folder, shard, rows):
    path = folder / "sharded_manifests" / f"manifest_{shard}.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def index(shards, patterns=None, *more):
    patterns = patterns or shard_patterns("my shards", "")
    main(
        [
            *("--corpus", "mine", "--split", "train", "--output-dir", "data/shards/mine_train"),
            *(f"--{key}={pattern}" for key, pattern in patterns.items()),
            *("--cuts", "cuts.jsonl.gz", "--utterances", "ledger.json", "--threads", "2", *more),
        ]
    )
    return shards.parent / "data/shards/mine_train/ledger.json"


def test_a_ledger_of_what_is_there(shards, capsys):
    ledger = index(shards)
    content = read_ledger(ledger)
    assert (content["num_shards"], content["utterances"], content["duration_s"]) == (2, 3, 1.25)
    for shard in content["shards"]:
        for kind in ("tar", "manifest"):
            path = ledger.parent / content["folder"] / shard[kind]
            assert (path.stat().st_size, xxh128_of(path)) == (shard[f"{kind}_bytes"], shard[f"{kind}_xxh128"])
    check_shards(ledger, full=True)
    all_rows = [row["audio_filepath"] for row in read_rows(ledger.with_name("tarred_audio_manifest.json"), dict)]
    assert all_rows == ["a.wav", "b.wav", "c.wav"]
    cuts = list(read_rows(shards.parent / "cuts.jsonl.gz", dict))
    assert [(cut["duration"], cut["supervisions"][0]["text"]) for cut in cuts][2] == (0.5, "text of c.wav")
    assert json.loads((shards.parent / "ledger.json").read_text())["kept"] == {"utterances": 3, "seconds": 1.25}
    assert "mine/train: in: 3 utterances" in capsys.readouterr().out


def test_a_changed_tar_is_seen_and_the_next_ledger_keeps_that(shards):
    ledger = index(shards)
    assert repairs(ledger) == []
    write_tar(shards / "audio_1.tar", ["c.wav", "d.wav"])
    losses = repairs(ledger)
    assert losses == ["1: audio_1.tar"]
    write_manifest(shards, 1, [row("c.wav", 0.5, 1), row("d.wav", 0.5, 1)])
    assert repairs(index(shards, None, "--repair", json.dumps(losses))) == losses


def test_a_manifest_whose_last_line_does_not_end(shards):
    path = shards / "sharded_manifests" / "manifest_0.json"
    path.write_text(path.read_text().rstrip())
    all_rows = read_rows(index(shards).with_name("tarred_audio_manifest.json"), dict)
    assert [row["audio_filepath"] for row in all_rows] == ["a.wav", "b.wav", "c.wav"]


def test_one_manifest_for_all_shards_and_segments_of_one_file(shards):
    rows = [row("a.wav", 0.2, 0, offset=0.0), row("a-sub1.wav", 0.2, 0, offset=0.2), row("b.wav", 0.25, 0), row("c.wav", 0.5, 1)]  # fmt: skip
    (shards / "tarred_audio_manifest.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(shards / "sharded_manifests")
    patterns = shard_patterns("my shards", "")
    assert patterns["manifests"] == "my shards/tarred_audio_manifest.json"
    assert read_ledger(index(shards, patterns))["utterances"] == 4


def test_what_nemo_skips_does_not_count(shards):
    """Its reader passes over rows with `_skipme`, whose audio is in the tar all the same."""
    write_manifest(shards, 0, [row("a.wav", 0.5, 0, _skipme=True), row("b.wav", 0.25, 0, _skipme=False)])
    content = read_ledger(index(shards))
    assert [(shard["utterances"], shard["duration_s"]) for shard in content["shards"]] == [(1, 0.25), (1, 0.5)]
    assert (content["utterances"], content["duration_s"]) == (2, 0.75)
    cuts = list(read_rows(shards.parent / "cuts.jsonl.gz", dict))
    assert [(cut["id"], cut["duration"]) for cut in cuts] == [("0-000001", 0.25), ("1-000000", 0.5)]
    utterances = json.loads((shards.parent / "ledger.json").read_text())
    assert (utterances["taken"]["utterances"], utterances["kept"]["utterances"]) == (3, 2)
    assert utterances["dropped"] == {"_skipme": {"utterances": 1, "seconds": 0.5}}


@pytest.mark.parametrize(
    ("skipped", "seconds"),
    [
        ({"duration": 0.5}, 0.5),
        ({"duration": 0.5, "text": None}, 0.5),
        ({"duration": None, "text": 7}, 0.0),
        ({"id": [], "offset": "?"}, 0.0),
    ],
)
def test_nemo_skips_a_row_whatever_else_it_holds(shards, skipped, seconds):
    write_manifest(shards, 0, [{"audio_filepath": "a.wav", "_skipme": True} | skipped, row("b.wav", 0.25, 0)])
    assert read_ledger(index(shards))["utterances"] == 2
    utterances = json.loads((shards.parent / "ledger.json").read_text())
    assert utterances["dropped"] == {"_skipme": {"utterances": 1, "seconds": seconds}}


@pytest.mark.parametrize("more", [{}, {"_skipme": False}, {"_skipme": 0}])
def test_a_row_that_is_not_skipped_needs_a_text(shards, more):
    write_manifest(shards, 0, [{"audio_filepath": "a.wav", "duration": 0.5} | more, row("b.wav", 0.25, 0)])
    with pytest.raises(UserError, match=r"manifest_0.json, line 1 is no row .*: .*`text`"):
        index(shards)


def test_shards_of_which_nemo_skips_all_are_refused(shards):
    for shard, files in DEFAULT.items():
        write_manifest(shards, shard, [row(name, seconds, shard, _skipme=1) for name, seconds in files.items()])
    with pytest.raises(UserError, match="mine/train: no utterance is left .*dropped, _skipme: 3 utterances"):
        index(shards)


def test_the_rows_of_a_few_shards_are_in_memory(shards):
    peaks = []
    for count in (10, 60):
        for shard in range(count):
            write_tar(shards / f"audio_{shard}.tar", ["a.wav"])
            write_manifest(shards, shard, [row(f"a-sub{part}.wav", 0.1, shard) for part in range(200)])
        tracemalloc.start()
        ledger = index(shards, None, "--threads", "1")  # each further one has buffers of its own, or not just then
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        content = read_ledger(ledger)
        assert [shard["shard_id"] for shard in content["shards"]] == list(range(count))
        assert content["utterances"] == 200 * count
    assert peaks[1] < peaks[0] + 500_000


def lost(shards):
    (shards / "audio_1.tar").unlink()


def damaged(shards):
    (shards / "audio_1.tar").write_bytes(b"x" * 4096)


BROKEN = {
    "a row without audio": (lambda f: write_tar(f / "audio_0.tar", ["a.wav"]), r"shard 0: 1 rows of my shards/sharded_manifests/manifest_0.json name audio that my shards/audio_0.tar lacks, such as b.wav"),
    "audio without a row": (lambda f: write_tar(f / "audio_1.tar", ["c.wav", "d.wav"]), r"shard 1: 1 files of my shards/audio_1.tar have no row in .*manifest_1.json, such as d.wav"),
    "a name twice": (lambda f: write_tar(f / "audio_1.tar", ["c.wav", "c.wav"]), r"shard 1: 1 names stand twice in my shards/audio_1.tar, such as c.wav"),
    "no row at all": (lambda f: write_manifest(f, 1, []), r"manifest_1.json is empty"),
    "a row without text": (lambda f: write_manifest(f, 1, [{"audio_filepath": "c.wav", "duration": 1}]), r"manifest_1.json, line 1 is no row of NeMo's tarred manifests: .*text"),
    "a tar that is none": (damaged, r"audio_1.tar is damaged or no tar file"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_shards_that_do_not_fit_together_are_refused(shards, spoil, message):
    spoil(shards)
    with pytest.raises(UserError, match=message):
        index(shards)
    assert not (shards.parent / "data").exists()


def test_a_lost_tar_is_refused(shards):
    patterns = shard_patterns("my shards", "")
    lost(shards)
    with pytest.raises(UserError, match=r"cannot read my shards/audio_1.tar: No such file"):
        index(shards, patterns)
    with pytest.raises(UserError, match=r"1 tars, but neither as many sharded_manifests"):
        shard_patterns("my shards", "")
    (shards / "audio_0.tar").rename(shards / "audio_7.tar")
    with pytest.raises(UserError, match=r"holds the shards \[7\], expected audio_0.tar"):
        shard_patterns("my shards", "")


def test_patterns():
    assert shard_patterns({"manifests": "m/manifest_{0..3}.json", "tars": "t/audio__OP_0..3_CL_.tar"}, "/data") == {
        "manifests": "/data/m/manifest__OP_0..3_CL_.json",
        "tars": "/data/t/audio__OP_0..3_CL_.tar",
    }
    assert expand_shards("audio_{08..10}.tar") == ["audio_08.tar", "audio_09.tar", "audio_10.tar"]
    assert expand_shards("audio_0.tar") == ["audio_0.tar"]
