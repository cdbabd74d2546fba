"""What every command does alike: report a user's mistake, hide secrets, replace files whole."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NoReturn, TextIO
from urllib.parse import urlsplit

from nuptse.folder_state import SNAKEMAKE_STAMP


class UserError(Exception):
    """A mistake that the user can mend: one message, no traceback.

    The message names the file, row or address, what was found, what was expected and what to change.
    """


_terminal: TextIO | None = None


def make_again(path: Path) -> str:
    """Return what to do about a file that a rule made and that is damaged.

    Snakemake makes a folder that is the output of a rule as a whole, and does not miss a file in it.
    """
    whole = path.parent if (path.parent / SNAKEMAKE_STAMP).exists() else path
    return f"delete {whole} and run again"


def log_to(path: Path) -> None:
    """Send all that this process prints from now on, libraries and children included, to ``path``.

    Lines of :func:`announce` go to where stderr led until now as well.
    """
    global _terminal
    _terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def say(line: str) -> None:
    """Print one line to stdout at once, for the log of a job that runs for hours."""
    print(line, flush=True)


def announce(line: str) -> None:
    """Say a line in the log and on the terminal, which is allowed to be gone."""
    say(line)
    if _terminal is not None:
        with suppress(OSError):
            print(line, file=_terminal, flush=True)


# What a disk says to whoever wants to write, and what helps. None of it is a mistake of the program.
WRITE_REFUSALS = {
    errno.ENOSPC: "free some room there",
    errno.EDQUOT: "free some room there, or have your quota raised",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or take another disk",
    errno.EROFS: "work in a folder that can be written (--directory)",
}
_REFUSALS = WRITE_REFUSALS | {
    errno.EACCES: "get the permission, or work in a folder of yours (--directory)",
    errno.EPERM: "get the permission, or work in a folder of yours (--directory)",
    errno.EIO: "have the disk looked at",
}

# A file system that cannot lock (some NFS and Lustre mounts) says one of these.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def _refusal(error: OSError) -> str | None:
    """Return what a disk that refuses says, and what helps; None of other errors."""
    if error.errno not in _REFUSALS:
        return None
    return f"{os.strerror(error.errno)}; {_REFUSALS[error.errno]}, then run again"


def run_command(main: Callable[[], object]) -> None:
    """Call ``main()``; a :class:`UserError` becomes ``ERROR: <message>`` on stderr and exit status 1.

    So does what a disk refuses. Every other exception is a bug and passes through with its traceback.
    """
    try:
        main()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if (said := _refusal(error)) is None:
            raise
        _fail(said if error.filename is None else f"{error.filename}: {said}")


def _fail(message: str) -> NoReturn:
    # A name from an archive or a disk may hold bytes that are not text: escape them, never fail on them.
    print(f"ERROR: {message}".encode(errors="backslashreplace").decode(), file=sys.stderr)
    sys.exit(1)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; move it to ``path`` on success, delete it on failure.

    The temporary name ends as ``path`` does, for writers that choose the format by the suffix. The file is flushed to
    the disk before the move, so ``path`` never holds half of a file, not even after a power cut. What a killed process
    left of an earlier attempt is deleted.

    Raises:
        FileNotFoundError: the body ended without writing the file.
        UserError: the disk refuses.
    """
    temporary = path.with_name(f".{os.urandom(4).hex()}-{path.name}")
    with refused_by_the_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(path.parent).pop(path.name, ()):
            leftover.unlink(missing_ok=True)
        try:
            yield temporary
            flush_to_disk(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def refused_by_the_disk(path: Path) -> Iterator[None]:
    """Tell in one sentence of a disk that refuses to write ``path``; a write that fails does not know its file."""
    try:
        yield
    except OSError as error:
        if (said := _refusal(error)) is None or error.filename is not None:
            raise
        raise UserError(f"cannot write {path}: {said}") from error


_TEMPORARY = re.compile(r"\.[0-9a-f]{8}-(.+)", re.DOTALL)


@cache
def _leftovers(folder: Path) -> dict[str, list[Path]]:
    """Return the temporary files in a folder by their final names, as they were when this process came to it."""
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir():  # once: a folder may hold a file for each of many thousand recordings
        if name := _TEMPORARY.fullmatch(path.name):
            found.setdefault(name[1], []).append(path)
    return found


def flush_to_disk(path: Path) -> None:
    """Return when the contents of the file are on the disk itself (fsync)."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 lower-case hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def redact(url: str) -> str:
    """Return ``url`` fit for a message or a log: without user, password, fragment and values of the query."""
    scheme, separator, rest = url.partition("://")
    if not separator:  # a local path, or an address whose scheme was forgotten
        return re.sub("[^/]*:.*@", "***@", url, flags=re.DOTALL)
    try:
        parts = urlsplit(url)
        _ = parts.port  # an unescaped "/" in a password makes part of it look like a port
    except ValueError:
        return f"{scheme}://***"
    if parts.netloc and re.search("[/?#].*@", rest, re.DOTALL):  # or that "@" is what ends the password: who can tell
        return f"{scheme}://***"
    # Not parts.hostname, which drops the case, the port and the brackets of an IPv6 address.
    _, at, host = parts.netloc.rpartition("@")
    query = "&".join(f"{key}=***" if eq else "***" for key, eq, _ in (p.partition("=") for p in parts.query.split("&")))
    return f"{parts.scheme}://{'***@' if at else ''}{host}{parts.path}{'?' + query if parts.query else ''}"
