"""Tar files written in large blocks and hashed on the way: the bytes of ``tarfile`` at the price of a copy."""

from __future__ import annotations

import os
import tarfile
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import xxhash

from nuptse.errors import refused_by_the_disk

# What is gathered before it is hashed and written: small enough to be still in the processor's cache. Measured: 256 kB
# and 512 kB take the least, 1 MB a fifth more.
BLOCK_BYTES = 1 << 18


class HashedFile:
    """A file that is hashed and counted while it is written, so that it need not be read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._block = memoryview(bytearray(BLOCK_BYTES))
        self._filled = 0
        self._checksum = xxhash.xxh3_128()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._file:
            if error is None:
                self._flush()

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        end = self._filled + len(data)
        if end <= BLOCK_BYTES:  # nearly always: headers and rows are short
            self._block[self._filled : end] = data
            self._filled = end
            return
        rest = memoryview(data)
        while rest:
            if self._filled == BLOCK_BYTES:
                self._flush()
            taken = rest[: BLOCK_BYTES - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rest = rest[len(taken) :]

    def copy(self, descriptor: int, size: int) -> None:
        """Append the next ``size`` bytes of an open file.

        Raises:
            OSError: the file ends before.
        """
        while size:
            if self._filled == BLOCK_BYTES:
                self._flush()
            taken = os.readv(descriptor, [self._block[self._filled : self._filled + size]])
            if not taken:
                raise OSError("unexpected end of data")
            self._filled += taken
            size -= taken

    def _flush(self) -> None:
        block = self._block[: self._filled]
        self._checksum.update(block)
        self.size += len(block)
        with refused_by_the_disk(self._path):
            while block:
                block = block[self._file.write(block) :]
        self._filled = 0

    def xxh128(self) -> str:
        """Return the checksum of what was written, once the file is closed; see ``nuptse.checksums``."""
        return self._checksum.hexdigest()


class TarFile(HashedFile):
    """A tar whose members bear no date, user or group, so that equal audio gives equal bytes."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            # Two empty blocks end a tar, and readers of tapes want records of 20 blocks.
            self._pad(2 * tarfile.BLOCKSIZE)
            self._pad(-(self.size + self._filled) % tarfile.RECORDSIZE)
        super().__exit__(kind, error, trace)

    def add_file(self, name: str, descriptor: int, size: int) -> None:
        """Append the next ``size`` bytes of an open file as a member."""
        self.write(tar_header(name, size))
        self.copy(descriptor, size)
        self._pad(-size % tarfile.BLOCKSIZE)

    def add(self, name: str, data: bytes) -> None:
        """Append ``data`` as a member."""
        self.write(tar_header(name, len(data)))
        self.write(data)
        self._pad(-len(data) % tarfile.BLOCKSIZE)

    def _pad(self, size: int) -> None:
        self.write(bytes(size))


def _slow_header(name: str, size: int) -> bytes:
    # A new TarInfo has date, user and group 0, no names and mode 0644.
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.PAX_FORMAT)


@cache
def _fixed_parts() -> tuple[bytes, bytes, bytes, int]:
    """Return what stands between name and size, size and checksum, and after it, in every header; and their sum."""
    header = _slow_header("", 0)
    parts = header[100:124], header[135:148], header[156:]
    # The checksum counts itself as spaces; the size "00000000000" is not fixed.
    return *parts, sum(map(sum, parts)) + 8 * ord(" ")


def tar_header(name: str, size: int) -> bytes:
    """Return the header of a member as ``tarfile`` writes it in the format PAX.

    Format: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, "ustar Interchange Format"
    """
    if len(name) > tarfile.LENGTH_NAME or size >= 8**11 or not name.isascii():
        return _slow_header(name, size)  # wants a second header
    written, length = name.encode(), b"%011o" % size
    before, between, after, fixed = _fixed_parts()
    checksum = b"%06o\0 " % (fixed + sum(written) + sum(length))
    return written.ljust(100, b"\0") + before + length + between + checksum + after
