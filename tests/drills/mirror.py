"""A mirror on this machine that spoils some of its answers."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

# What is done with a request instead of answering it: gets the handler, the bytes that were asked for, and chance.
Spoiling = Callable[["Handler", bytes, random.Random], None]


class Mirror:
    """Serves a folder with ranges; the first ``times`` answers for each path are spoiled.

    Attributes:
        url: its address.
        spoiled: how many answers were, by path.
    """

    def __init__(self, folder: Path, spoiling: Spoiling, times: int, chance: random.Random) -> None:
        self.folder, self.spoiling, self.times, self.chance = folder, spoiling, times, chance
        self.spoiled: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("_", (Handler,), {"mirror": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def recover(self) -> None:
        """Serve well from now on."""
        self.times = 0

    def spoils(self, path: str) -> bool:
        with self._lock:
            bad = self.spoiled[path] < self.times
            self.spoiled[path] += bad
            return bad


class Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        content = (self.mirror.folder / self.path.lstrip("/")).read_bytes()
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        answer = self.mirror.spoiling if self.mirror.spoils(self.path) else whole
        self.where = f"bytes {start}-{len(content) - 1}/{len(content)}" if asked else ""
        with suppress(OSError):  # the client may be gone
            answer(self, content[start:], self.mirror.chance)

    def head(self, length: int) -> None:
        self.send_response(206 if self.where else 200)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"1"')
        if self.where:
            self.send_header("Content-Range", self.where)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def whole(handler: Handler, content: bytes, chance: random.Random) -> None:
    handler.head(len(content))
    handler.wfile.write(content)


def cut(handler: Handler, content: bytes, chance: random.Random) -> None:
    handler.head(len(content))
    handler.wfile.write(content[: chance.randrange(len(content) + 1)])
    handler.close_connection = True


def stalled(handler: Handler, content: bytes, chance: random.Random) -> None:
    handler.head(len(content))
    handler.wfile.write(content[: chance.randrange(len(content))])
    handler.wfile.flush()
    time.sleep(600)


def wrong(handler: Handler, content: bytes, chance: random.Random) -> None:
    at = chance.randrange(len(content))
    handler.head(len(content))
    handler.wfile.write(content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :])


def refused(status: int, retry_after_s: int | None = None) -> Spoiling:
    def answer(handler: Handler, content: bytes, chance: random.Random) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        if retry_after_s is not None:
            handler.send_header("Retry-After", str(retry_after_s))
        handler.end_headers()

    return answer
