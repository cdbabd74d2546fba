"""A model of the Hub is downloaded once, checked, and recorded; tried against a small hub of our own."""

import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "download_pretrained.py"
NAME = "nvidia/stt_en_conformer_ctc_small"


def nemo_archive():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in (("model_config.yaml", b"a: 1\n"), ("model_weights.ckpt", b"w" * 1000)):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


MODEL = nemo_archive()
SHA256 = hashlib.sha256(MODEL).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the Hub does for one file of one repository."""

    def do_HEAD(self):
        found = self.path == f"/{NAME}/resolve/main/stt_en_conformer_ctc_small.nemo"
        self.send_response(200 if found else 404)
        self.send_header("ETag", f'"{SHA256}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(MODEL) if found else 0))
        self.end_headers()
        return found

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(MODEL)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def download(tmp_path, endpoint, *arguments):
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, str(SCRIPT), "--name", NAME, "--model", str(tmp_path / "base.nemo"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_a_model_is_downloaded_and_its_checksum_told(tmp_path, hub):
    run = download(tmp_path, hub)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "base.nemo").read_bytes() == MODEL
    assert f"to pin it add `sha256: {SHA256}` to the model" in run.stdout


def test_another_checksum_is_refused(tmp_path, hub):
    run = download(tmp_path, hub, "--sha256", "0" * 64)
    assert run.returncode == 1
    assert f"expected sha256 {'0' * 64} and any number of bytes, found {SHA256}" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "base.nemo").exists()


def test_without_a_network_it_says_what_to_do(tmp_path):
    run = download(tmp_path, "http://127.0.0.1:1")
    assert run.returncode == 1
    assert f"ERROR: the model {NAME} could not be downloaded: " in run.stderr
    assert "name it in the configuration (`url: file:///...` and `sha256:` instead of `pretrained:`)" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "base.nemo").exists()
