"""Passwords in addresses stay in the configuration: Snakemake shows, logs and records commands and params."""

import http.server
import os
import threading
import time
from functools import partial
from pathlib import Path

import pytest

SECRETS = ("hunter2", "TOPSECRET")
CLOSED = "http://alice:hunter2@127.0.0.1:9/{}?sig=TOPSECRET"


@pytest.fixture
def port(tmp_path):
    """Of a server that gives `a.tar`, and takes its time."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.tar").write_bytes(b"speech")

    class Slow(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            time.sleep(2)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=tmp_path / "served"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def command_lines():
    """What `ps` shows of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace")
        except OSError:
            continue


def test_no_password_leaves_the_configuration(checkout, port):
    archives = {
        "good.tar": {"url": f"http://alice:hunter2@127.0.0.1:{port}/a.tar?sig=TOPSECRET"},  # not pinned
        "bad.tar": {"url": CLOSED.format("bad.tar"), "sha256": "0" * 64},
        "mirrored.tar": {"url": "mine:mirrored.tar", "sha256": "0" * 64},
    }
    overlay = checkout.overlay(
        {
            "mirrors": {"mine": ["http://alice:hunter2@127.0.0.1:9"]},
            "corpora": {"quickstart_yesno": {"archives": archives}},
            "models": {"mine": {"url": CLOSED.format("mine.nemo"), "sha256": "0" * 64}},
        }
    )
    store, modes, shown = checkout.folder / ".snakemake" / "nuptse_addresses.json", set(), []
    ended = threading.Event()

    def watch():
        while not ended.wait(0.05):
            if store.exists():
                modes.add(oct(store.stat().st_mode & 0o777))
            shown.extend(line for line in command_lines() if any(secret in line for secret in SECRETS))

    watcher = threading.Thread(target=watch)
    watcher.start()
    files = [f"data/downloads/quickstart_yesno/{name}" for name in archives] + ["data/models/mine.nemo"]
    run = checkout.snakemake("--keep-going", "--configfile", overlay, "--", *files, check=False)
    ended.set()
    watcher.join()
    assert run.returncode != 0
    assert (checkout.folder / files[0]).read_bytes() == b"speech"
    assert not any((checkout.folder / file).exists() for file in files[1:])
    log = (checkout.folder / "logs" / "download_archive" / "quickstart_yesno" / "bad.tar.log").read_text()
    assert "http://***@127.0.0.1:9/bad.tar?sig=***: " in log
    assert modes == {"0o600"}
    assert shown == []
    assert not any(secret in run.stdout for secret in SECRETS)
    kept = [path for name in (".snakemake", "logs", "benchmarks") for path in (checkout.folder / name).rglob("*")]
    assert any("metadata" in str(path) for path in kept)
    for path in filter(os.path.isfile, kept):
        assert not any(secret.encode() in path.read_bytes() for secret in SECRETS), path
    # The same address again is no news, another one is.
    arguments = ("--configfile", overlay, "--", files[0])
    assert checkout.scheduled(*arguments) == set()
    overlay.write_text(overlay.read_text().replace("a.tar?", "b.tar?"))
    assert checkout.scheduled(*arguments) == {"download_archive corpus=quickstart_yesno, archive=good.tar"}
