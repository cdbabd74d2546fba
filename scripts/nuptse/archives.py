"""Unpack archives from strangers into one directory: safely, whole or not at all, and with a ledger of the counts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO

from nuptse.archive_ledger import ArchiveCounts, Ledger
from nuptse.archive_members import CHUNK_BYTES, damage_is_a_user_error, members, parts_inside
from nuptse.errors import UserError, say, write_atomically
from nuptse.folder_state import folder_state

MAX_RATIO = 200  # unpacked / packed; speech stays under 10, text under 50, a bomb of zeros reaches 1000 (deflate)
SLACK_BYTES = 1 << 30  # what even a tiny archive may unpack to


def extract(
    archives: Sequence[Path],
    destination: Path,
    ledger: Path,
    *,
    max_members: int = 10_000_000,
    max_bytes: int = 10 << 40,
    say: Callable[[str], object] = say,
) -> Ledger:
    """Unpack tar (plain, gzip, bzip2, xz) and zip archives, one after the other, into ``destination``.

    Everything is written to ``<destination>.partial`` first and moved in one step; then ``ledger`` is written. Files
    get mode 0644, directories 0755, the time of now and the user who runs this. A name that comes twice keeps its first
    contents; later ones that differ are counted as shadowed and reported (the archives of LibriSpeech each carry a
    README.TXT).

    Args:
        archives: in this order; the kind is told by the contents, not by the name.
        destination: directory to make; replaced if ``ledger`` shows that an earlier call made it.
        ledger: JSON file to write, the fields of :class:`Ledger`.
        max_members: of all archives together.
        max_bytes: unpacked, of all archives together; each may also not exceed ``MAX_RATIO`` times its own size plus
            ``SLACK_BYTES``. Counted while reading: headers can lie.
        say: gets the progress lines.

    Raises:
        UserError: a member that is neither file nor directory (links too), a name outside the directory, a file where a
            directory is or the reverse, too much of anything, a damaged archive, a disk that refuses.
    """
    if destination.exists() and not ledger.exists() and any(destination.iterdir()):
        # Not ours, as far as anyone can tell: a mistyped path must not cost the user a directory.
        raise UserError(f"{destination} is there already, without its ledger {ledger}; delete it and run again")
    partial_dir = destination.with_name(f"{destination.name}.partial")
    replaced = destination.with_name(f"{destination.name}.replaced")
    for leftover in (partial_dir, replaced):
        if leftover.exists():
            shutil.rmtree(leftover)
    unpacking = _Unpacking(partial_dir, max_members, max_bytes, say)
    try:
        for archive in archives:
            unpacking.add(archive)
        if not unpacking.files:
            raise UserError(f"no file in {', '.join(map(str, archives))}; expected recordings and transcripts")
    except BaseException:
        shutil.rmtree(partial_dir, ignore_errors=True)
        raise
    # The ledger will vouch for the files, so they must be on the disk first: all at once takes a fifth of one by one.
    os.sync()
    made = Ledger(unpacking.archives, unpacking.files, unpacking.bytes, folder_state(partial_dir))
    ledger.unlink(missing_ok=True)
    if destination.exists():
        destination.replace(replaced)
    partial_dir.replace(destination)
    with write_atomically(ledger) as temporary:
        temporary.write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(replaced, ignore_errors=True)
    return made


class _Unpacking:
    """The directory being filled, and the counts so far."""

    def __init__(self, root: Path, max_members: int, max_bytes: int, say: Callable[[str], object]) -> None:
        self.root, self.max_members, self.max_bytes, self.say = root, max_members, max_bytes, say
        self.archives: list[ArchiveCounts] = []
        self.members = self.files = self.bytes = self.read = 0

    def add(self, archive: Path) -> None:
        if not archive.is_file():
            raise UserError(f"{archive}: no such file")
        counts = ArchiveCounts(archive.name, archive.stat().st_size)
        limit = min(self.max_bytes, self.read + MAX_RATIO * counts.bytes + SLACK_BYTES)
        with damage_is_a_user_error(archive):
            self._make_directory(self.root)
            for name, content in members(archive):
                counts.members += 1
                self.members += 1
                if self.members > self.max_members:
                    raise UserError(f"{archive}: member {name!r} is one more than the {self.max_members} allowed")
                target = self.root.joinpath(*parts_inside(archive, name))
                try:
                    if content is None:
                        self._make_directory(target)
                    else:
                        self._add_file(archive, name, target, self._counted(archive, name, content, limit), counts)
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    raise UserError(f"{archive}: member {name!r} is a file and a directory at once") from None
        self.archives.append(counts)
        self.files += counts.files
        self.bytes += counts.unpacked_bytes
        self.say(
            f"{archive}: {counts.members} members, {counts.files} files, {counts.unpacked_bytes} bytes unpacked,"
            f" {counts.shadowed} shadowed"
        )

    def _make_directory(self, path: Path) -> None:
        if not path.is_dir():
            if path != self.root:
                self._make_directory(path.parent)
            path.mkdir(parents=path == self.root)
            path.chmod(0o755)  # whatever the umask

    def _counted(self, archive: Path, name: str, content: IO[bytes], limit: int) -> Iterator[bytes]:
        for chunk in iter(partial(content.read, CHUNK_BYTES), b""):
            self.read += len(chunk)
            if self.read > limit:
                raise UserError(f"{archive}: member {name!r} goes beyond the {limit} bytes allowed; refused")
            yield chunk

    def _add_file(self, archive: Path, name: str, target: Path, chunks: Iterator[bytes], counts: ArchiveCounts) -> None:
        if target.is_file():
            if not _same_contents(target, chunks):
                counts.shadowed += 1
                if counts.shadowed <= 20:  # the count tells about the others
                    self.say(f"{archive}: {name!r} differs from the file of this name that came before, which is kept")
            return
        self._make_directory(target.parent)
        with target.open("xb") as file:
            os.fchmod(file.fileno(), 0o644)
            for chunk in chunks:
                file.write(chunk)
                counts.unpacked_bytes += len(chunk)
        counts.files += 1


def _same_contents(path: Path, chunks: Iterator[bytes]) -> bool:
    with path.open("rb") as file:
        same = True
        for chunk in chunks:  # to the end in any case: it is what finds a damaged archive
            same = same and file.read(len(chunk)) == chunk
        return same and not file.read(1)
