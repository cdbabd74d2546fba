"""Bad audio is found, named, mended by what the message says, and never decoded twice; see also test_sound.py."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.audio.utils import AudioLoadingError

import check_audio as command
from nuptse import audio_checking
from nuptse.audio_cache import AudioCache, settled, stamp_of
from nuptse.audio_facts import AudioFacts
from nuptse.audio_problems import PROBLEMS, AudioLimits, has_error, problems_of
from nuptse.audio_reading import Segment, measure
from nuptse.jsonl import read_rows, write_rows

RATE = 16000
SCRIPTS = Path(command.__file__).parent


def speech(seconds=2.0, rate=RATE, seed=0):
    """Sound of the full band whose level goes up and down, 16-bit."""
    times = np.arange(round(seconds * rate)) / rate
    level = 0.1 * (1.1 + np.sin(2 * np.pi * 3 * times))
    return (np.random.default_rng(seed).standard_normal(len(times)).clip(-3, 3) * level * 0.3).astype(np.float32)


def write(path, samples, rate=RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def cut(path, duration=None, rate=None, start=0.0, name=None, of=None):
    """Return the cut of a file in Lhotse's JSON form, with what its header says where nothing else is given."""
    header = soundfile.info(path) if duration is None or rate is None else None
    rate = rate or header.samplerate
    duration = duration or header.frames / rate
    of = of or duration
    recording = {
        "id": path.stem,
        "sources": [{"type": "file", "channels": [0], "source": str(path)}],
        "sampling_rate": rate,
        "num_samples": round(of * rate),
        "duration": of,
        "channel_ids": [0],
    }
    name = name or path.stem
    supervision = {"id": name, "recording_id": path.stem, "start": 0.0, "duration": duration, "text": "word", "language": "en"}  # fmt: skip
    return {"id": name, "start": start, "duration": duration, "channel": 0, "supervisions": [supervision], "recording": recording, "type": "MonoCut"}  # fmt: skip


@pytest.fixture
def check(tmp_path, capsys):
    """Run the command on some cuts; give the facts, and what it printed."""

    def run(cuts, *options):
        write_rows(tmp_path / "selected.jsonl.gz", cuts)
        facts = tmp_path / "facts.jsonl.gz"
        command.main(["--selected", str(tmp_path / "selected.jsonl.gz"), "--cache", str(tmp_path / "cache"), "--facts", str(facts), *options])  # fmt: skip
        return list(read_rows(facts, AudioFacts)), capsys.readouterr().out

    return run


# --- every problem: made, found, named, mended ---


def missing(path):
    write(path, speech())
    broken = cut(path)
    audio = path.read_bytes()
    path.unlink()
    return broken, lambda: path.write_bytes(audio) and broken


def empty(path):
    write(path, speech())
    broken = cut(path)
    audio = path.read_bytes()
    path.write_bytes(b"")
    return broken, lambda: path.write_bytes(audio) and broken


def unreadable(path):
    write(path, speech())
    broken = cut(path)
    audio = path.read_bytes()
    path.write_bytes(b"<html>404</html>" * 100)
    return broken, lambda: path.write_bytes(audio) and broken


def gsm(path):
    write(path, speech(), subtype="GSM610", format="WAV")
    samples, _ = soundfile.read(path, frames=2 * RATE)
    return cut(path, 2.0, RATE), lambda: cut(write(path.with_suffix(".flac"), samples))


def truncated(path):
    flac = write(path.with_suffix(".flac"), speech(4))
    broken = cut(flac)
    audio = flac.read_bytes()
    flac.write_bytes(audio[: len(audio) // 2])
    return broken, lambda: flac.write_bytes(audio) and broken


def truncated_wav(path):
    write(path, speech())
    broken = cut(path)
    audio = path.read_bytes()
    path.write_bytes(audio[: len(audio) // 2])
    return broken, lambda: path.write_bytes(audio) and broken


def truncated_mp3(path):
    mp3 = write(path.with_suffix(".mp3"), speech(4))
    broken = cut(mp3)
    audio = mp3.read_bytes()
    mp3.write_bytes(audio[: len(audio) // 2])
    return broken, lambda: mp3.write_bytes(audio) and broken


def too_long(path):
    return cut(write(path, speech()), 2.2), lambda: cut(path)


def too_short_a_claim(path):
    return cut(write(path, speech()), 1.8), lambda: cut(path)


def beyond_the_end(path):
    write(path, speech())
    return cut(path, 1.0, start=1.5, of=2.5), lambda: cut(path, 0.5, start=1.5, of=2.0)


def wrong_rate(path):
    write(path, speech(rate=8000), 8000)
    return cut(path, 2.0, 16000), lambda: cut(path)


def stereo(path):
    write(path, np.stack([speech(), speech(seed=1)], axis=1))
    return cut(path), lambda: cut(write(path, speech()))


def too_short(path):
    return cut(write(path, speech(0.05))), lambda: cut(write(path, speech(0.5)))


def nan(path):
    samples = speech()
    samples[100:103] = np.nan, np.inf, 1e30
    write(path, samples, subtype="FLOAT")
    return cut(path), lambda: cut(write(path, np.nan_to_num(samples, posinf=0).clip(-1, 1), subtype="PCM_16"))


def silent(path):
    noise = np.random.default_rng(0).integers(-3, 4, 2 * RATE).astype(np.int16)
    return cut(write(path, noise)), lambda: cut(write(path, speech()))


def mostly_silent(path):
    samples = np.concatenate([np.zeros(19 * RATE, np.float32), speech(1)])
    return cut(write(path, samples)), lambda: cut(path, 1.0, start=19.0, of=20.0)


def clipped(path):
    return cut(write(path, (speech() * 20).clip(-1, 1))), lambda: cut(write(path, speech()))


def offset(path):
    samples = speech() + 0.1
    return cut(write(path, samples)), lambda: cut(write(path, samples - samples.mean()))


def upsampled(path):
    spectrum = np.fft.rfft(speech())
    spectrum[len(spectrum) // 2 :] = 0  # what a good resampler makes of audio of 8 kHz
    return cut(write(path, np.fft.irfft(spectrum).astype(np.float32))), lambda: cut(write(path, speech()))


CASES = [
    (missing, "missing", "there is no such file"),
    (empty, "empty", "it holds no audio"),
    (unreadable, "unreadable", "it cannot be decoded: "),
    (gsm, "unreadable", "it cannot be decoded: WAV/GSM610 cannot be sought in, which Lhotse needs"),
    (truncated, "truncated", "but its header promises 4.000 s"),
    (truncated_wav, "truncated", "it ends after 0.999 s, but its header promises 2.000 s"),
    (truncated_mp3, "truncated", "but its header promises 4.0"),
    (too_long, "wrong_duration", "the manifest says 2.200 s from 0.000 s on, of 2.200 s in all, but 2.000 s of 2.000 s are there"),
    (too_short_a_claim, "wrong_duration", "of 1.800 s in all, but 1.800 s of 2.000 s are there"),
    (beyond_the_end, "wrong_duration", "1.000 s from 1.500 s on, of 2.500 s in all, but 0.500 s of 2.000 s are there"),
    (wrong_rate, "wrong_rate", "the manifest says 16000 Hz, but the file has 8000 Hz"),
    (stereo, "wrong_channels", "the manifest says 1 channel(s), but the file has 2"),
    (too_short, "too_short", "it has only 0.050 s"),
    (nan, "non_finite", "3 samples are no finite numbers"),
    (silent, "silent", "all of it is silent"),
    (mostly_silent, "mostly_silent", "95% of it is silent"),
    (clipped, "clipped", "of its samples are clipped at full scale"),
    (offset, "dc_offset", "its mean is +0.100 of full scale, not 0"),
    (upsampled, "narrow_band", "it holds speech up to 4250 Hz only, of the 8000 Hz that its rate promises"),
]  # fmt: skip


@pytest.mark.parametrize(("breaking", "code", "sentence"), CASES)
def test_bad_audio_is_found_named_and_mended(check, tmp_path, breaking, code, sentence):
    broken, mend = breaking(tmp_path / "a.wav")
    (facts,), out = check([broken])
    assert problems_of(facts, AudioLimits()) == [code]
    problem = PROBLEMS[code]
    assert sentence in problem.describe(facts)
    assert f"{problem.severity}: {code}: 1 utterances" in out and problem.remedy in out
    assert f"{facts.audio} ({facts.id}): {problem.describe(facts)}" in out
    assert ("`on_bad_audio: exclude` of the corpus" in out) == (problem.severity == "error")
    (facts,), out = check([mend()])
    assert problems_of(facts, AudioLimits()) == [] and "problems: none" in out


def test_every_problem_has_a_case():
    assert {code for _, code, _ in CASES} == set(PROBLEMS)


@pytest.mark.parametrize("breaking", [missing, empty, unreadable, gsm, truncated, stereo])
def test_what_is_an_error_is_what_lhotse_cannot_load(tmp_path, breaking):
    broken, _ = breaking(tmp_path / "a.wav")
    try:
        samples = CutSet.from_dicts([broken])[0].load_audio()
    except (AudioLoadingError, OSError):
        return
    assert len(samples) == 2  # which no batch of single channels takes


def test_a_limit_of_null_turns_a_check_off(check, tmp_path):
    (facts,), _ = check([clipped(tmp_path / "a.wav")[0]])
    assert problems_of(facts, AudioLimits(clipped=None)) == []
    assert not has_error(problems_of(facts, AudioLimits()))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".flac", {}),
        (".flac", {"subtype": "PCM_24"}),
        (".wav", {"subtype": "PCM_U8"}),
        (".wav", {"subtype": "ALAW"}),
        (".wav", {"subtype": "ULAW"}),
        (".wav", {"subtype": "FLOAT"}),
        (".wav", {"subtype": "DOUBLE"}),
        (".mp3", {}),
        (".ogg", {"format": "OGG", "subtype": "VORBIS"}),
        (".opus", {"format": "OGG", "subtype": "OPUS"}),
    ],
)
def test_good_audio_of_every_format_has_no_problem(check, tmp_path, suffix, options):
    (facts,), _ = check([cut(write(tmp_path / f"a{suffix}", speech(3), **options))])
    assert problems_of(facts, AudioLimits()) == []
    assert facts.reason is None and abs(facts.file_s - 3) < 0.1 and 0 < facts.peak < 1


def test_equal_audio_has_one_digest_whatever_its_container(check, tmp_path):
    samples = np.rint(speech() * 32768) / 32768
    files = [
        write(tmp_path / "a.flac", samples),
        write(tmp_path / "b.wav", samples),
        write(tmp_path / "c.wav", samples, subtype="FLOAT"),
        write(tmp_path / "d.flac", samples, subtype="PCM_24"),
    ]
    facts, _ = check([cut(file) for file in files])
    assert len({row.digest for row in facts}) == 1
    other, _ = check([cut(write(tmp_path / "e.wav", samples[::-1])), cut(write(tmp_path / "f.wav", samples, 8000))])
    assert len({row.digest for row in [*facts, *other]}) == 3


# --- cuts of one recording, order, groups ---


def test_cuts_of_a_recording_share_one_pass(check, tmp_path, monkeypatch):
    long = write(tmp_path / "long.flac", np.concatenate([speech(seed=seed) for seed in range(5)]))
    opened = []
    monkeypatch.setattr(soundfile.SoundFile, "__init__", _counting(opened, soundfile.SoundFile.__init__))
    cuts = [cut(long, 2.0, RATE, start=2.0 * index, name=f"c{index}", of=10.0) for index in (3, 0, 4, 1, 2)]
    cuts.append(cut(long, 5.0, RATE, start=1.5, name="over", of=10.0))
    facts, _ = check(cuts)
    assert [row.id for row in facts] == ["c3", "c0", "c4", "c1", "c2", "over"]
    assert len(opened) == 1
    for seed, row in ((3, facts[0]), (0, facts[1]), (4, facts[2])):
        (alone,), _ = check([cut(write(tmp_path / f"{seed}.flac", speech(seed=seed)))])
        assert (row.digest, row.peak, row.rms_db, row.bandwidth_hz) == (alone.digest, alone.peak, alone.rms_db, alone.bandwidth_hz)  # fmt: skip
    assert {row.file_s for row in facts} == {10.0} and facts[-1].cut_s == 5.0


def _counting(opened, original):
    def init(self, file, *args, **kwargs):
        opened.append(file)
        original(self, file, *args, **kwargs)

    return init


def test_groups_do_the_work_of_the_whole(check, tmp_path):
    cuts = [cut(write(tmp_path / f"{index}.wav", speech(0.5, seed=index))) for index in range(20)]
    write_rows(tmp_path / "selected.jsonl.gz", cuts)
    for group in range(3):
        command.main(["--selected", str(tmp_path / "selected.jsonl.gz"), "--cache", str(tmp_path / "cache"), "--group", str(group), "3", "--ledger", str(tmp_path / f"{group}.json")])  # fmt: skip
    ledgers = [json.loads((tmp_path / f"{group}.json").read_text()) for group in range(3)]
    assert sum(ledger["decoded"] for ledger in ledgers) == 20 and all(ledger["decoded"] for ledger in ledgers)
    settle(tmp_path / "cache")
    facts, out = check(cuts)
    assert "20 files: 0 decoded, 20 known" in out and [row.id for row in facts] == [row["id"] for row in cuts]


def test_processes_measure_what_one_measures(check, tmp_path, monkeypatch):
    cuts = [cut(write(tmp_path / f"{index}.wav", speech(0.5, seed=index))) for index in range(40)]
    alone, _ = check(cuts)
    monkeypatch.setattr(audio_checking, "_ALONE_S", 1.0)
    for file in (tmp_path / "cache").iterdir():
        file.unlink()
    together, out = check(cuts, "--workers", "2")
    assert together == alone and "40 decoded" in out


def test_memory_does_not_grow_with_the_cuts_of_a_recording(tmp_path):
    long = write(tmp_path / "long.wav", np.tile(speech(), 100))
    segments = [Segment(start / 2, 0.5, 0) for start in range(400)]
    measure(str(long), segments[:1])
    tracemalloc.start()
    found = measure(str(long), segments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 400 and {row["cut_s"] for row in found} == {0.5}
    assert peak < 8e6  # a block of 2 MB, a meter, and what was found


# --- the cache ---


def settle(cache):
    """Believe in stamps at once: the files of a test are younger than two seconds."""
    for file in cache.glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            row[1] = list(stamp_of(row[0]))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_second_run_decodes_nothing(check, tmp_path, monkeypatch):
    cuts = [cut(write(tmp_path / f"{index}.wav", speech(0.5, seed=index))) for index in range(5)]
    first, out = check(cuts)
    assert "5 files: 5 decoded, 0 known" in out
    monkeypatch.setattr(audio_checking, "measure", None)  # would fail
    second, out = check(cuts)  # by content, the stamps being too young
    assert second == first and "5 files: 0 decoded, 5 known" in out
    settle(tmp_path / "cache")
    monkeypatch.setattr(audio_checking, "xxh128_of", None)
    third, out = check(cuts)
    assert third == first and "5 files: 0 decoded, 5 known" in out


def test_an_edited_file_is_decoded_again(check, tmp_path):
    cuts = [cut(write(tmp_path / f"{index}.wav", speech(0.5, seed=index))) for index in range(5)]
    before, _ = check(cuts)
    settle(tmp_path / "cache")
    write(tmp_path / "3.wav", speech(0.5, seed=99))  # of the same size
    after, out = check(cuts)
    assert "5 files: 1 decoded, 4 known" in out
    assert [new.digest == old.digest for new, old in zip(after, before, strict=True)] == [True, True, True, False, True]


def test_a_touched_file_and_other_declarations_are_not_decoded_again(check, tmp_path):
    file = write(tmp_path / "a.wav", speech())
    check([cut(file)])
    settle(tmp_path / "cache")
    os.utime(file, (0, 0))
    wrong = cut(file)
    wrong["recording"]["sampling_rate"] = 8000
    (facts,), out = check([wrong])
    assert "1 files: 0 decoded, 1 known" in out and problems_of(facts, AudioLimits()) == ["wrong_rate"]


def test_another_segment_is_measured(check, tmp_path):
    file = write(tmp_path / "a.wav", speech())
    (whole,), _ = check([cut(file)])
    (part,), out = check([cut(file, 1.0, start=0.5, of=2.0)])
    assert "1 decoded" in out and part.cut_s == 1.0 and part.digest != whole.digest


def test_code_that_measures_otherwise_measures_anew(check, tmp_path, monkeypatch):
    cuts = [cut(write(tmp_path / "a.wav", speech()))]
    check(cuts)
    monkeypatch.setattr("nuptse.audio_cache.measuring_version", lambda: "another")
    assert "1 decoded" in check(cuts)[1]


def test_a_young_stamp_is_not_trusted(tmp_path):
    stamp = stamp_of(str(write(tmp_path / "a.wav", speech())))
    newest = max(stamp.mtime_ns, stamp.ctime_ns)
    assert settled(stamp, newest + 1_000_000_000) is None
    assert settled(stamp, newest + 3_000_000_000) == stamp


def test_half_a_line_of_a_killed_process_is_ignored(check, tmp_path):
    cuts = [cut(write(tmp_path / f"{index}.wav", speech(0.5, seed=index))) for index in range(3)]
    first, _ = check(cuts)
    (file,) = (tmp_path / "cache").glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-40])
    again, out = check(cuts)
    assert again == first and "1 decoded, 2 known" in out
    assert len(list((tmp_path / "cache").glob("*.jsonl"))) == 1  # tidied up


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    files = [write(tmp_path / f"{index}.flac", speech(20, seed=index)) for index in range(60)]
    write_rows(tmp_path / "selected.jsonl.gz", [cut(file) for file in files])
    arguments = [sys.executable, str(SCRIPTS / "check_audio.py"), "--selected", "selected.jsonl.gz", "--cache", "cache", "--facts", "facts.jsonl.gz"]  # fmt: skip
    # Every file takes a little longer, so that the kill comes in the middle.
    slow = "import sys, time, runpy; import nuptse.audio_checking as c; m = c.measure; c.measure = lambda *a: (time.sleep(0.05), m(*a))[1]; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    process = subprocess.Popen([sys.executable, "-c", slow, *arguments[1:]], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 60
    while not _lines(tmp_path / "cache") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = _lines(tmp_path / "cache")
    assert 0 < done < 60 and not (tmp_path / "facts.jsonl.gz").exists()
    finished = subprocess.run(arguments, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert f"60 files: {60 - done} decoded, {done} known" in finished.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_worker_is_told_and_the_next_run_goes_on(tmp_path):
    """Two processes share the work from an hour of audio on."""
    sound = write(tmp_path / "sound.wav", speech(60, rate=8000), rate=8000)
    files = [tmp_path / f"{index:02}.wav" for index in range(64)]
    for file in files:
        file.symlink_to(sound)
    write_rows(tmp_path / "selected.jsonl.gz", [cut(file) for file in files])
    arguments = [sys.executable, str(SCRIPTS / "check_audio.py"), "--selected", "selected.jsonl.gz", "--cache", "cache", "--facts", "facts.jsonl.gz", "--workers", "2"]  # fmt: skip
    job = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while len(workers := _workers(job.pid)) < 2:
        assert job.poll() is None
        time.sleep(0.01)
    os.kill(workers[0], signal.SIGKILL)
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 1 and said == "ERROR: a worker was killed, perhaps for its memory; use fewer workers\n"
    assert not (tmp_path / "facts.jsonl.gz").exists()
    finished = subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "64 files: " in finished.stdout
    assert len(list(read_rows(tmp_path / "facts.jsonl.gz", AudioFacts))) == 64


def _workers(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except FileNotFoundError:
        return []


def _lines(cache):
    return sum(file.read_bytes().count(b"\n") for file in cache.glob("*.jsonl"))


def test_jobs_at_once_share_a_cache(tmp_path):
    one, other = AudioCache(tmp_path, sqlite3.connect(":memory:")), AudioCache(tmp_path, sqlite3.connect(":memory:"))
    entry = audio_checking.Entry("a", None, "c", one.version, [], [])
    one.add(entry)
    other.add(audio_checking.Entry("b", None, "c", one.version, [], []))
    one.close()
    other.close(tidy=True)
    both = AudioCache(tmp_path, sqlite3.connect(":memory:"))
    assert both.entry("b", []) is not None and both.entry("a", []) is not None


def test_lhotse_reads_what_the_tests_write(tmp_path):
    file = write(tmp_path / "a.wav", speech())
    recording = Recording.from_file(file)
    made = CutSet.from_dicts([cut(file)])[0]
    assert made.recording.num_samples == recording.num_samples
    assert isinstance(made.supervisions[0], SupervisionSegment) and made.load_audio().shape == (1, 2 * RATE)
