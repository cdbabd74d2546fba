import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import extract

SCRIPT = Path(__file__).parents[2] / "scripts" / "extract.py"


@pytest.fixture
def archives(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"speech")
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(tmp_path / f"{name}.wav", arcname=f"C/{name}.wav")
    return [tmp_path / "a.tar", tmp_path / "b.tar"]


def arguments(archives, directory):
    named = [part for archive in archives for part in ("--archive", str(archive))]
    return [*named, "--output", f"{directory}/corpus", "--ledger", f"{directory}/corpus.json"]


def test_two_archives_become_one_directory(archives, tmp_path, capsys):
    extract.main(arguments(archives, tmp_path))
    assert sorted(path.name for path in (tmp_path / "corpus" / "C").iterdir()) == ["a.wav", "b.wav"]
    assert json.loads((tmp_path / "corpus.json").read_text())["files"] == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{tmp_path}/corpus: 2 archives, 20480 bytes in; 2 files, 12 bytes out; 0 shadowed"


def test_a_mistake_is_one_message_without_traceback(tmp_path):
    (tmp_path / "c.tar.gz").write_bytes(b"\x1f\x8b\x08 not really")
    command = [sys.executable, str(SCRIPT), *arguments([tmp_path / "c.tar.gz"], tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith(f"ERROR: {tmp_path}/c.tar.gz is damaged")
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "corpus").exists()
