"""Bring the bytes of one address into a ``.part`` file: over HTTP, taking up what an earlier run left, or by a copy."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from nuptse.leases import lease

CONNECTIONS_PER_HOST = 4  # courtesy: corpus servers are run for the public
CHUNK_BYTES = 1 << 16  # also the most that a broken line costs


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server; all but ``attempts`` in seconds."""

    connect_s: float = 10.0
    stall_s: float = 60.0  # without a single byte
    attempts: int = 5  # failures in a row on one mirror; one that got further than ever before starts the count anew
    backoff_s: float = 1.0  # doubles with each failure
    backoff_max_s: float = 60.0
    retry_after_max_s: float = 120.0  # bound on what a server may ask for with Retry-After
    report_s: float = 10.0  # between two progress lines
    poll_s: float = 1.0  # between two looks for a free connection


class MirrorError(Exception):
    """This address will not give the file: go to the next one."""


class _TransientError(Exception):
    """This address may give the file later, or the rest of it on the next connection."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Job:
    """One file to download: what is known of it, and where its bytes gather until it is whole."""

    destination: Path
    sha256: str | None
    size: int | None
    locks: Path
    check: Callable[[Path], None] | None
    patience: Patience
    say: Callable[[str], object]
    part: Path = field(init=False)
    validator: Path = field(init=False)  # the server's ETag or date of what is in ``part``

    def __post_init__(self) -> None:
        name = self.destination.name
        object.__setattr__(self, "part", self.destination.with_name(f"{name}.part"))
        object.__setattr__(self, "validator", self.destination.with_name(f"{name}.part.validator"))

    def note(self, text: str) -> None:
        self.say(f"{self.destination.name}: {text}")

    def discard(self) -> None:
        self.validator.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)


def transfer(job: Job, url: str) -> int:
    """Bring ``job.part`` to its full length; return the byte at which the last connection took over.

    Raises:
        MirrorError: this address does not give the file.
    """
    return (_download if re.match("https?://", url, re.IGNORECASE) else _copy)(job, url)


def _copy(job: Job, url: str) -> int:
    source = _local_path(url)
    if not source.is_file():
        raise MirrorError("not a regular file" if source.exists() else "no such file")
    if not os.access(source, os.R_OK):
        raise MirrorError("no permission to read it")
    with source.open("rb") as file:
        total = size_of(source)
        _check_total(job, total)
        job.discard()
        if _write(job, iter(partial(file.read, CHUNK_BYTES), b""), 0, total) != total:
            raise MirrorError("it changed while it was copied")
    return 0


def _local_path(url: str) -> Path:
    scheme, found, rest = url.partition("://")
    if not found:
        return Path(url)
    if scheme != "file":
        raise MirrorError("neither http://, https://, file:/// nor a path")
    if not rest.startswith("/"):
        raise MirrorError("the address of a file has three slashes: file:///path/to/file")
    return Path(unquote(rest))


def _download(job: Job, url: str) -> int:
    patience, failures, furthest = job.patience, 0, size_of(job.part)
    host = _host(url)
    slots = [job.locks / f"{host}.{i}.lock" for i in range(CONNECTIONS_PER_HOST)]
    busy = partial(job.note, f"all {len(slots)} connections to {host} are in use; waiting")
    while True:
        try:
            with lease(slots, poll_s=patience.poll_s, announce=busy):
                return _connect(job, url)
        except _TransientError as problem:
            failures = 1 if size_of(job.part) > furthest else failures + 1
            furthest = max(furthest, size_of(job.part))
            if failures >= patience.attempts:
                raise MirrorError(f"{problem} ({failures} attempts)") from None
            wait_s = min(patience.backoff_s * 2 ** (failures - 1), patience.backoff_max_s) * random.uniform(0.5, 1.5)
            if problem.wait_s is not None:
                wait_s = max(wait_s, min(problem.wait_s, patience.retry_after_max_s))
            job.note(f"{problem}; attempt {failures + 1} of {patience.attempts} in {wait_s:.1f} s")
        time.sleep(wait_s)


def _host(url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise MirrorError("not a valid address")
    return re.sub(r"[^a-z0-9.-]", "_", host)  # it becomes a file name


def _connect(job: Job, url: str) -> int:
    offset, headers = _resume_point(job)
    if offset and offset == job.size:
        return offset  # killed between the last byte and the check
    timeout = (job.patience.connect_s, job.patience.stall_s)
    # "from None": the text of these errors repeats the URL, secrets included.
    try:
        with requests.get(url, headers=headers, timeout=timeout, stream=True) as response:
            return _receive(job, response, offset)
    except requests.exceptions.SSLError as error:
        raise MirrorError(_reason(error, job.patience)) from None
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _TransientError(_reason(error, job.patience)) from None
    except requests.RequestException as error:
        raise MirrorError(f"cannot be asked for ({type(error).__name__})") from None


def _resume_point(job: Job) -> tuple[int, dict[str, str]]:
    headers = {"Accept-Encoding": "identity"}  # the bytes of the file, not a compressed form of them
    offset = size_of(job.part)
    validator = job.validator.read_text(encoding="utf-8").strip() if job.validator.is_file() else ""
    if offset == 0 or (job.size is not None and offset > job.size) or not (job.sha256 or validator):
        return 0, headers
    headers["Range"] = f"bytes={offset}-"
    if job.sha256 is None:
        headers["If-Range"] = validator  # nothing else would tell that the two halves belong together
    return offset, headers


def _receive(job: Job, response: requests.Response, offset: int) -> int:
    """Write the body of an answer to ``job.part``; return the byte at which it begins."""
    status, length = response.status_code, response.headers.get("Content-Length", "")
    given = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if offset and status == 416 and given and given[2] == str(offset):
        return offset  # nothing is left to send
    if offset and (status == 416 or (status == 206 and not (given and given[1] == str(offset)))):
        job.discard()
        raise _TransientError("the server cannot resume; from the start")
    if status in (408, 429) or status >= 500:
        raise _TransientError(f"HTTP {status} {response.reason}", _retry_after_s(response))
    if status not in ((200, 206) if offset else (200,)):
        raise MirrorError(f"HTTP {status} {response.reason}")
    if status == 200:
        offset = 0  # the server ignores Range, or its file is another one by now
    total = offset + int(length) if length.isdecimal() else None
    _check_total(job, total)
    if offset == 0:
        job.discard()
        etag = response.headers.get("ETag", "W/")
        job.validator.write_text(response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag, "utf-8")
    done = _write(job, response.raw.stream(CHUNK_BYTES, decode_content=False), offset, total)
    expected = job.size if total is None else total
    if expected not in (None, done):
        raise _TransientError(f"the line broke after {done} of {expected} bytes")
    return offset


def _check_total(job: Job, total: int | None) -> None:
    if job.size is not None and total not in (None, job.size):
        raise MirrorError(f"wrong size: expected {job.size} bytes, found {total}")


def _write(job: Job, chunks: Iterable[bytes], offset: int, total: int | None) -> int:
    """Append ``chunks`` to ``job.part`` from ``offset`` on; return its size."""
    job.note(f"resumed at {offset / 1e6:.1f} MB" if offset else "started")
    done, began = offset, time.monotonic()
    reported = began
    with job.part.open("ab" if offset else "wb") as file:
        for chunk in chunks:
            file.write(chunk)
            file.flush()  # out of this process: kill -9 must not cost it
            done += len(chunk)
            if job.size is not None and done > job.size:
                raise MirrorError(f"wrong size: expected {job.size} bytes, found more")
            if (now := time.monotonic()) - reported >= job.patience.report_s:
                job.note(_progress(done, total, (done - offset) / (now - began)))
                reported = now
    return done


def _progress(done: int, total: int | None, bytes_per_s: float) -> str:
    speed = f"{bytes_per_s / 1e6:.1f} MB/s"
    if not total:
        return f"{done / 1e6:.1f} MB, {speed}"
    left_s = (total - done) / max(bytes_per_s, 1)
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB ({100 * done // total} %), {speed}, {left_s:.0f} s left"


def _retry_after_s(response: requests.Response) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110 section 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # absent, not a date, or one without a time zone
        return None


def _reason(error: Exception, patience: Patience) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {patience.connect_s:g} s"
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return f"no data for {patience.stall_s:g} s"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"connection failed ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return "the line broke"


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0
