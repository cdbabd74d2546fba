"""The three commands that make shards, as Snakemake calls them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import index_shards
import plan_shards
import tar_shards
from nuptse.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Five utterances; their audio need not be audio, because it is copied as it is."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for number in range(5):
        Path(f"u{number}.wav").write_bytes(bytes([number]) * (1000 + number))
        rows.append({"id": f"u{number}", "audio_filepath": f"u{number}.wav", "duration": 360.0, "text": "yes"})
    Path("m.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def plan(num_shards: int = 3, manifest: str = "m.json") -> list[str]:
    return f"--manifest {manifest} --num-shards {num_shards} --seed 1 --plan plan.bin".split()


def tar(group: int, *more: str) -> list[str]:
    fixed = ["--manifest", "m.json", "--plan", "plan.bin", "--shards-per-job", "2", "--output-dir", "out"]
    return [*fixed, "--group", str(group), "--ledger", f"out/ledger/{group}.json", *more]


INDEX = ["--plan", "plan.bin", "--output-dir", "out", "--ledger", "out/ledger.json"]
LEDGERS = ["--group-ledger", "out/ledger/0.json", "--group-ledger", "out/ledger/1.json"]


def test_three_commands_make_a_folder_of_shards(corpus, capsys):
    plan_shards.main(plan())
    assert "m.json: 5 utterances and 0.50 hours in" in capsys.readouterr().out
    tar_shards.main(tar(0))
    assert "shards 0 to 1: 3 utterances in, 3 utterances and 0.30 hours out, dropped 0" in capsys.readouterr().out
    tar_shards.main(tar(1, "--repair", '["1: audio_2.tar"]', "--workers", "2"))
    index_shards.main([*INDEX, *LEDGERS])
    assert capsys.readouterr().out.splitlines()[-1] == (
        "out: 5 utterances and 0.50 hours in, 5 utterances and 0.50 hours out in 3 shards, dropped 0"
    )
    assert sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()) == [
        "audio_0.tar",
        "audio_1.tar",
        "audio_2.tar",
        "ledger.json",
        "ledger/0.json",
        "ledger/1.json",
        "ledger/shards/0.json",
        "ledger/shards/1.json",
        "ledger/shards/2.json",
        "metadata.yaml",
        "sharded_manifests/manifest_0.json",
        "sharded_manifests/manifest_1.json",
        "sharded_manifests/manifest_2.json",
        "tarred_audio_manifest.json",
    ]
    assert json.loads(Path("out/ledger/0.json").read_text())["repairs"] == []
    assert json.loads(Path("out/ledger/1.json").read_text())["repairs"] == ["1: audio_2.tar"]
    assert "repairs" not in json.loads(Path("out/ledger.json").read_text())


def test_the_index_says_what_it_removes(corpus, capsys):
    plan_shards.main(plan())
    tar_shards.main(tar(0))
    tar_shards.main(tar(1))
    Path("out/audio_3.tar").write_text("of an earlier run")
    index_shards.main([*INDEX, "--group-ledger", "out/ledger/0.json", "out/ledger/1.json"])
    assert "out: removed 1 files of an earlier run: audio_3.tar" in capsys.readouterr().out


def test_a_changed_manifest_is_refused(corpus):
    plan_shards.main(plan())
    with Path("m.json").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"m\.json has changed"):
        tar_shards.main(tar(0))
    assert not Path("out").exists()


@pytest.mark.parametrize("text", ["1: audio_2.tar", "[1]", '"x"'])
def test_a_malformed_repair_is_refused(corpus, text):
    plan_shards.main(plan())
    with pytest.raises(UserError, match="--repair"):
        tar_shards.main(tar(0, "--repair", text))


def test_a_mistake_ends_with_one_line_and_status_1(corpus):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "plan_shards.py", *plan(num_shards=9)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "ERROR: num_shards is 9 but m.json has only 5 utterances; set num_shards to 5 or less\n"
    assert not Path("plan.bin").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_killed_job_leaves_no_final_name_and_no_worker_and_can_be_repeated(corpus):
    plan_shards.main(plan())
    audio = [Path(f"u{number}.wav").read_bytes() for number in range(5)]
    for number in range(5):  # Opening a pipe that nobody writes to waits for ever.
        Path(f"u{number}.wav").unlink()
        os.mkfifo(f"u{number}.wav")
    command = [sys.executable, SCRIPTS / "tar_shards.py", *tar(0, "--workers", "2")]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 30
    while len(list(Path("out").glob("*.part"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGKILL)
    # The workers hold its standard output open until they end.
    job.communicate(timeout=30)
    left = [path for path in Path("out").rglob("*") if path.is_file()]
    assert left
    assert all(path.name.endswith(".part") for path in left)

    for number in range(5):
        Path(f"u{number}.wav").unlink()
        Path(f"u{number}.wav").write_bytes(audio[number])
    tar_shards.main(tar(0))
    tar_shards.main(tar(1))
    index_shards.main([*INDEX, *LEDGERS])
    assert not list(Path("out").rglob("*.part"))
