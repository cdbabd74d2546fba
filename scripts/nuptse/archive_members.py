"""The members of a tar or zip archive from a stranger, read one after the other and refused if they could do harm."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from nuptse.errors import UserError

CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 20  # a long name or pax record, which tarfile reads into memory at once
MAX_DEPTH = 100  # directories within each other
GZIP_MAGIC = b"\x1f\x8b"

# One member: its name as the archive spells it, and its contents; None for a directory.
Member = tuple[str, "IO[bytes] | None"]


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a bad or cut header after the first member for the end of the archive; this one refuses it."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the mark that ends every archive
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} where a member or the end-of-archive mark should be") from error

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:  # tarfile names it as the place to override
        if self.size < 0 or (self.size > MAX_HEADER_BYTES and not (self.isreg() or self.isdir())):
            raise tarfile.ReadError(f"header of {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc, no-any-return]


def members(archive: Path) -> Iterator[Member]:
    """Yield the members of a tar (plain, gzip, bzip2, xz) or zip; the kind is told by the contents, not by the name.

    Call it, and read each member before the next, within ``damage_is_a_user_error``.

    Raises:
        UserError: a member is neither a file nor a directory, or encrypted.
    """
    magic = _magic(archive)
    if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_members(archive)
    if magic.startswith(b"BZh"):
        return _stream_members(archive, bz2.open)
    if magic == b"\xfd7zXZ\x00":
        return _stream_members(archive, lzma.open)
    return tar_members(archive)


def tar_members(archive: Path) -> Iterator[Member]:
    """Yield the members of a tar, plain or gzip, as :func:`members` does."""
    return _stream_members(archive, gzip.open if _magic(archive).startswith(GZIP_MAGIC) else open)


def _magic(archive: Path) -> bytes:
    with archive.open("rb") as file:
        return file.read(6)


def _stream_members(archive: Path, open_stream: Callable[..., Any]) -> Iterator[Member]:
    # Our own decompressor: tarfile's checks neither the checksum of gzip nor that the stream ends.
    with open_stream(archive, "rb") as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictTarInfo, encoding="utf-8") as tar:
            while (member := tar.next()) is not None:
                if not (member.isreg() or member.isdir()):
                    kind = "a link" if member.issym() or member.islnk() else "neither a file nor a directory"
                    raise UserError(f"{archive}: member {member.name!r} is {kind}; refused")
                yield member.name, None if member.isdir() else tar.extractfile(member)
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps them all: gigabytes for millions of utterances
        while stream.read(CHUNK_BYTES):
            pass


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "a link" if kind == stat.S_IFLNK else "neither a file nor a directory"
                raise UserError(f"{archive}: member {member.filename!r} is {what}; refused")
            if member.flag_bits & 1:
                raise UserError(f"{archive}: member {member.filename!r} is encrypted; unpack it by hand")
            if member.is_dir():
                yield member.filename, None
            else:
                with file.open(member) as content:
                    yield member.filename, content


@contextmanager
def damage_is_a_user_error(archive: Path) -> Iterator[None]:
    """Turn whatever the readers of archives raise into a :class:`UserError` that names ``archive``."""
    again = f"delete {archive}, so that it is downloaded again"
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is damaged, cut short or no tar or zip archive ({error}); {again}") from error
    except (ValueError, struct.error, NotImplementedError) as error:
        raise UserError(f"{archive} holds what cannot be read ({error}); {again}") from error
    except OSError as error:
        if error.errno is None:  # bz2 says "Invalid data stream" so
            raise UserError(f"{archive} is damaged ({error}); {again}") from error
        raise UserError(f"{archive}: cannot unpack it: {error}") from error


def parts_inside(archive: Path, name: str) -> list[str]:
    """Split a name at its slashes, without empty parts and dots; refuse one that leads elsewhere."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise UserError(f"{archive}: member {name!r} leads out of the directory; refused")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{archive}: member {name[:80]!r}... is more than {MAX_DEPTH} directories deep; refused")
    return parts
