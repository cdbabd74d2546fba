"""Shards lose no utterance, mix up no audio, and have the same bytes everywhere."""

import contextlib
import hashlib
import io
import json
import os
import random
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from nuptse import shards
from nuptse.errors import UserError
from nuptse.ogg import with_serial
from nuptse.shard_index import index_shards, metadata_yaml
from nuptse.shard_ledger import check_shards, group_shards, lost_shards, num_groups, repairs
from nuptse.shard_members import FORMS, encode, is_of_form, member_name
from nuptse.shard_plan import load_plan, save_plan
from nuptse.shard_planning import plan_shards, shard_ranks
from nuptse.shards import write_group

RATE = 8000
write_shard = shards._write_shard
# The pattern by which NeMo's tarred reader recognises segments of a member.
NEMO_SEGMENT = re.compile(r"^(?P<stem>.+)(?P<sub>-sub\d+)(?P<ext>\.\w+)?$")


def write_audio(path: Path, number: int, seconds: float = 0.05, subtype: str | None = None) -> np.ndarray:
    """Write noise that no other ``number`` has, and return its samples."""
    samples = np.random.default_rng(number).integers(-9000, 9000, int(seconds * RATE), dtype=np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype=subtype)
    return samples


def write_manifest(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def make_rows(folder: Path, count: int, suffix: str = ".wav") -> list[dict]:
    """Write ``count`` utterances of different lengths and return their manifest rows."""
    rows = []
    for number in range(count):
        audio = folder / "audio" / f"u{number}{suffix}"
        samples = write_audio(audio, number, seconds=0.02 + 0.01 * (number % 3))
        rows.append(
            {
                "id": f"u{number}",
                "audio_filepath": str(audio),
                "duration": len(samples) / RATE,
                "text": f"größe {number}",
                "lang": "de",
                "sampling_rate": RATE,
            }
        )
    return rows


def write_all(manifest: Path, output_dir: Path, num_shards: int, per_job: int = 2, workers: int = 1, seed: int = 0):
    """Run the three steps; return the plan and the ledgers of the groups."""
    plan = plan_shards(manifest, num_shards, seed)
    ledgers = []
    for group in range(num_groups(num_shards, per_job)):
        ledgers.append(output_dir / "ledger" / f"{group}.json")
        shard_ids = group_shards(group, per_job, num_shards)
        write_group(manifest, plan, shard_ids, output_dir, ledgers[-1], workers=workers)
    index_shards(plan, ledgers, output_dir, output_dir / "ledger.json")
    return plan, ledgers


def contents(folder: Path) -> dict[str, str]:
    """Return the checksum of each file of a folder, by its name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# --- The plan ---


@given(st.integers(1, 500), st.data())
def test_shards_cover_all_ranks_and_differ_by_one_at_most(utterances, data):
    num_shards = data.draw(st.integers(1, utterances))
    shards = [shard_ranks(utterances, num_shards, i) for i in range(num_shards)]
    assert [rank for shard in shards for rank in shard] == list(range(utterances))
    sizes = {len(shard) for shard in shards}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=40, unique=True), st.data())
def test_a_plan_holds_every_line_once_whatever_the_ids(tmp_path_factory, ids, data):
    num_shards = data.draw(st.integers(1, len(ids)))
    ids = [text.encode("utf-8", "replace").decode() + str(n) for n, text in enumerate(ids)]
    rows = [{"id": utterance, "audio_filepath": "x.wav", "duration": 1} for utterance in ids]
    manifest = write_manifest(tmp_path_factory.mktemp("plan") / "m.json", rows)
    plan = plan_shards(manifest, num_shards, seed=3)
    lines = manifest.read_bytes()
    planned = [json.loads(lines[start:].split(b"\n", 1)[0])["id"] for i in range(num_shards) for start in plan.lines(i)]
    assert sorted(planned) == sorted(ids)
    assert plan.duration_s == len(ids)


def test_a_hundred_thousand_shards_are_planned(tmp_path):
    number, total = 100_000, 150_000
    rows = [{"id": str(n), "audio_filepath": "a.flac", "duration": 1.0, "text": "x"} for n in range(total)]
    manifest = write_manifest(tmp_path / "m.json", rows)
    path = tmp_path / "plan.bin"
    save_plan(plan_shards(manifest, number, 0), path)
    plan = load_plan(path)
    assert (plan.num_shards, plan.utterances) == (number, total)
    assert {len(plan.lines(shard_id)) for shard_id in range(number)} == {1, 2}
    starts = [start for shard_id in range(number) for start in plan.lines(shard_id)]
    assert len(set(starts)) == total


def order(manifest: Path, seed: int) -> list[str]:
    plan, lines = plan_shards(manifest, 1, seed), manifest.read_bytes()
    return [json.loads(lines[start:].split(b"\n", 1)[0])["id"] for start in plan.lines(0)]


def test_the_order_depends_on_the_seed_but_not_on_the_order_of_the_manifest(tmp_path):
    rows = [{"id": f"u{n}", "audio_filepath": "x.wav", "duration": 1.5} for n in range(50)]
    forward = order(write_manifest(tmp_path / "a.json", rows), seed=1)
    assert order(write_manifest(tmp_path / "b.json", rows[::-1]), seed=1) == forward
    assert order(tmp_path / "a.json", seed=2) != forward
    assert forward != [row["id"] for row in rows]


def test_the_order_is_the_same_in_every_release(tmp_path):
    """A change here moves utterances between shards for everyone: announce it."""
    rows = [{"id": f"u{n}", "audio_filepath": "x.wav", "duration": 1.5} for n in range(6)]
    expected = sorted(
        (row["id"] for row in rows),
        key=lambda text: hashlib.blake2b(text.encode(), key=b"7", digest_size=16).digest(),
    )
    assert order(write_manifest(tmp_path / "m.json", rows), seed=7) == expected


def test_a_saved_plan_has_the_same_bytes_again_and_reads_back(tmp_path):
    rows = [{"id": f"u{n}", "audio_filepath": "x.wav", "duration": 0.1} for n in range(9)]
    plan = plan_shards(write_manifest(tmp_path / "m.json", rows), 4, seed=-5)
    save_plan(plan, tmp_path / "a.bin")
    save_plan(plan, tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    loaded = load_plan(tmp_path / "a.bin")
    for field in ("starts", "rows", "offsets", "keys"):
        assert getattr(loaded, field).tolist() == getattr(plan, field).tolist()
    for field in ("num_shards", "utterances", "seed", "duration_s", "manifest_bytes", "manifest_sha256"):
        assert getattr(loaded, field) == getattr(plan, field)
    assert [loaded.lines(i) for i in range(4)] == [plan.lines(i) for i in range(4)]
    assert loaded.identity() == plan.identity()


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_plan_is_refused_or_of_the_same_size(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("plan")
    rows = [{"id": f"u{n}", "audio_filepath": "x.wav", "duration": 0.1} for n in range(9)]
    path = folder / "plan.bin"
    save_plan(plan_shards(write_manifest(folder / "m.json", rows), 4, seed=0), path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, 200))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        damaged = load_plan(path)
        assert (damaged.num_shards, damaged.utterances, len(content)) == (4, 9, path.stat().st_size)


def test_blank_lines_are_no_utterances(tmp_path):
    manifest = tmp_path / "m.json"
    manifest.write_text(
        '\n{"id":"a","audio_filepath":"x","duration":1}\n\n{"id":"b","audio_filepath":"x","duration":1}'
    )
    assert sorted(plan_shards(manifest, 1, 0).lines(0)) == [1, 47]


def test_too_few_utterances_name_the_setting_to_change(tmp_path):
    rows = [{"id": f"u{n}", "audio_filepath": "x.wav", "duration": 1} for n in range(20)]
    manifest = write_manifest(tmp_path / "m.json", rows)
    with pytest.raises(UserError, match=r"num_shards is 32 but .*m.json has only 20 utterances; set num_shards to 20"):
        plan_shards(manifest, 32, 0)
    with pytest.raises(UserError, match="no utterances"):
        plan_shards(write_manifest(tmp_path / "empty.json", []), 1, 0)
    with pytest.raises(UserError, match="num_shards is 0"):
        plan_shards(manifest, 0, 0)


def test_an_id_that_occurs_twice_is_reported_with_both_lines(tmp_path):
    rows = [{"id": f"u{n % 30}", "audio_filepath": "x.wav", "duration": 1} for n in range(31)]
    with pytest.raises(UserError, match="id 'u0' is on line 1 and again on line 31"):
        plan_shards(write_manifest(tmp_path / "m.json", rows), 1, 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "truncated"),
        ('{"id": "", "audio_filepath": "x", "duration": 1}', "id"),
        ('{"id": 7, "audio_filepath": "x", "duration": 1}', "Expected `str`"),
        ('{"audio_filepath": "x", "duration": 1}', "id"),
        ('{"id": "b", "duration": 1}', "audio_filepath"),
        ('{"id": "b", "audio_filepath": "x"}', "duration"),
        ('{"id": "b", "audio_filepath": "x", "duration": 0}', "duration"),
        ('{"id": "b", "audio_filepath": "x", "duration": 1, "offset": -1}', "offset"),
        ('{"id": "b\udcff", "audio_filepath": "x", "duration": 1}', "m.json:2"),
    ],
)
def test_a_malformed_line_is_reported_with_its_number(tmp_path, line, message):
    manifest = tmp_path / "m.json"
    good = '{"id": "a", "audio_filepath": "x", "duration": 1}\n'
    manifest.write_text(good + line + "\n", errors="surrogateescape")
    with pytest.raises(UserError, match=r"m.json:2: not a NeMo manifest row") as error:
        plan_shards(manifest, 1, 0)
    assert message in str(error.value)


def test_a_missing_or_foreign_plan_or_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*m.json"):
        plan_shards(tmp_path / "m.json", 1, 0)
    with pytest.raises(UserError, match=r"cannot read .*p.bin"):
        load_plan(tmp_path / "p.bin")
    (tmp_path / "p.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"p.bin is not a shard plan"):
        load_plan(tmp_path / "p.bin")
    np.savez(tmp_path / "p", other=1)
    (tmp_path / "p.npz").replace(tmp_path / "p.bin")
    with pytest.raises(UserError, match=r"p.bin is not a shard plan"):
        load_plan(tmp_path / "p.bin")


@pytest.mark.parametrize("change", [("no", "on"), ("[", "{"), ("}\n", "}\n\n"), ("}\n", "}")])
def test_a_manifest_that_changed_since_the_plan_is_refused(tmp_path, change):
    rows = make_rows(tmp_path, 3)
    rows[2]["text"] = "no ["
    manifest = write_manifest(tmp_path / "m.json", rows)
    plan, _ = write_all(manifest, tmp_path / "out", num_shards=1)
    before = contents(tmp_path / "out")
    manifest.write_text(manifest.read_text().replace(*change))  # twice the same size
    for folder in ("out", "new"):
        with pytest.raises(UserError, match="changed since its shards were planned"):
            write_group(manifest, plan, range(1), tmp_path / folder, tmp_path / folder / "ledger/0.json")
    assert contents(tmp_path / "out") == before
    assert contents(tmp_path / "new") == {}
    manifest.unlink()
    with pytest.raises(UserError, match="cannot read"):
        write_group(manifest, plan, range(1), tmp_path / "new", tmp_path / "new/ledger/0.json")


def test_groups_hold_every_shard_once():
    for num_shards in range(1, 12):
        for per_job in range(1, 14):
            groups = range(num_groups(num_shards, per_job))
            ids = [i for group in groups for i in group_shards(group, per_job, num_shards)]
            assert ids == list(range(num_shards))
    with pytest.raises(UserError, match="no group 2: 4 shards make groups 0 to 1"):
        group_shards(2, 2, 4)
    with pytest.raises(UserError, match="shards_per_job is 0"):
        num_groups(4, 0)


# --- Names ---


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300), unique=True))
def test_names_are_as_different_as_the_ids_and_plain(ids):
    names = [member_name(utterance, "x.WAV") for utterance in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_%-]+\.wav", name)
        assert len(name) <= 204
        assert not NEMO_SEGMENT.match(name)


@pytest.mark.parametrize(
    ("utterance", "audio", "name"),
    [
        ("61-70968-0000", "a/61.flac", "61-70968-0000.flac"),
        ("a/b/x", "x.wav", "a%2Fb%2Fx.wav"),
        ("a_b/x", "x.wav", "a_b%2Fx.wav"),
        ("x-sub1", "x.FLAC", "x%2Dsub1.flac"),
        ("x-sub1-sub22", "x", "x-sub1%2Dsub22"),
        ("v1.2~ä", "x.tar gz", "v1%2E2%7E%C3%A4"),
    ],
)
def test_names_say_which_utterance_they_are(utterance, audio, name):
    assert member_name(utterance, audio) == name
    assert not NEMO_SEGMENT.match(name)


def test_long_ids_that_differ_at_the_end_keep_different_names():
    first, second = member_name("x" * 300 + "1", "a.wav"), member_name("x" * 300 + "2", "a.wav")
    assert first != second
    assert len(first) < 204
    assert member_name("x" * 200, "a.wav") == "x" * 200 + ".wav"


# --- Writing ---


@pytest.mark.parametrize(("count", "num_shards", "per_job"), [(7, 3, 2), (5, 5, 1), (6, 1, 1), (9, 4, 9)])
def test_no_utterance_is_lost_and_each_keeps_its_audio(tmp_path, count, num_shards, per_job):
    rows = make_rows(tmp_path, count)
    out = tmp_path / "out"
    write_all(write_manifest(tmp_path / "m.json", rows), out, num_shards, per_job)
    by_id = {row["id"]: row for row in rows}
    seen = []
    for shard_id in range(num_shards):
        shard = read_rows(out / f"sharded_manifests/manifest_{shard_id}.json")
        # Stream mode, as NeMo reads.
        with tarfile.open(out / f"audio_{shard_id}.tar", "r|*") as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]
        assert [row["audio_filepath"] for row in shard] == [name for name, _ in members]
        for row, (_, audio) in zip(shard, members, strict=True):
            source = by_id[row["id"]]
            assert audio == Path(source["audio_filepath"]).read_bytes()
            assert row == {**source, "audio_filepath": row["audio_filepath"], "shard_id": shard_id}
        seen += shard
    assert sorted(row["id"] for row in seen) == sorted(by_id)
    assert read_rows(out / "tarred_audio_manifest.json") == seen
    assert "größe".encode() in (out / "tarred_audio_manifest.json").read_bytes()
    total = json.loads((out / "ledger.json").read_text())
    assert (total["num_shards"], total["utterances"]) == (num_shards, count)
    assert total["duration_s"] == pytest.approx(sum(row["duration"] for row in rows))
    assert total["tar_bytes"] == sum((out / f"audio_{i}.tar").stat().st_size for i in range(num_shards))


def test_bytes_depend_on_the_rows_and_audio_alone(tmp_path):
    rows = make_rows(tmp_path, 8)
    write_all(write_manifest(tmp_path / "m.json", rows), tmp_path / "a", num_shards=3)
    random.Random(1).shuffle(rows)
    for row in rows:
        os.utime(row["audio_filepath"], (1, 1))
        Path(row["audio_filepath"]).chmod(0o600)
    write_all(write_manifest(tmp_path / "m.json", rows), tmp_path / "b", num_shards=3, per_job=1)
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {name: a[name] for name in a if not name.startswith("ledger/")} == {
        name: b[name] for name in b if not name.startswith("ledger/")
    }
    with tarfile.open(tmp_path / "a" / "audio_0.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.mode == 0o644


def test_two_workers_write_the_bytes_of_one(tmp_path):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 8))
    write_all(manifest, tmp_path / "a", num_shards=4, per_job=4)
    write_all(manifest, tmp_path / "b", num_shards=4, per_job=4, workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_ids_that_nemo_would_mix_up_keep_their_own_audio(tmp_path):
    rows = []
    for number, utterance in enumerate(["a/b/x", "a_b/x", "a_b_x", "x", "x-sub1", "x-sub2"]):
        write_audio(tmp_path / f"{number}.flac", number)
        rows.append({"id": utterance, "audio_filepath": str(tmp_path / f"{number}.flac"), "duration": 0.05})
    write_all(write_manifest(tmp_path / "m.json", rows), tmp_path / "out", num_shards=1)
    audio = {row["id"]: Path(row["audio_filepath"]).read_bytes() for row in rows}
    with tarfile.open(tmp_path / "out" / "audio_0.tar") as tar:
        for row in read_rows(tmp_path / "out" / "tarred_audio_manifest.json"):
            assert tar.extractfile(row["audio_filepath"]).read() == audio.pop(row["id"])
    assert not audio


def test_paths_start_at_the_working_directory_and_names_may_be_long(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "audio" / "x.wav", 1)
    rows = [{"id": "ü" * 70, "audio_filepath": "audio/x.wav", "duration": 0.05}]
    write_all(write_manifest(Path("m.json"), rows), Path("out"), num_shards=1)
    (row,) = read_rows(Path("out/tarred_audio_manifest.json"))
    with tarfile.open("out/audio_0.tar", "r|") as tar:
        assert [member.name for member in tar] == [row["audio_filepath"]]
    # The ledger finds its shards from anywhere.
    monkeypatch.chdir("/")
    check_shards(tmp_path / "out" / "ledger.json", full=True)


# --- Segments ---


def test_a_segment_becomes_a_recording_of_its_own_with_exactly_its_samples(tmp_path):
    samples = write_audio(tmp_path / "long.wav", 1, seconds=1)
    rows = [
        {"id": "s1", "audio_filepath": str(tmp_path / "long.wav"), "offset": 0.1, "duration": 0.25, "text": "a"},
        # NeMo returns the whole recording for a segment that is less than 0.2 s shorter.
        {"id": "s2", "audio_filepath": str(tmp_path / "long.wav"), "offset": 0.0, "duration": 0.9, "text": "b"},
    ]
    write_all(write_manifest(tmp_path / "m.json", rows), tmp_path / "out", num_shards=1)
    expected = {"s1": samples[800:2800], "s2": samples[:7200]}
    with tarfile.open(tmp_path / "out" / "audio_0.tar") as tar:
        for row in read_rows(tmp_path / "out" / "tarred_audio_manifest.json"):
            assert "offset" not in row
            assert row["sampling_rate"] == RATE
            assert row["audio_filepath"] == f"{row['id']}.flac"
            cut, rate = soundfile.read(tar.extractfile(row["audio_filepath"]), dtype="int16")
            assert rate == RATE
            np.testing.assert_array_equal(cut, expected[row["id"]])


@pytest.mark.parametrize(
    ("suffix", "subtype", "kept"),
    [
        ("wav", "PCM_16", "PCM_16"),
        ("wav", "PCM_U8", "PCM_16"),
        ("wav", "ULAW", "PCM_16"),
        ("wav", "PCM_24", "PCM_24"),
        ("flac", "PCM_24", "PCM_24"),
        ("wav", "FLOAT", "PCM_24"),
        ("ogg", "VORBIS", "PCM_16"),
    ],
)
def test_a_segment_keeps_the_precision_of_its_recording(tmp_path, suffix, subtype, kept):
    audio = tmp_path / f"long.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 2))  # Two channels stay two.
    soundfile.write(audio, noise, RATE, subtype=subtype)
    flac, rate = encode(str(audio), 0.25, 0.5, "flac")
    info = soundfile.info(io.BytesIO(flac))
    assert (info.format, info.subtype, info.frames, info.channels, rate) == ("FLAC", kept, RATE // 2, 2, RATE)
    whole, _ = soundfile.read(audio)
    cut, _ = soundfile.read(io.BytesIO(flac))
    lossless = subtype not in ("FLOAT", "VORBIS")
    np.testing.assert_allclose(cut, whole[2000:6000], atol=0 if lossless else 2**-15, rtol=0)


def test_a_segment_may_miss_one_sample_of_rounding_but_no_more(tmp_path):
    write_audio(tmp_path / "a.wav", 1, seconds=1)
    almost = 0.5 - 0.4 / RATE  # 4000 + 4001 samples by rounding each.
    flac, _ = encode(str(tmp_path / "a.wav"), almost, 0.5 + 0.6 / RATE, "flac")
    assert soundfile.info(io.BytesIO(flac)).frames == 4000
    for offset, duration in [(0.5, 0.51), (2.0, 0.1), (0.0, 1e-9)]:
        with pytest.raises(UserError, match=r"a.wav has 1.0 s, which has no segment"):
            encode(str(tmp_path / "a.wav"), offset, duration, "flac")
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"cannot read .*b.wav"):
        encode(str(tmp_path / "b.wav"), 0, 1, "flac")


# --- Audio in another form ---


def speech_like(path: Path, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    """Write a tone that comes and goes, which a lossy codec keeps; return its samples."""
    time = np.arange(int(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 440 * time) * np.sin(2 * np.pi * 3 * time) ** 2
    soundfile.write(path, samples, rate)
    return samples


def test_opus_is_small_has_every_sample_and_is_the_same_each_time(tmp_path):
    samples = speech_like(tmp_path / "a.wav", 2.0)
    opus, rate = encode(str(tmp_path / "a.wav"), None, 2.0, "opus")
    assert opus == encode(str(tmp_path / "a.wav"), None, 2.0, "opus")[0], "Ogg's serial number is drawn by chance"
    info = soundfile.info(io.BytesIO(opus))
    assert (info.subtype, info.samplerate, info.frames, rate) == ("OPUS", 16000, 32000, 16000)
    heard, _ = soundfile.read(io.BytesIO(opus))
    assert np.square(heard - samples).mean() < 0.01 * np.square(samples).mean()
    assert len(opus) < (tmp_path / "a.wav").stat().st_size / 5
    part, _ = encode(str(tmp_path / "a.wav"), 0.5, 0.25, "opus")
    assert soundfile.info(io.BytesIO(part)).frames == 4000


def test_opus_wants_one_of_its_rates(tmp_path):
    speech_like(tmp_path / "a.wav", rate=22050)
    with pytest.raises(UserError, match="has 22050 Hz, and Opus knows only 8000, .* or `shard_audio: flac`"):
        encode(str(tmp_path / "a.wav"), None, 1.0, "opus")


@given(st.lists(st.binary(max_size=700), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_the_checksum_of_an_ogg_page_is_that_of_rfc_3533(parts, serial):
    def bit_by_bit(page: bytes) -> int:
        crc = 0
        for byte in page:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        return crc

    def page(body: bytes, number: int) -> bytes:
        lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
        return b"OggS" + bytes(10) + number.to_bytes(4, "little") + bytes(8) + bytes([len(lacing)]) + lacing + body

    stream = with_serial(b"".join(page(part, 7) for part in parts), serial)
    for part in parts:
        expected = page(part, serial)
        crc = bit_by_bit(expected).to_bytes(4, "little")
        own, stream = stream[: len(expected)], stream[len(expected) :]
        assert own == expected[:22] + crc + expected[26:]
    assert stream == b""


@pytest.mark.parametrize("form", FORMS)
def test_shards_hold_the_audio_in_the_form_that_is_wanted(tmp_path, form):
    rows = []
    for name in ("a.wav", "b.flac"):
        samples = speech_like(tmp_path / name)
        row = {"id": name[0], "audio_filepath": str(tmp_path / name), "duration": len(samples) / 16000, "text": "x"}
        rows.append(row | {"lang": "en", "sampling_rate": 16000})
    rows.append({**rows[0], "id": "c", "offset": 0.25, "duration": 0.5})
    del rows[2]["sampling_rate"]
    manifest = write_manifest(tmp_path / "m.json", rows)
    plan, out = plan_shards(manifest, 1, 0), tmp_path / "out"
    before = write_group(manifest, plan, [0], out, out / "0.json")
    after, kept = write_group(manifest, plan, [0], out, out / "0.json", form=form)
    assert kept == 0 and before != after, "what was written in another form does not stay"
    with tarfile.open(out / "audio_0.tar") as tar:
        members = {name: tar.extractfile(name).read() for name in tar.getnames()}
    assert sorted(members) == [f"{name}{FORMS[form]}" for name in "abc"]
    assert (members[f"b{FORMS[form]}"] == (tmp_path / "b.flac").read_bytes()) == is_of_form("b.flac", form)
    written = [json.loads(line) for line in (out / "sharded_manifests/manifest_0.json").read_text().splitlines()]
    for row in written:
        info = soundfile.info(io.BytesIO(members[row["audio_filepath"]]))
        assert (
            info.frames / info.samplerate == row["duration"] and row["sampling_rate"] == 16000 and "offset" not in row
        )
    assert write_group(manifest, plan, [0], out, out / "0.json", form=form) == (after, 1)


# --- Failures ---


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_audio_names_the_file_and_the_line_and_leaves_nothing(tmp_path, workers):
    rows = make_rows(tmp_path, 6)
    Path(rows[4]["audio_filepath"]).unlink()
    manifest = write_manifest(tmp_path / "m.json", rows)
    plan = plan_shards(manifest, 2, 0)
    with pytest.raises(UserError, match=r"m\.json:5: cannot read .*u4\.wav: No such file"):
        write_group(manifest, plan, range(2), tmp_path / "out", tmp_path / "out/ledger/0.json", workers=workers)
    assert contents(tmp_path / "out") == {}


def test_empty_audio_is_refused(tmp_path):
    rows = make_rows(tmp_path, 2)
    Path(rows[1]["audio_filepath"]).write_bytes(b"")
    manifest = write_manifest(tmp_path / "m.json", rows)
    with pytest.raises(UserError, match=r"m\.json:2: .*u1\.wav is empty"):
        write_all(manifest, tmp_path / "out", num_shards=1)


def test_audio_that_shrinks_while_it_is_copied_is_refused(tmp_path, monkeypatch):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 1))
    actual = os.fstat

    def one_byte_more(descriptor):
        status = list(actual(descriptor))
        status[6] += 1
        return os.stat_result(status)

    plan = plan_shards(manifest, 1, 0)
    monkeypatch.setattr("nuptse.shards.os.fstat", one_byte_more)
    with pytest.raises(UserError, match=r"m\.json:1: cannot copy it to audio_0\.tar: unexpected end of data"):
        write_group(manifest, plan, range(1), tmp_path / "out", tmp_path / "out/ledger/0.json")
    assert contents(tmp_path / "out") == {}


def test_a_run_that_ends_early_leaves_an_earlier_one_as_it_was(tmp_path, monkeypatch):
    rows = make_rows(tmp_path, 6)
    manifest = write_manifest(tmp_path / "m.json", rows)
    _, (ledger,) = write_all(manifest, tmp_path / "out", num_shards=3, per_job=3)
    before = contents(tmp_path / "out")
    Path(rows[0]["audio_filepath"]).unlink()
    with pytest.raises(UserError):
        write_group(manifest, plan_shards(manifest, 3, seed=5), range(3), tmp_path / "out", ledger)
    assert contents(tmp_path / "out") == before


def test_ctrl_c_keeps_the_shards_that_are_finished(tmp_path, monkeypatch):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 8))
    plan, ledger = plan_shards(manifest, 4, 0), tmp_path / "out" / "ledger" / "0.json"
    written = []

    def interrupted_at_the_third(job):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(job.shard_id)
        return write_shard(job)

    monkeypatch.setattr(shards, "_write_shard", interrupted_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_group(manifest, plan, range(4), tmp_path / "out", ledger)
    monkeypatch.setattr(shards, "_write_shard", lambda job: written.append(job.shard_id) or write_shard(job))
    write_group(manifest, plan, range(4), tmp_path / "out", ledger)
    assert written == [0, 1, 2, 3]


def test_a_kill_between_two_files_leaves_whole_files_and_no_ledger(tmp_path, monkeypatch):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 6))
    plan = plan_shards(manifest, 3, 0)
    moved = []
    actual = Path.replace

    def killed_at_the_third(source, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        actual(source, target)

    ledger = tmp_path / "out" / "ledger" / "0.json"
    ledger.parent.mkdir(parents=True)
    ledger.write_text("of an earlier run")
    monkeypatch.setattr("nuptse.shards.Path.replace", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_group(manifest, plan, range(3), tmp_path / "out", ledger)
    assert not ledger.exists()
    left = contents(tmp_path / "out")
    monkeypatch.undo()
    write_group(manifest, plan, range(3), tmp_path / "out", ledger)
    after = contents(tmp_path / "out")
    assert not [name for name in after if name.endswith(".part")]
    assert {name: after[name] for name in left if not name.endswith(".part")}.items() <= left.items()


# --- Ledgers ---


@pytest.fixture
def written(tmp_path):
    """Four shards in two groups, and what wrote them."""
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 8))
    plan, ledgers = write_all(manifest, tmp_path / "out", num_shards=4)
    return manifest, plan, ledgers


def test_repairs_change_once_per_loss(written):
    manifest, plan, (ledger, other) = written
    out = ledger.parent.parent
    assert lost_shards(ledger) == []
    assert repairs(ledger) == []
    whole = contents(out)

    (out / "audio_1.tar").unlink()
    assert lost_shards(ledger) == ["audio_1.tar"]
    assert repairs(ledger) == repairs(ledger) == ["1: audio_1.tar"]
    assert repairs(other) == []

    write_group(manifest, plan, range(2), out, ledger, repairs=repairs(ledger))
    assert lost_shards(ledger) == []
    assert repairs(ledger) == ["1: audio_1.tar"]
    index_shards(plan, [ledger, other], out, out / "ledger.json")
    assert {name for name, checksum in contents(out).items() if checksum != whole[name]} == {"ledger/0.json"}

    os.truncate(out / "audio_0.tar", 512)
    (out / "sharded_manifests/manifest_1.json").unlink()
    lost_again = ["1: audio_1.tar", "2: audio_0.tar, sharded_manifests/manifest_1.json"]
    assert repairs(ledger) == lost_again
    write_group(manifest, plan, range(2), out, ledger, repairs=lost_again)
    assert repairs(ledger) == lost_again


def test_no_ledger_has_no_repairs_and_a_broken_one_is_named(tmp_path):
    ledger = tmp_path / "0.json"
    assert repairs(ledger) == []
    for text in ("", "[]", "{}", "\udcff"):
        ledger.write_text(text, errors="surrogateescape")
        with pytest.raises(UserError, match=r"0.json is not a ledger of shards"):
            repairs(ledger)
    with pytest.raises(UserError, match=r"cannot read .*none.json"):
        check_shards(tmp_path / "none.json")


def test_a_lost_or_altered_shard_is_found_before_training(written):
    _, _, (group_ledger, _) = written
    out = group_ledger.parent.parent
    check_shards(out / "ledger.json", full=True)
    tar = out / "audio_3.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    check_shards(out / "ledger.json")
    with pytest.raises(UserError, match=r"audio_3.tar: other bytes than .* delete it and run the workflow again"):
        check_shards(out / "ledger.json", full=True)
    tar.unlink()
    with pytest.raises(UserError, match=r"audio_3.tar: missing or not of the size .* run the workflow again"):
        check_shards(out / "ledger.json")
    check_shards(group_ledger, full=True)
    for name in ("audio_0.tar", "audio_1.tar", "audio_2.tar"):
        (out / name).unlink()
        (out / name.replace("audio", "sharded_manifests/manifest").replace(".tar", ".json")).unlink()
    with pytest.raises(UserError, match="and 2 more: missing"):
        check_shards(out / "ledger.json")


def test_shards_that_earlier_settings_left_are_removed(tmp_path):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 8))
    out = tmp_path / "out"
    write_all(manifest, out, num_shards=6, per_job=1)
    (out / "audio_9.tar.part").write_text("of a killed run")
    (out / "audio_notes.txt").write_text("the user's")
    (out / "ledger" / "notes.json").write_text("the user's")
    plan = plan_shards(manifest, 3, 0)
    ledgers = [out / "ledger" / "0.json"]
    write_group(manifest, plan, range(3), out, ledgers[0])
    stale = index_shards(plan, ledgers, out, out / "ledger.json")
    assert set(stale) == (
        {f"audio_{i}.tar" for i in (3, 4, 5)}
        | {f"sharded_manifests/manifest_{i}.json" for i in (3, 4, 5)}
        | {f"ledger/{i}.json" for i in range(1, 6)}
        | {f"ledger/shards/{i}.json" for i in (3, 4, 5)}
        | {"audio_9.tar.part"}
    )
    left = set(contents(out))
    assert not left & set(stale)
    assert {"audio_notes.txt", "ledger/notes.json", "audio_2.tar"} <= left
    assert index_shards(plan, ledgers, out, out / "ledger.json") == []


def test_ledgers_outside_the_folder_are_left_alone(tmp_path):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 2))
    plan = plan_shards(manifest, 1, 0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "7.json").write_text("{}")
    ledger = tmp_path / "elsewhere" / "0.json"
    write_group(manifest, plan, range(1), tmp_path / "out", ledger)
    assert index_shards(plan, [ledger], tmp_path / "out", tmp_path / "out" / "ledger.json") == []
    assert lost_shards(ledger) == []


def test_groups_that_do_not_make_up_the_plan_are_refused(written):
    manifest, plan, (first, second) = written
    out = first.parent.parent
    index = out / "ledger.json"
    with pytest.raises(UserError, match="2 of 4 shards are in no ledger, the first is shard 2"):
        index_shards(plan, [first], out, index)
    with pytest.raises(UserError, match=r"shard 0 is in .*0\.json and in .*0\.json"):
        index_shards(plan, [first, second, first], out, index)
    with pytest.raises(UserError, match=r"0\.json was written for another manifest, seed"):
        index_shards(plan_shards(manifest, 4, seed=1), [first, second], out, index)
    content = json.loads(second.read_text())
    content["shards"][0]["utterances"] -= 1
    second.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"the shards have 7 utterances .* planned were 8"):
        index_shards(plan, [first, second], out, index)
    content["shards"][0]["utterances"] += 1
    second.write_text(json.dumps(content))
    (out / "audio_2.tar").unlink()
    with pytest.raises(UserError, match=r"audio_2.tar: missing"):
        index_shards(plan, [first, second], out, index)


def test_metadata_has_the_keys_of_nemos_converter():
    yaml = pytest.importorskip("yaml")
    metadata = yaml.safe_load(metadata_yaml([2, 3, 2, 3], seed=3))
    assert metadata["num_samples_per_shard"] == 2
    assert metadata["dataset_config"]["num_shards"] == 4
    assert metadata["dataset_config"]["shuffle_seed"] == 3
    assert "created_datetime" not in metadata
    assert "# 2 of the shards have one more" in metadata_yaml([2, 3, 2, 3], seed=3)
    assert "num_samples_per_shard: 2  # on average; 1 to 4" in metadata_yaml([2, 4, 2, 1], seed=3)


def test_ledgers_are_read_without_numpy():
    """Snakemake reads them when it parses the rules, and its environment may have no NumPy."""
    import subprocess
    import sys

    code = "import sys; import nuptse.shard_ledger; print({'numpy', 'msgspec', 'soundfile'} & sys.modules.keys())"
    scripts = Path(__file__).parents[2] / "scripts"
    found = subprocess.run([sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# --- NeMo reads them ---


@pytest.fixture(scope="module")
def nemo_reader():
    """NeMo's reader of tarred audio; the import takes seconds."""
    adapters = pytest.importorskip("nemo.collections.common.data.lhotse.nemo_adapters")
    return adapters.LazyNeMoTarredIterator


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_shards", [1, 3, 11])
def test_nemo_reads_back_every_utterance(tmp_path, nemo_reader, num_shards):
    rows = make_rows(tmp_path, 11, ".flac")
    for row, utterance in zip(rows, ["x", "x-sub1", "x-sub2", "a/b/x", "a_b/x", "v1.2 ä"], strict=False):
        row["id"] = utterance
    expected = {row["id"]: (row["text"], soundfile.read(row["audio_filepath"], dtype="float32")[0]) for row in rows}
    long = write_audio(tmp_path / "long.wav", 99, seconds=0.5)
    segment = {"id": "segment", "audio_filepath": str(tmp_path / "long.wav"), "text": "part", "lang": "de"}
    # Less than 0.2 s shorter than the recording: as "-subN" with an offset, NeMo would return all of it.
    rows.append({**segment, "offset": 0.05, "duration": 0.4})
    expected["segment"] = "part", long[400:3600].astype("float32") / 2**15
    out = tmp_path / "out"
    write_all(write_manifest(tmp_path / "m.json", rows), out, num_shards)

    last = num_shards - 1
    cuts = nemo_reader(f"{out}/sharded_manifests/manifest__OP_0..{last}_CL_.json", f"{out}/audio__OP_0..{last}_CL_.tar")
    for cut in cuts:
        text, samples = expected.pop(cut.custom["id"])
        assert cut.supervisions[0].text == text
        assert cut.supervisions[0].language == "de"
        assert cut.sampling_rate == RATE
        np.testing.assert_array_equal(cut.load_audio()[0], samples)
    assert not expected
    assert len(cuts) == len(rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_nemo_reads_audio_in_another_form(tmp_path, nemo_reader, form):
    samples = speech_like(tmp_path / "a.wav")
    row = {"id": "a", "audio_filepath": str(tmp_path / "a.wav"), "duration": 1.0, "text": "x", "sampling_rate": 16000}
    manifest, out = write_manifest(tmp_path / "m.json", [row]), tmp_path / "out"
    write_group(manifest, plan_shards(manifest, 1, 0), [0], out, out / "0.json", form=form)
    (cut,) = nemo_reader(f"{out}/sharded_manifests/manifest_0.json", f"{out}/audio_0.tar")
    heard = cut.load_audio()[0]
    assert cut.duration == 1.0 and cut.sampling_rate == 16000 and len(heard) == len(samples)
    assert np.square(heard - samples).mean() < 0.01 * np.square(samples).mean()
