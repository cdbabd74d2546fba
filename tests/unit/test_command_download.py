import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import download
import download_model
from nuptse.addresses import hand_over
from nuptse.errors import UserError

SCRIPT = Path(__file__).parents[2] / "scripts" / "download.py"


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / "source.tar").write_bytes(b"speech")
    return ["--locks", f"{tmp_path}/locks", "--output", f"{tmp_path}/data/corpus.tar"]


def test_first_good_mirror_is_written_and_reported(tmp_path, arguments, capsys):
    sha256 = hashlib.sha256(b"speech").hexdigest()
    urls = ["--url", f"file://{tmp_path}/none.tar", "--url", f"file://{tmp_path}/source.tar"]
    download.main([*urls, "--sha256", sha256.upper(), "--bytes", "6", *arguments])
    assert (tmp_path / "data" / "corpus.tar").read_bytes() == b"speech"
    said = capsys.readouterr().out
    assert f"file://{tmp_path}/none.tar: no such file" in said
    assert said.endswith(f"corpus.tar: 6 bytes, sha256 {sha256}, from file://{tmp_path}/source.tar\n")


def test_a_mistake_is_one_message_without_traceback(tmp_path, arguments):
    command = [sys.executable, str(SCRIPT), "--url", f"{tmp_path}/source.tar", "--sha256", "0" * 64, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith(f"ERROR: {tmp_path}/data/corpus.tar: no address gave the file:\n")
    assert f"wrong sha256: expected {'0' * 64}, found" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "data" / "corpus.tar").exists()


def nemo(path, **more):
    """Write a model; ``more`` are further members, by name."""
    with tarfile.open(path, "w") as archive:
        for name, content in ({"model_config.yaml": b"a: 1\n", "model_weights.ckpt": b"w" * 100} | more).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return f"file://{path}"


def test_a_good_model_gets_its_name(tmp_path, arguments):
    download_model.main(["--url", nemo(tmp_path / "good.nemo"), *arguments])
    assert (tmp_path / "data" / "corpus.tar").read_bytes() == (tmp_path / "good.nemo").read_bytes()


def test_a_model_that_writes_elsewhere_never_gets_its_name(tmp_path, arguments):
    url = nemo(tmp_path / "bad.nemo", **{"../../.bashrc": b"rm"})
    with pytest.raises(UserError) as raised:
        download_model.main(["--url", url, *arguments])
    assert f"{url}: " in str(raised.value)
    assert "member '../../.bashrc' leads out of the directory; refused" in str(raised.value)
    assert list((tmp_path / "data").iterdir()) == []
    download.main(["--url", url, *arguments])  # as a corpus it is only a file
    assert (tmp_path / "data" / "corpus.tar").exists()


def test_the_next_mirror_replaces_a_model_that_is_refused(tmp_path, arguments, capsys):
    bad, good = nemo(tmp_path / "bad.nemo", **{"/x": b""}), nemo(tmp_path / "good.nemo")
    download.main(["--url", bad, *arguments])
    download_model.main(["--url", bad, good, *arguments])
    assert (tmp_path / "data" / "corpus.tar").read_bytes() == (tmp_path / "good.nemo").read_bytes()
    said = capsys.readouterr().out
    assert "corpus.tar: there already, but refused: " in said
    assert f"corpus.tar: {bad}: " in said


def test_addresses_may_stay_off_the_command_line(tmp_path, arguments):
    output, store = str(tmp_path / "data" / "corpus.tar"), tmp_path / "addresses.json"
    hand_over(store, {output: [f"{tmp_path}/none.tar", f"{tmp_path}/source.tar"]})
    assert store.stat().st_mode & 0o777 == 0o600
    download.main(["--addresses", str(store), *arguments])
    assert Path(output).read_bytes() == b"speech"


def test_addresses_are_gone_when_the_process_ends_wherever_it_is_then(tmp_path):
    script = "import os; from pathlib import Path; from nuptse.addresses import hand_over\n"
    script += "hand_over(Path('a.json'), {'b': ['c']}); print(Path('a.json').exists()); os.chdir('/')"
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parent)}
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.stdout == "True\n", run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("addresses", [{}, {"data/another.tar": ["/x"]}])
def test_addresses_that_are_gone_are_missed_with_what_to_do(tmp_path, arguments, addresses):
    store = tmp_path / "addresses.json"
    store.write_text("of a run that was killed")
    hand_over(store, addresses)
    with pytest.raises(UserError, match=r"addresses.json has no address of .*corpus\.tar: .* run `snakemake"):
        download.main(["--addresses", str(store), *arguments])
    assert not (tmp_path / "data").exists()
