"""Downloads against a real HTTP server on this machine, one that misbehaves on demand."""

import hashlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nuptse.downloads import Fetched, fetch
from nuptse.errors import UserError, redact, run_command, write_atomically
from nuptse.transfers import Patience

DOWNLOAD = Path(__file__).parents[2] / "scripts" / "download.py"
BODY = random.Random(0).randbytes(400_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(connect_s=2, stall_s=0.3, attempts=3, backoff_s=0.01, retry_after_max_s=0.2, report_s=0.0, poll_s=0.01)


@dataclass
class Server:
    """A file at every path, and the ways in which a server may spoil it."""

    body: bytes = BODY
    etag: str | None = '"1"'
    ranges: bool = True
    cut_at: list[int] = field(default_factory=list)  # one answer each: bytes after which the line breaks
    stall_at: list[int] = field(default_factory=list)  # likewise: bytes after which nothing comes
    statuses: list[tuple[int, dict]] = field(default_factory=list)  # one answer each, before any good one
    announced: int | None = None  # a wrong Content-Length
    bytes_per_s: float | None = None
    requests: list[dict] = field(default_factory=list)
    sent: int = 0
    open_now: int = 0
    open_max: int = 0
    port: int = 0

    def url(self, path: str = "corpus.tar.gz") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def __enter__(self):
        server, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with lock:
                    server.requests.append(dict(self.headers))
                    server.open_now += 1
                    server.open_max = max(server.open_max, server.open_now)
                self.counted = True
                try:
                    server.answer(self)
                except OSError:
                    pass  # the client went away
                finally:
                    self.leave()

            def leave(self):
                with lock:
                    server.open_now -= self.counted
                    self.counted = False

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, handler) -> None:
        if self.statuses:
            status, headers = self.statuses.pop(0)
            self.head(handler, status, {"Content-Length": "0"} | headers)
            return
        asked = re.match(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.ranges else 0
        if handler.headers.get("If-Range") not in (None, self.etag):
            start = 0
        total = len(self.body)
        if start >= total:
            self.head(handler, 416, {"Content-Range": f"bytes */{total}"})
            return
        length = total - start if self.announced is None else self.announced
        headers = {"Content-Length": str(length)} | ({"ETag": self.etag} if self.etag else {})
        if start:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        self.head(handler, 206 if start else 200, headers)
        end = self.cut_at.pop(0) if self.cut_at else total
        stall = self.stall_at.pop(0) if self.stall_at else None
        step = 8192
        for at in range(start, min(end, stall or end), step):
            chunk = self.body[at : min(at + step, end)]
            if self.bytes_per_s:
                time.sleep(len(chunk) / self.bytes_per_s)
            if at + step >= end:
                handler.leave()  # now: the client may be gone before this thread runs again
            handler.wfile.write(chunk)
            self.sent += len(chunk)
        if stall:
            time.sleep(1)

    @staticmethod
    def head(handler, status: int, headers: dict) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def get(tmp_path):
    """Call fetch() with quick patience; ``get.lines`` holds what it said."""
    lines = []

    def call(*urls: str, sha256: str | None = SHA256, size: int | None = None, name: str = "c.tar.gz") -> Fetched:
        destination, locks = tmp_path / "data" / name, tmp_path / "locks"
        return fetch(urls, destination, sha256=sha256, size=size, locks=locks, patience=QUICK, say=lines.append)

    call.lines = lines
    call.data = tmp_path / "data"
    call.file = tmp_path / "data" / "c.tar.gz"
    call.part = tmp_path / "data" / "c.tar.gz.part"
    return call


def leave_part(get, content: bytes) -> None:
    get.data.mkdir()
    get.part.write_bytes(content)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def ranges(server: Server) -> list[str | None]:
    return [headers.get("Range") for headers in server.requests]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_whole_file(get):
    with Server() as server:
        fetched = get(server.url(), size=len(BODY))
    assert fetched == Fetched(server.url(), len(BODY), SHA256, 0)
    assert get.file.read_bytes() == BODY
    assert names(get.data) == ["c.tar.gz"]
    assert get.lines[0] == "c.tar.gz: started"
    assert re.fullmatch(r"c.tar.gz: [\d.]+ of 0.4 MB \(\d+ %\), [\d.]+ MB/s, \d+ s left", get.lines[1])
    assert get.lines[-1] == f"c.tar.gz: 400000 bytes, sha256 {SHA256}, from {server.url()}"


def test_without_checksum_the_line_to_add_is_given(get):
    with Server() as server:
        get(server.url(), sha256=None)
    assert "none was checked" in get.lines[-2]
    assert get.lines[-1] == f"sha256: {SHA256}"


def test_a_cut_line_is_resumed_where_it_broke(get):
    with Server(cut_at=[131_072, 262_144]) as server:
        assert get(server.url()).resumed_from == 262_144
    assert get.file.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=131072-", "bytes=262144-"]
    assert server.sent == len(BODY)


def test_progress_starts_the_count_of_failures_anew(get):
    with Server(cut_at=[65_536, 131_072, 196_608, 262_144, 327_680]) as server:
        get(server.url())
    assert get.file.read_bytes() == BODY


def test_a_line_that_breaks_at_the_same_byte_each_time_is_given_up(get):
    with Server(cut_at=[65_536] * 9) as server, pytest.raises(UserError, match=r"the line broke.*3 attempts"):
        get(server.url())
    assert get.part.stat().st_size == 65_536
    assert not get.file.exists()


def test_a_stalled_line_is_resumed(get):
    with Server(stall_at=[131_072]) as server:
        get(server.url())
    assert get.file.read_bytes() == BODY
    assert any("no data for 0.3 s; attempt 2 of 3" in line for line in get.lines)


def test_a_server_without_ranges_is_read_from_the_start(get):
    leave_part(get, BODY[:1000])
    with Server(ranges=False) as server:
        assert get(server.url()).resumed_from == 0
    assert get.file.read_bytes() == BODY


def test_part_of_an_earlier_run_is_resumed_from_another_mirror(get):
    with Server(cut_at=[65_536] * 3) as first, Server(etag='"other"') as second:
        assert get(first.url(), second.url()).url == second.url()
    assert ranges(second) == ["bytes=65536-"]
    assert get.file.read_bytes() == BODY


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_part_that_lacks_nothing_is_not_sent_again(get, size):
    leave_part(get, BODY)
    with Server() as server:
        assert get(server.url(), size=size).resumed_from == len(BODY)
    assert server.sent == 0
    assert len(server.requests) == (size is None)


def test_a_part_longer_than_the_file_is_thrown_away(get):
    leave_part(get, BODY + b"more")
    with Server() as server:
        get(server.url())
    assert get.file.read_bytes() == BODY


def test_a_wrong_part_costs_one_download_from_the_start(get):
    leave_part(get, b"x" * 1000)
    with Server() as server:
        assert get(server.url()).resumed_from == 0
    assert ranges(server) == ["bytes=1000-", None]
    assert get.file.read_bytes() == BODY


def test_without_checksum_an_unknown_part_is_not_trusted(get):
    leave_part(get, b"x" * 1000)
    with Server() as server:
        get(server.url(), sha256=None)
    assert ranges(server) == [None]
    assert get.file.read_bytes() == BODY


def test_without_checksum_only_the_same_version_is_resumed(get):
    with Server(cut_at=[65_536] * 3) as server:
        with pytest.raises(UserError):
            get(server.url(), sha256=None)
        server.cut_at.clear()
        server.body, server.etag = BODY[::-1], '"2"'
        get(server.url(), sha256=None)
    assert server.requests[-1]["If-Range"] == '"1"'
    assert get.file.read_bytes() == BODY[::-1]


def test_without_checksum_the_same_version_is_resumed(get):
    with Server(cut_at=[65_536] * 3) as server:
        with pytest.raises(UserError):
            get(server.url(), sha256=None)
        server.cut_at.clear()
        assert get(server.url(), sha256=None).resumed_from == 65_536
    assert get.file.read_bytes() == BODY
    assert server.sent == len(BODY)


def test_busy_server_is_asked_again(get):
    with Server(statuses=[(503, {}), (500, {})]) as server:
        get(server.url())
    assert len(server.requests) == 3
    assert any("HTTP 503 Service Unavailable; attempt 2 of 3" in line for line in get.lines)


@pytest.mark.parametrize("value", ["3600", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"])
def test_retry_after_is_honoured_up_to_a_bound(get, value):
    with Server(statuses=[(429, {"Retry-After": value})]) as server:
        began = time.monotonic()
        get(server.url())
    assert 0.2 <= time.monotonic() - began < 2
    assert "c.tar.gz: HTTP 429 Too Many Requests; attempt 2 of 3 in 0.2 s" in get.lines


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_goes_straight_to_the_next_mirror(get, status):
    with Server(statuses=[(status, {})]) as first, Server() as second:
        assert get(first.url(), second.url()).url == second.url()
    assert len(first.requests) == 1


def test_wrong_announced_size_is_refused_before_the_body(get):
    with Server(body=BODY[:100_000]) as first, Server() as second:
        get(first.url(), second.url(), size=len(BODY))
    assert any(f"wrong size: expected {len(BODY)} bytes, found 100000" in line for line in get.lines)
    assert get.file.read_bytes() == BODY


def test_a_content_length_beyond_the_file_is_asked_about_again(get):
    with Server(announced=len(BODY) + 10) as server:
        get(server.url(), sha256=None)
    assert ranges(server) == [None, f"bytes={len(BODY)}-"]  # the answer, 416, tells the true size
    assert get.file.read_bytes() == BODY


def test_wrong_bytes_leave_nothing_and_name_both_checksums(get):
    wrong = b"<html>sign in</html>"
    with Server(body=wrong) as server, pytest.raises(UserError) as raised:
        get(server.url())
    found = hashlib.sha256(wrong).hexdigest()
    for text in (str(get.file), server.url(), f"expected {SHA256}, found {found}"):
        assert text in str(raised.value)
    assert names(get.data) == []
    assert len(server.requests) == 1


def test_wrong_bytes_then_a_good_mirror(get):
    with Server(body=b"wrong") as first, Server() as second:
        assert get(first.url(), second.url()).url == second.url()
    assert get.file.read_bytes() == BODY


def test_no_network_says_what_to_do(get, monkeypatch):
    look_up = socket.getaddrinfo

    def without_names(host, *args):
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args)

    monkeypatch.setattr(socket, "getaddrinfo", without_names)
    urls = [f"http://127.0.0.1:{closed_port()}/a.tar.gz", "http://host.invalid/a.tar.gz"]
    with pytest.raises(UserError) as raised:
        get(*urls)
    message = str(raised.value)
    assert f"{urls[0]}: connection failed (Connection refused) (3 attempts)" in message
    assert f"{urls[1]}: connection failed (Name or service not known) (3 attempts)" in message
    assert "`url: file:///path/to/c.tar.gz`" in message
    assert "`mirrors:`" in message


def test_secrets_stay_out_of_every_message(get):
    port = closed_port()
    with Server(statuses=[(503, {}), (404, {})]) as server:
        with pytest.raises(UserError) as raised:
            get(
                f"http://me:hunter2@127.0.0.1:{port}/a?token=hunter2",
                server.url("a?token=hunter2&n=hunter2#hunter2").replace("//", "//hunter2@"),
                "http://me:hunter2/x@host/a",
                "http://[hunter2/a",
                "ftp://me:hunter2@host/a",
            )
        get(server.url("a?token=hunter2").replace("//", "//me:hunter2@"))
    said = "\n".join([str(raised.value), *get.lines])
    assert "hunter2" not in said
    assert "/a?token=***" in said
    assert server.requests[-1]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h:8/p/a.tar?x=1&y", "https://h:8/p/a.tar?x=***&***"),
        ("https://user:p%40ss@h/p", "https://***@h/p"),
        ("https://user:pa/ss@h/p", "https://***"),
        ("https://user:123/45@h/p", "https://***"),
        ("https://tok/en@h/p", "https://***"),
        ("https://tok?en@h/p", "https://***"),
        ("user:pa/ss@h/p", "***@h/p"),
        ("file:///data/me@home/a.tar", "file:///data/me@home/a.tar"),
        ("file:///data/a.tar", "file:///data/a.tar"),
        ("/data/a b.tar", "/data/a b.tar"),
        ("user:password@h/p", "***@h/p"),
    ],
)
def test_redact(url, shown):
    assert redact(url) == shown


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_local_files_are_copied(get, tmp_path, form):
    source = tmp_path / "kept.tar.gz"
    source.write_bytes(BODY)
    get(form.format(source), size=len(BODY))
    assert get.file.read_bytes() == BODY
    assert not get.file.is_symlink()
    assert get.file.stat().st_ino != source.stat().st_ino
    assert names(get.data) == ["c.tar.gz"]


def test_a_local_file_with_a_blank_in_its_address(get, tmp_path):
    (tmp_path / "a b.tar").write_bytes(BODY)
    get(f"file://{tmp_path}/a%20b.tar")
    assert get.file.read_bytes() == BODY


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("{}/none.tar", "no such file"),
        ("{}", "not a regular file"),
        ("file://none.tar", "three slashes"),
        ("s3://bucket/none.tar", "neither http://, https://, file:/// nor a path"),
        ("{}/wrong.tar", "wrong sha256"),
        ("http:///a.tar", "not a valid address"),
    ],
)
def test_local_mistakes(get, tmp_path, url, reason):
    (tmp_path / "wrong.tar").write_bytes(b"wrong")
    with pytest.raises(UserError, match=reason):
        get(url.format(tmp_path))
    assert names(get.data) == []


def test_local_file_of_the_wrong_size(get, tmp_path):
    (tmp_path / "a.tar").write_bytes(BODY)
    with pytest.raises(UserError, match="expected 7 bytes, found 400000"):
        get(str(tmp_path / "a.tar"), size=7)


def test_a_finished_file_is_kept_and_a_wrong_one_replaced(get):
    with Server() as server:
        get(server.url())
        assert get(server.url()).url == str(get.file)
        assert len(server.requests) == 1
        get.file.write_bytes(b"wrong")
        get(server.url())
    assert get.file.read_bytes() == BODY


def test_a_checksum_that_is_none(get):
    with pytest.raises(UserError, match="'abc' is not 64 hexadecimal digits"):
        get("http://host/a", sha256="abc")


def test_a_place_that_cannot_be_written(get):
    get.data.write_text("a file where the directory should be")
    with pytest.raises(UserError, match="cannot write it"):
        get("http://host/a")


def test_twelve_downloads_open_four_connections_to_a_host(get):
    with Server(bytes_per_s=4e6) as server:
        threads = [threading.Thread(target=get, args=[server.url()], kwargs={"name": f"{i}"}) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert len(names(get.data)) == 12
    assert server.open_max <= 4


def start(url: str, output: Path, *more: str) -> subprocess.Popen:
    places = ["--output", str(output), "--locks", f"{output.parent}/locks"]
    command = [sys.executable, str(DOWNLOAD), "--url", url, *places, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_processes_share_the_limit_and_a_destination(tmp_path):
    with Server(bytes_per_s=4e5) as server:
        names = ["a", "a", "b", "c", "d", "e", "f"]
        processes = [start(server.url(), tmp_path / name, "--sha256", SHA256) for name in names]
        said = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 7, said
    assert len(server.requests) == 6  # the second "a" found it done
    assert server.open_max <= 4
    assert "a: another process is at it; waiting" in said[0] + said[1]


@pytest.mark.parametrize("checked", [True, False])
def test_kill_in_the_middle_then_the_same_command_again(tmp_path, checked):
    output, more = tmp_path / "corpus.tar.gz", ["--sha256", SHA256] if checked else []
    part = tmp_path / "corpus.tar.gz.part"
    with Server(bytes_per_s=4e5) as server:
        with start(server.url(), output, *more) as process:
            while not (part.exists() and part.stat().st_size):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        kept = part.stat().st_size
        assert 0 < kept < len(BODY)
        assert not output.exists()
        server.bytes_per_s = None
        with start(server.url(), output, *more) as process:
            said = process.communicate(timeout=20)[0]
    assert process.returncode == 0, said
    assert ranges(server) == [None, f"bytes={kept}-"]
    assert output.read_bytes() == BODY
    assert not part.exists()


def test_errors_of_users_and_of_programs(capsys):
    def mistake():
        raise UserError("name the file \udcff")

    with pytest.raises(SystemExit) as stopped:
        run_command(mistake)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "ERROR: name the file \\udcff\n"
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


def test_write_atomically_leaves_all_or_nothing(tmp_path):
    path = tmp_path / "new" / "cuts.jsonl.gz"
    with write_atomically(path) as temporary:
        assert temporary.suffixes == [".jsonl", ".gz"]
        assert temporary.parent == path.parent
        temporary.write_text("first")
    with pytest.raises(KeyError), write_atomically(path) as temporary:
        raise KeyError(temporary.write_text("second"))
    assert path.read_text() == "first"
    assert names(path.parent) == [path.name]


def test_write_atomically_deletes_what_a_killed_process_left_of_the_same_file(tmp_path):
    (tmp_path / ".0123abcd-cuts.jsonl").write_text("half")
    others = [".0123abcd-more.jsonl", ".cuts.jsonl", "0123abcd-cuts.jsonl"]
    for name in others:
        (tmp_path / name).touch()
    with write_atomically(tmp_path / "cuts.jsonl") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == sorted([*others, "cuts.jsonl"])
