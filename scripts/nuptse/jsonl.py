"""JSON Lines, plain or gzipped: streamed, reproducible byte for byte, written aside and renamed."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from nuptse.errors import UserError, make_again, write_atomically

Row = TypeVar("Row")
Found = TypeVar("Found")
_encoder = msgspec.json.Encoder()
# What reading raises where a gzip file is cut short or has wrong bytes.
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
BUFFER_BYTES = 1 << 17


def open_lines(path: Path) -> BinaryIO:
    """Open a file for its lines, as bytes; one whose name ends in ``.gz`` is unpacked."""
    # GzipFile finds the lines in Python, a reader around it in C, which closes it as well.
    return io.BufferedReader(gzip.open(path, "rb"), BUFFER_BYTES) if path.suffix == ".gz" else path.open("rb")


def raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file as they are.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as lines:
            yield from lines
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def read_rows(path: Path, row: type[Row]) -> Iterator[Row]:
    """Yield each line of ``path`` as a ``row`` (``dict`` or a ``msgspec.Struct`` with the fields that matter).

    Raises:
        UserError: a line is no JSON or lacks a field (names file and line), or the file is damaged.
    """
    return _decoded(path, msgspec.json.Decoder(row).decode)


def read_lines(path: Path, row: type[Row]) -> Iterator[tuple[Row, bytes]]:
    """Yield what :func:`read_rows` does, each with its line."""
    decode = msgspec.json.Decoder(row).decode
    return _decoded(path, lambda line: (decode(line), line))


def _decoded(path: Path, decode: Callable[[bytes], Found]) -> Iterator[Found]:
    number = 0
    try:
        with open_lines(path) as lines:
            for number, line in enumerate(lines, start=1):  # noqa: B007 -- the messages name it
                yield decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}, line {number}: {error}; {make_again(path)}") from None
    except DAMAGED as error:
        raise UserError(f"{path}, after line {number}: {error}; {make_again(path)}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {make_again(path)}") from None


def read_json(path: Path, kind: type[Row]) -> Row:
    """Return the contents of a JSON file that a rule made as a ``kind``, see :func:`read_rows`; NaN is accepted.

    Raises:
        UserError: the file is missing, damaged or of another form.
    """
    try:
        return msgspec.convert(json.loads(path.read_bytes()), kind, str_keys=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {make_again(path)}") from None
    except (ValueError, msgspec.ValidationError) as error:
        raise UserError(f"{path} is not of the form that this version writes: {error}; {make_again(path)}") from None


@contextmanager
def row_writer(path: Path) -> Iterator[Any]:
    """Give a function that appends one row to ``path``, which gets its name when the block ends well."""
    with write_atomically(path) as partial, partial.open("wb") as raw:
        # No name and no time in the gzip header: equal rows, equal bytes. Level 1 is a third of the time of level 9.
        stream: Any = gzip.GzipFile("", "wb", 1, raw, mtime=0) if path.suffix == ".gz" else raw
        with io.BufferedWriter(stream, 1 << 20) as buffer:
            yield lambda row: buffer.write(_encoder.encode(row) + b"\n")


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Write ``rows`` (dictionaries or structs) to ``path``, one JSON object a line, UTF-8."""
    with row_writer(path) as write:
        for row in rows:
            write(row)
