"""Audio of one's own: every file is accounted for, long ones are cut at their pauses, nothing is lost or said twice."""

import json
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from corpus_files import drop_length
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet

import list_audio as command
from nuptse.audio_sources import find_sources
from nuptse.errors import UserError
from nuptse.joining import Piece, RecordingRow, join_pieces
from nuptse.jsonl import read_rows, write_rows
from nuptse.pauses import LAST_S, LONGEST_S, SHORTEST_S, frame_length, pieces, powers, quiet_cuts
from nuptse.recordings import list_audio

RATE = 16000


def noise(seconds, rate=RATE, level=0.1, seed=0):
    return (np.random.default_rng(seed).standard_normal(round(seconds * rate)) * level).astype(np.float32)


def write(path, samples, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.fixture
def listed(tmp_path):
    """List some audio; return the ledger, the recordings and the cuts."""

    def run(audio, threads=2):
        out = tmp_path / "out"
        ledger = list_audio(audio, out / "cuts.jsonl.gz", out / "recordings.jsonl", threads)
        return ledger, list(read_rows(out / "recordings.jsonl", dict)), list(CutSet.from_file(out / "cuts.jsonl.gz"))

    return run


# --- a folder ---


def test_every_file_of_a_folder_is_taken_or_left_out_with_a_reason(listed, tmp_path):
    folder = tmp_path / "my recordings ü"
    write(folder / "deep" / "er" / "a b.flac", noise(2))
    write(folder / "tief – naïve.wav", noise(1, 8000), 8000)
    write(folder / "c.opus", noise(1), format="OGG", subtype="OPUS")
    write(folder / "d.mp3", noise(1))
    write(folder / "E.OGG", noise(1), format="OGG", subtype="VORBIS")
    write(folder / "short.wav", noise(0.05))
    whole = write(folder / "whole.flac", noise(2)).read_bytes()
    (folder / "damaged.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no audio")
    (folder / "talk.m4a").write_bytes(b"ftyp")
    (folder / "empty.wav").touch()
    (folder / "nonsense.mp3").write_bytes(b"\0" * 3000)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")  # files_below passes over what is no file
    ledger, recordings, cuts = listed(folder)
    taken = ["E.OGG", "c.opus", "d.mp3", "deep/er/a b.flac", "tief – naïve.wav", "whole.flac"]
    assert [row["row"]["audio_filepath"] for row in recordings] == [f"{folder}/{name}" for name in taken]
    assert ledger.found == 12 and ledger.taken == len(cuts) == 6
    assert ledger.seconds == pytest.approx(8, abs=0.2)
    assert ledger.sampling_rates == {16000: 5, 8000: 1}
    reasons = {entry["audio_filepath"].removeprefix(f"{folder}/"): entry["reason"] for entry in ledger.left_out}
    assert reasons.keys() == {"damaged.flac", "empty.wav", "nonsense.mp3", "notes.txt", "short.wav", "talk.m4a"}
    assert reasons["notes.txt"] == "not audio" and reasons["empty.wav"] == "empty"
    assert reasons["talk.m4a"] == "libsndfile does not read .m4a: convert it, for example to FLAC"
    assert reasons["damaged.flac"].startswith("unreadable: ") and reasons["short.wav"] == "shorter than 0.1 s"
    assert reasons["nonsense.mp3"] == "unreadable: it is damaged, or no .mp3"
    for cut in cuts:
        assert cut.load_audio().shape == (1, cut.num_samples)


def test_the_command_writes_the_account_and_says_it(tmp_path, capsys):
    write(tmp_path / "in" / "a.wav", noise(1))
    (tmp_path / "in" / "b.txt").touch()
    names = {name: tmp_path / name for name in ("cuts.jsonl.gz", "recordings.jsonl", "ledger.json")}
    arguments = [f"--{path.name.split('.')[0]}={path}" for path in names.values()]
    command.main([f"--audio={tmp_path / 'in'}", *arguments])
    ledger = json.loads(names["ledger.json"].read_text())
    assert ledger["found"] == ledger["taken"] + len(ledger["left_out"]) == 2
    printed = capsys.readouterr().out
    assert f"left out: {tmp_path}/in/b.txt: not audio" in printed
    assert "in: 2; out: 1 recordings" in printed and "left out: 1" in printed
    first = names["cuts.jsonl.gz"].read_bytes()
    command.main([f"--audio={tmp_path / 'in'}", *arguments])
    assert names["cuts.jsonl.gz"].read_bytes() == first, "same input, same bytes"


def test_a_file_whose_header_has_no_length_is_left_out(listed, tmp_path):
    write(tmp_path / "audio" / "a.flac", noise(1))
    drop_length(write(tmp_path / "audio" / "b.flac", noise(1)))
    ledger, _, cuts = listed(tmp_path / "audio")
    assert len(cuts) == 1
    assert ledger.left_out[0]["reason"].startswith("its header does not say how long it is: write it again")


@pytest.mark.parametrize("count", [0, 30])
def test_a_folder_without_audio_is_an_error(listed, tmp_path, count):
    (tmp_path / "in").mkdir()
    for number in range(count):
        (tmp_path / "in" / f"{number}.txt").touch()
    with pytest.raises(UserError, match="`audio` holds nothing that can be transcribed") as error:
        listed(tmp_path / "in")
    assert ("10 more, see the ledger" in str(error.value)) == (count == 30)


def test_one_file_is_enough(listed, tmp_path):
    ledger, recordings, _ = listed(write(tmp_path / "talk.flac", noise(1)))
    assert ledger.taken == 1 and recordings[0]["row"] == {"audio_filepath": f"{tmp_path}/talk.flac"}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system refuses such names")
def test_a_name_that_is_no_text_is_left_out(listed, tmp_path):
    write(tmp_path / "in" / "a.wav", noise(1))
    odd = tmp_path / "in" / "b\udcff.wav"
    odd.write_bytes((tmp_path / "in" / "a.wav").read_bytes())
    ledger, *_ = listed(tmp_path / "in")
    assert ledger.left_out == [
        {"audio_filepath": f"{tmp_path}/in/b\\udcff.wav", "reason": "its name is not UTF-8: rename it"}
    ]


def test_channels_are_averaged_and_counted(listed, tmp_path):
    left, right = noise(1, seed=1), noise(1, seed=2)
    ledger, _, (cut,) = listed(write(tmp_path / "s.wav", np.stack([left, right], 1), subtype="FLOAT"))
    assert "channels averaged: 1" in str(ledger)
    assert cut.load_audio().mean(axis=0) == pytest.approx((left + right) / 2, abs=1e-6)


def test_samples_that_are_no_numbers_are_left_out(listed, tmp_path):
    write(tmp_path / "in" / "a.wav", noise(1))
    bad = noise(1)
    bad[100] = np.nan
    write(tmp_path / "in" / "b.wav", bad, subtype="FLOAT")
    ledger, *_ = listed(tmp_path / "in")
    assert [entry["reason"] for entry in ledger.left_out] == ["unreadable: it holds samples that are no numbers"]


# --- manifests ---


def test_a_nemo_manifest_with_parts_of_files_and_texts(listed, tmp_path):
    write(tmp_path / "wav" / "a.wav", np.concatenate([noise(1, level=0.01), noise(2, level=0.3)]))
    rows = [
        {"audio_filepath": f"{tmp_path}/wav/a.wav", "text": "all of it", "speaker": "s"},
        {"audio_filepath": "wav/a.wav", "offset": 1.0, "duration": 1.5, "text": "a part"},
        {"audio_filepath": "wav/a.wav", "offset": 2.5, "duration": 0.55},
        {"audio_filepath": "wav/a.wav", "offset": 2.5, "duration": 3},
        {"audio_filepath": "wav/a.wav", "offset": 9},
        {"audio_filepath": "wav/none.wav", "offset": None},
    ]
    write_rows(tmp_path / "m.json", rows)
    ledger, recordings, cuts = listed(tmp_path / "m.json")
    assert [row["row"] for row in recordings] == rows[:3]
    assert [cut.duration for cut in cuts] == [3.0, 1.5, 0.5], "0.05 s too long is rounding"
    assert cuts[1].load_audio().std() == pytest.approx(0.3, rel=0.05)
    outside = "offset and duration lie outside of its 3.000 s"
    assert ledger.left_out == [
        {"audio_filepath": "wav/a.wav", "offset": 2.5, "duration": 3.0, "reason": outside},
        {"audio_filepath": "wav/a.wav", "offset": 9, "reason": outside},
        {"audio_filepath": "wav/none.wav", "reason": "no such file"},
    ]
    assert f"left out: wav/a.wav (offset 2.5, duration 3.0): {outside}" in str(ledger)


def test_lhotse_cuts_keep_their_channel_and_their_text(listed, tmp_path):
    from lhotse import MonoCut, Recording, SupervisionSegment

    write(tmp_path / "s.wav", np.stack([noise(2, level=0.01), noise(2, level=0.3)], 1))
    recording = Recording.from_file(tmp_path / "s.wav")
    text = SupervisionSegment("u", recording.id, 0, 1, text="yes")
    cut = MonoCut("u", 0.5, 1.0, 1, [text], recording=recording)
    CutSet.from_cuts([cut]).to_file(tmp_path / "c.jsonl.gz")
    _, (row,), (found,) = listed(tmp_path / "c.jsonl.gz")
    assert row["row"] == {"id": "u", "audio_filepath": f"{tmp_path}/s.wav", "offset": 0.5, "text": "yes"}
    assert np.array_equal(found.load_audio(), cut.load_audio())


def test_a_cut_of_a_channel_that_is_not_there_is_left_out(listed, tmp_path):
    from lhotse import MonoCut, MultiCut, Recording

    write(tmp_path / "s.wav", np.stack([noise(1), noise(1)], 1))
    recording = Recording.from_file(tmp_path / "s.wav")
    cuts = [MultiCut(name, 0, 1.0, channels, recording=recording) for name, channels in (("a", [0, 1]), ("b", [1, 7]))]
    CutSet.from_cuts([*cuts, MonoCut("c", 0, 1.0, 2, recording=recording)]).to_file(tmp_path / "c.jsonl.gz")
    ledger, _, (found,) = listed(tmp_path / "c.jsonl.gz")
    assert found.channel == [0, 1]
    assert [(entry["id"], entry["reason"]) for entry in ledger.left_out] == [
        ("b", "it has only 2 channels"),
        ("c", "it has only 2 channels"),
    ]


def test_a_cut_whose_audio_is_a_command_is_refused(tmp_path):
    source = {"type": "command", "channels": [0], "source": f"touch {tmp_path}/ran"}
    row = {"id": "u", "start": 0, "duration": 1, "channel": 0, "type": "MonoCut", "recording": {"id": "r", "sources": [source], "sampling_rate": 16000, "num_samples": 16000, "duration": 1}}  # fmt: skip
    write_rows(tmp_path / "c.jsonl", [row])
    with pytest.raises(UserError, match="line 1 .*not one plain audio file"):
        list(find_sources(tmp_path / "c.jsonl"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("line", ["no json", "[]", '{"path": "a.wav"}', '{"audio_filepath": "a.wav", "offset": "1"}'])
def test_a_wrong_row_is_named(tmp_path, line):
    (tmp_path / "m.json").write_text('{"audio_filepath": "a.wav"}\n' + line + "\n")
    with pytest.raises(UserError, match=r"m.json, line 2 is neither a row of a NeMo manifest .* nor a Lhotse cut"):
        list(find_sources(tmp_path / "m.json"))


def test_blank_lines_and_the_mark_that_editors_put_first_are_no_rows(tmp_path):
    row = '{"audio_filepath": "a.wav"}'
    (tmp_path / "m.json").write_text(f"\ufeff{row}\n\n{row}\n  \r\n\n", "utf-8")
    assert len(list(find_sources(tmp_path / "m.json"))) == 2
    (tmp_path / "m.json").write_text(f"{row}\n\nno json\n")
    with pytest.raises(UserError, match="line 3 is neither"):
        list(find_sources(tmp_path / "m.json"))


# --- pauses ---


def speech_with_pauses(seconds, seed=0):
    """Sentences of 2 to 6 s with pauses of 0.4 to 1 s; return samples and (start, end) of the sentences, s."""
    random = np.random.default_rng(seed)
    parts, sentences, now = [], [], 0.0
    while now < seconds:
        length, pause = random.uniform(2, 6), random.uniform(0.4, 1)
        parts += [noise(length, seed=seed), noise(pause, level=1e-4, seed=seed)]
        sentences.append((now, now + length))
        now += length + pause
    return np.concatenate(parts), sentences


@pytest.mark.parametrize("seed", range(5))
def test_a_long_recording_is_cut_in_its_pauses(listed, tmp_path, seed):
    samples, sentences = speech_with_pauses(200, seed)
    _, (row,), cuts = listed(write(tmp_path / "long.flac", samples))
    assert row["pieces"] == len(cuts) > 6
    assert max(cut.duration for cut in cuts) <= LONGEST_S
    assert min(cut.duration for cut in cuts[:-1]) >= SHORTEST_S
    for cut in cuts[1:]:
        assert not any(start + 0.02 < cut.start < end - 0.02 for start, end in sentences)
    joined = np.concatenate([cut.load_audio()[0] for cut in cuts])
    assert np.array_equal(joined, soundfile.read(tmp_path / "long.flac", dtype="float32")[0])


@given(st.integers(1, 20_000), st.sampled_from([8000, 11025, 16000, 44100, 48000]), st.booleans())
def test_pieces_hold_every_sample_once_and_none_is_too_long(frames, rate, silent):
    length = frame_length(rate)
    power = np.zeros(frames, np.float32) if silent else np.random.default_rng(frames).random(frames, np.float32)
    samples = frames * length - length // 2
    cuts = quiet_cuts(power, length / rate)
    found = pieces(samples, cuts, length)
    assert found[0][0] == 0 and sum(count for _, count in found) == samples
    assert all(start + count == following for (start, count), (following, _) in pairwise(found))
    durations = [count / rate for _, count in found]
    assert max(durations) <= LONGEST_S + 1e-6
    assert min(durations[:-1], default=SHORTEST_S) >= SHORTEST_S - 0.01
    assert len(durations) == 1 or durations[-1] >= LAST_S - 0.02


def test_a_constant_offset_is_no_sound():
    _, power = powers([np.full(320, 0.5, np.float32), noise(0.01)], 160)
    assert power[0] == power[1] == 0 < power[2]


def test_memory_does_not_grow_with_the_length(listed, tmp_path):
    with soundfile.SoundFile(tmp_path / "hour.flac", "w", 8000, 1) as file:
        minute = noise(60, 8000)
        for _ in range(60):
            file.write(minute)
    tracemalloc.start()
    _, (row,), _ = listed(tmp_path / "hour.flac", threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert row["duration"] == 3600 and row["pieces"] >= 120
    assert peak < 40e6, "an hour is 115 MB of samples"


# --- joining ---


def test_pieces_are_joined_in_order_with_their_times():
    recordings = [
        RecordingRow({"audio_filepath": "a", "text": "t"}, 40.0, 3),
        RecordingRow({"audio_filepath": "b", "offset": 5.0}, 2.0, 1),
    ]
    cuts = [Piece("1", 0, 20), Piece("2", 20, 15), Piece("3", 35, 5), Piece("4", 5, 2)]
    first, second = join_pieces(recordings, cuts, {"1": "one", "2": "", "3": "two three", "4": "four"})
    assert first == {
        "audio_filepath": "a",
        "text": "t",
        "duration": 40.0,
        "pred_text": "one two three",
        "segments": [
            {"start": 0, "end": 20, "text": "one"},
            {"start": 20, "end": 35, "text": ""},
            {"start": 35, "end": 40, "text": "two three"},
        ],
    }
    assert second["offset"] == 5 and second["segments"] == [{"start": 0, "end": 2, "text": "four"}]


@pytest.mark.parametrize("count", [1, 3])
def test_cuts_and_recordings_must_fit(count):
    cuts = [Piece(str(number), number, 1) for number in range(count)]
    with pytest.raises(UserError, match="list the audio again"):
        list(join_pieces([RecordingRow({"audio_filepath": "a"}, 2, 2)], cuts, {"0": "", "1": "", "2": ""}))
