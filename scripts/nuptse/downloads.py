"""Download a file from the first of several mirrors that gives it whole; resume what an earlier run left."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nuptse.errors import UserError, flush_to_disk, redact, say, sha256_of
from nuptse.leases import lease
from nuptse.transfers import Job, MirrorError, Patience, size_of, transfer

DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True)
class Fetched:
    """A finished download.

    Attributes:
        url: address that gave the file, without secrets; the file itself if it was there already.
        bytes: size of the file.
        sha256: of the whole file, 64 lower-case hexadecimal digits.
        resumed_from: bytes already on disk when the last connection took over; 0 if it gave the whole file.
    """

    url: str
    bytes: int
    sha256: str
    resumed_from: int


def fetch(
    urls: Sequence[str],
    destination: Path,
    *,
    sha256: str | None,
    size: int | None,
    locks: Path,
    check: Callable[[Path], None] | None = None,
    patience: Patience = DEFAULT_PATIENCE,
    say: Callable[[str], object] = say,
) -> Fetched:
    """Download ``destination`` from the first of ``urls`` that gives it whole and unchanged.

    The bytes gather in ``<destination>.part``, which a later call resumes (HTTP Range, RFC 9110 section 14), from any
    mirror if ``sha256`` can tell whether the halves fit, otherwise only if the server says that its file is the same
    (If-Range). The final name appears last, with the checked file. A file that is there already and agrees with what is
    known is kept. At most ``CONNECTIONS_PER_HOST`` connections to a host are open at a time, over all processes with
    the same ``locks``; two calls for one destination take turns.

    Args:
        urls: mirrors, tried in turn: ``http(s)://``, ``file:///`` or a local path (always copied, never linked).
        destination: file to write; its directory is made.
        sha256: expected, hexadecimal; None: unchecked.
        size: expected, in bytes; None: unknown.
        locks: directory of the lock files.
        check: called with the whole file before it gets its name; a :class:`UserError` refuses what the mirror gave.
        patience: times to wait.
        say: gets the progress lines.

    Raises:
        UserError: no mirror gave the file (each is listed with its reason), the checksum is not one, the disk refuses.
    """
    if not urls:
        raise UserError(f"{destination}: no address to download it from; set `url:` in the configuration")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UserError(f"{destination}: sha256 {sha256!r} is not 64 hexadecimal digits; mend it in the configuration")
    job = Job(destination, sha256.lower() if sha256 else None, size, locks, check, patience, say)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        waiting = partial(job.note, "another process is at it; waiting")
        with lease([_destination_lock(job)], poll_s=patience.poll_s, announce=waiting):
            fetched = _already_there(job) or _from_first_good_mirror(job, urls)
    except OSError as error:
        raise UserError(f"{destination}: cannot write it: {error}") from error
    job.note(f"{fetched.bytes} bytes, sha256 {fetched.sha256}, from {fetched.url}")
    if sha256 is None:
        job.note("no checksum was given, so none was checked; to pin this file, add to its configuration:")
        job.say(f"sha256: {fetched.sha256}")
    return fetched


def _already_there(job: Job) -> Fetched | None:
    if not job.destination.is_file():
        return None
    size, found = size_of(job.destination), sha256_of(job.destination)
    if job.size not in (None, size) or job.sha256 not in (None, found):
        job.note("there already, but not the file that the configuration describes; downloading it again")
        return None
    if (refusal := _refusal(job, job.destination)) is not None:
        job.note(f"there already, but refused: {refusal}; downloading it again")
        return None
    return Fetched(str(job.destination), size, found, resumed_from=size)


def _from_first_good_mirror(job: Job, urls: Sequence[str]) -> Fetched:
    reasons = []
    for url in urls:
        try:
            return _from_mirror(job, url)
        except MirrorError as failure:
            reasons.append(f"  {redact(url)}: {failure}")
            job.note(reasons[-1].strip())
    name = job.destination.name
    raise UserError(
        "\n".join([f"{job.destination}: no address gave the file:", *reasons])
        + f"\nGet {name} in another way, put it somewhere on this machine and name it in the configuration as"
        f" `url: file:///path/to/{name}`, or add an address that works under `mirrors:`."
    )


def _from_mirror(job: Job, url: str) -> Fetched:
    resumed_from = transfer(job, url)
    found = sha256_of(job.part)
    if resumed_from and job.sha256 not in (None, found):
        # The first part may be another mirror's, or older than the file: only a download in one go proves this mirror.
        job.note("wrong sha256 after a resumed download; once more from the start")
        job.discard()
        resumed_from = transfer(job, url)
        found = sha256_of(job.part)
    if job.sha256 not in (None, found):
        job.discard()
        raise MirrorError(f"wrong sha256: expected {job.sha256}, found {found}")
    if (refusal := _refusal(job, job.part)) is not None:
        job.discard()
        raise MirrorError(refusal)
    fetched = Fetched(redact(url), size_of(job.part), found, resumed_from)
    flush_to_disk(job.part)
    job.part.replace(job.destination)
    job.discard()
    return fetched


def _refusal(job: Job, path: Path) -> str | None:
    try:
        if job.check is not None:
            job.check(path)
    except UserError as error:
        return str(error)
    return None


def _destination_lock(job: Job) -> Path:
    # Two destinations may have the same name in different directories.
    digest = hashlib.sha256(str(job.destination.absolute()).encode()).hexdigest()[:12]
    return job.locks / f"{job.destination.name}.{digest}.lock"
