"""Archives of every kind, honest, hostile and damaged."""

import bz2
import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from nuptse import archives as module
from nuptse.archive_ledger import check_tree
from nuptse.archives import extract
from nuptse.errors import UserError
from nuptse.folder_state import folder_state
from nuptse.nemo_archive import check_nemo_archive

EXTRACT = Path(__file__).parents[2] / "scripts" / "extract.py"
FILES = {"C/a.wav": b"RIFF" * 1000, "C/deep/er/b.txt": b"ONE TWO\n", "C/empty": b""}
NEMO = {"./model_config.yaml": b"a: 1\n", "./model_weights.ckpt": b"w" * 100, "./tokenizer.model": b"t"}


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.uid, info.mtime = kind, size, 0o4777, 12345, 0
    info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    return info


def tar(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            archive.addfile(entry(name, size=len(content)), io.BytesIO(content))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def zipped(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0) << 16
            archive.writestr(info, content)
    return path


@pytest.fixture
def unpack(tmp_path):
    """Call extract() into ``unpack.directory``; ``unpack.lines`` holds what it said."""
    lines = []

    def call(*paths: Path, **limits):
        return extract(paths, call.directory, call.ledger, say=lines.append, **limits)

    call.lines = lines
    call.directory = tmp_path / "data" / "corpus"
    call.ledger = tmp_path / "data" / "corpus.json"
    return call


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def assert_refused(unpack, match: str, *paths: Path, **limits) -> None:
    with pytest.raises(UserError, match=match) as raised:
        unpack(*paths, **limits)
    assert str(paths[-1]) in str(raised.value)
    data = unpack.directory.parent
    assert not data.exists() or names(data) == []


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "zip", "name_without_suffix"])
def test_every_kind(tmp_path, unpack, kind):
    path = tmp_path / f"c.{kind}"
    mode = {"tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}.get(kind, "w")
    zipped(path, FILES) if kind == "zip" else tar(path, FILES, mode=mode)
    made = unpack(path)
    assert tree(unpack.directory) == FILES
    size = sum(map(len, FILES.values()))
    assert (made.files, made.bytes) == (3, size)
    counts = {"members": 3, "files": 3, "unpacked_bytes": size, "shadowed": 0}
    archives = [{"name": path.name, "bytes": path.stat().st_size} | counts]
    record = {"archives": archives, "files": 3, "bytes": size, "state": folder_state(unpack.directory)}
    assert json.loads(unpack.ledger.read_text()) == record
    check_tree(unpack.directory, unpack.ledger)


def test_modes_and_times_are_ours(tmp_path, unpack):
    old_umask = os.umask(0o077)
    try:
        unpack(tar(tmp_path / "c.tar", FILES, entry("C/sub", tarfile.DIRTYPE)))
    finally:
        os.umask(old_umask)
    for path in [unpack.directory, *unpack.directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
        assert time.time() - path.stat().st_mtime < 60
    assert (unpack.directory / "C" / "sub").is_dir()


def test_the_files_are_on_the_disk_before_the_ledger_vouches_for_them(tmp_path, unpack, monkeypatch):
    flushed, sync = [], os.sync

    def look_and_sync():
        flushed.append((tree(unpack.directory.with_name("corpus.partial")), names(unpack.directory.parent)))
        sync()

    monkeypatch.setattr(os, "sync", look_and_sync)
    unpack(tar(tmp_path / "c.tar", FILES))
    assert flushed == [(FILES, ["corpus.partial"])], "all files, and neither the folder nor its ledger"


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "C/../../up", "C/.."])
def test_names_that_lead_out(tmp_path, unpack, name):
    assert_refused(unpack, "leads out", tar(tmp_path / "c.tar", FILES | {name: b"x"}))
    assert_refused(unpack, "leads out", zipped(tmp_path / "c.zip", FILES | {name: b"x"}))


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (tarfile.SYMTYPE, "'C/odd' is a link"),
        (tarfile.LNKTYPE, "'C/odd' is a link"),
        (tarfile.CHRTYPE, "'C/odd' is neither a file nor a directory"),
        (tarfile.BLKTYPE, "'C/odd' is neither"),
        (tarfile.FIFOTYPE, "'C/odd' is neither"),
        (b"Z", "'C/odd' is neither"),
    ],
)
def test_members_that_are_neither_file_nor_directory(tmp_path, unpack, kind, match):
    assert_refused(unpack, match, tar(tmp_path / "c.tar.gz", FILES, entry("C/odd", kind), mode="w:gz"))


@pytest.mark.parametrize(("mode", "match"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is neither")])
def test_zip_members_that_are_neither(tmp_path, unpack, mode, match):
    assert_refused(unpack, match, zipped(tmp_path / "c.zip", FILES | {"odd": b"/etc"}, {"odd": mode | 0o777}))


def test_encrypted_zip(tmp_path, unpack):
    path = zipped(tmp_path / "c.zip", {"a": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert_refused(unpack, "'a' is encrypted", path)


@pytest.mark.parametrize(
    "names", [["C/a", "C/a/b"], ["C/a/b", "C/a"], ["C/a", "C/a/"], ["C/a/", "C/a"], [".", "C"]], ids=str
)
def test_a_file_where_a_directory_is(tmp_path, unpack, names):
    more = [entry(name.rstrip("/"), tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE) for name in names]
    assert_refused(unpack, "a file and a directory at once", tar(tmp_path / "c.tar", {}, *more))


def test_archives_that_share_files(tmp_path, unpack):
    first = tar(tmp_path / "1.tar", {"C/LICENSE.TXT": b"same", "C/README.TXT": b"first", "C/1.flac": b"1"})
    second = tar(tmp_path / "2.tar", {"C/LICENSE.TXT": b"same", "C/README.TXT": b"first, more", "C/2.flac": b"22"})
    made = unpack(first, second)
    assert (unpack.directory / "C" / "README.TXT").read_bytes() == b"first"
    assert [(c.members, c.files, c.unpacked_bytes, c.shadowed) for c in made.archives] == [(3, 3, 10, 0), (3, 1, 2, 1)]
    assert (made.files, made.bytes) == (4, 12)
    assert (
        f"{second}: 'C/README.TXT' differs from the file of this name that came before, which is kept" in unpack.lines
    )
    check_tree(unpack.directory, unpack.ledger)


def test_too_many_members(tmp_path, unpack):
    assert_refused(unpack, "one more than the 2 allowed", tar(tmp_path / "c.tar", FILES), max_members=2)


def test_too_many_bytes_in_all(tmp_path, unpack):
    one, two = tar(tmp_path / "1.tar", {"a": bytes(600)}), tar(tmp_path / "2.tar", {"b": bytes(600)})
    assert_refused(unpack, "'b' goes beyond the 1000 bytes allowed", one, two, max_bytes=1000)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_bomb(tmp_path, unpack, monkeypatch, kind):
    monkeypatch.setattr(module, "SLACK_BYTES", 0)
    zeros, path = {"zeros": bytes(5_000_000)}, tmp_path / f"c.{kind}"
    zipped(path, zeros) if kind == "zip" else tar(path, zeros, mode="w:gz")
    assert_refused(unpack, "'zeros' goes beyond the .* bytes allowed", path)


def test_a_sparse_file_counts_what_it_becomes(tmp_path, unpack):
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 3_000_000_000)
    try:
        subprocess.run(["tar", "-cSf", "c.tar", "sparse"], cwd=tmp_path, check=True)
    except FileNotFoundError:
        pytest.skip("no tar command")
    assert_refused(unpack, "'sparse' goes beyond the 1000 bytes", tmp_path / "c.tar", max_bytes=1000)


def test_a_header_that_would_fill_the_memory(tmp_path, unpack):
    path = tar(tmp_path / "c.tar.gz", FILES, entry("x", tarfile.GNUTYPE_LONGNAME, size=2_000_000), mode="w:gz")
    assert_refused(unpack, "header of 2000000 bytes", path)


def test_too_deep(tmp_path, unpack):
    assert_refused(unpack, "directories deep", tar(tmp_path / "c.tar", {"d/" * 200 + "x": b""}))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("kept", [0, 0.3, 0.95])
def test_truncated(tmp_path, unpack, kind, kept):
    files, path = {f"{i}.wav": os.urandom(1000) for i in range(50)}, tmp_path / f"c.{kind}"
    zipped(path, files) if kind == "zip" else tar(path, files, mode="w" + kind[3:].replace(".", ":"))
    if kind == "tar":
        # Python pads to records of 10240 bytes; a cut in the padding costs nothing.
        os.truncate(path, 50 * 1536 + 1024)
    os.truncate(path, int(path.stat().st_size * kept))
    assert_refused(unpack, f"delete {path}, so that it is downloaded again", path)


def test_a_tar_cut_between_two_members(tmp_path, unpack):
    path = tar(tmp_path / "c.tar", {"1": b"x", "2": b"x"})
    os.truncate(path, 1024)
    assert_refused(unpack, "end-of-archive mark should be.*downloaded again", path)


def test_a_bad_header_after_the_first_member(tmp_path, unpack):
    path = tar(tmp_path / "c.tar", {"1": b"x", "2": b"x"})
    content = bytearray(path.read_bytes())
    content[1024] ^= 1
    path.write_bytes(content)
    assert_refused(unpack, "downloaded again", path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zlib.compress])
def test_a_flipped_bit(tmp_path, unpack, compress):
    content = bytearray(compress(tar(tmp_path / "c.tar", {"1": os.urandom(5000)}).read_bytes()))
    content[3000] ^= 4
    (tmp_path / "c").write_bytes(content)
    assert_refused(unpack, "downloaded again", tmp_path / "c")


def test_a_flipped_bit_in_a_zip(tmp_path, unpack):
    path = zipped(tmp_path / "c.zip", {"1": os.urandom(5000)})
    content = bytearray(path.read_bytes())
    content[3000] ^= 4
    path.write_bytes(content)
    assert_refused(unpack, "downloaded again", path)


def test_a_wrong_checksum_after_the_last_member(tmp_path, unpack):
    content = bytearray(gzip.compress(tar(tmp_path / "c.tar", FILES).read_bytes()))
    content[-8] ^= 1
    (tmp_path / "c.tar.gz").write_bytes(content)
    assert_refused(unpack, "CRC check failed.*downloaded again", tmp_path / "c.tar.gz")


def test_a_web_page_is_no_archive(tmp_path, unpack):
    (tmp_path / "c.tar.gz").write_text("<html>Please sign in</html>" * 100)
    assert_refused(unpack, "no tar or zip archive.*downloaded again", tmp_path / "c.tar.gz")


def test_no_archive_and_no_file_in_it(tmp_path, unpack):
    assert_refused(unpack, "no such file", tmp_path / "none.tar")
    assert_refused(unpack, "no file in", tar(tmp_path / "c.tar", {}))


def test_a_disk_that_refuses(tmp_path, unpack):
    assert_refused(unpack, "cannot unpack it: .*name too long", tar(tmp_path / "c.tar", {"n" * 300: b""}))
    unpack.directory.parent.rmdir()
    unpack.directory.parent.write_text("a file where the directory should be")
    with pytest.raises(UserError, match="cannot unpack it"):
        unpack(tar(tmp_path / "c.tar", FILES))


def test_a_second_run_gives_the_same(tmp_path, unpack):
    path = tar(tmp_path / "c.tar", FILES)
    made = unpack(path)
    before = unpack.ledger.read_bytes(), tree(unpack.directory)
    (unpack.directory / "C" / "a.wav").write_bytes(b"spoilt")
    (unpack.directory / "stray").touch()
    assert unpack(path) == made
    assert (unpack.ledger.read_bytes(), tree(unpack.directory)) == before
    assert names(unpack.directory.parent) == ["corpus", "corpus.json"]


def test_a_failed_second_run_keeps_the_first(tmp_path, unpack):
    unpack(tar(tmp_path / "c.tar", FILES))
    with pytest.raises(UserError):
        unpack(tar(tmp_path / "bad.tar", {"/a": b"x"}))
    assert tree(unpack.directory) == FILES
    check_tree(unpack.directory, unpack.ledger)


def test_a_directory_of_someone_else_is_left_alone(tmp_path, unpack):
    unpack.directory.mkdir(parents=True)
    (unpack.directory / "thesis.tex").touch()
    with pytest.raises(UserError, match="without its ledger"):
        unpack(tar(tmp_path / "c.tar", FILES))
    assert names(unpack.directory) == ["thesis.tex"]


def test_kill_in_the_middle_then_the_same_command_again(tmp_path):
    # bzip2 is slow enough to be caught in the middle.
    path = tar(tmp_path / "c.tar.bz2", {f"C/{i}.wav": os.urandom(200_000) for i in range(10)}, mode="w:bz2")
    output, ledger = tmp_path / "corpus", tmp_path / "corpus.json"
    command = [sys.executable, str(EXTRACT), "--archive", path, "--output", output, "--ledger", ledger]
    with subprocess.Popen(command) as process:
        while not (tmp_path / "corpus.partial" / "C" / "1.wav").exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "corpus.partial").exists()
    assert not output.exists()
    assert not ledger.exists()
    subprocess.run(command, check=True)
    assert len(tree(output)) == 10
    assert not (tmp_path / "corpus.partial").exists()
    check_tree(output, ledger)


def test_check_tree_counts_files_and_bytes(tmp_path, unpack):
    unpack(tar(tmp_path / "c.tar", FILES))
    (unpack.directory / "C" / "empty").unlink()
    with pytest.raises(UserError) as raised:
        check_tree(unpack.directory, unpack.ledger)
    assert str(raised.value) == (
        f"{unpack.directory} holds 2 files, 4008 bytes; the ledger says 3 files, 4008 bytes;"
        f" delete {unpack.directory} and run again to extract it anew"
    )


def test_check_tree_without_directory_or_ledger(tmp_path):
    with pytest.raises(UserError, match="corpus is not a directory; run again"):
        check_tree(tmp_path / "corpus", tmp_path / "ledger.json")
    (tmp_path / "ledger.json").write_text("[]")
    with pytest.raises(UserError, match="is not a ledger"):
        check_tree(tmp_path, tmp_path / "ledger.json")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_good_model(tmp_path, mode):
    check_nemo_archive(tar(tmp_path / "m.nemo", NEMO, entry(".", tarfile.DIRTYPE), mode=mode))


@pytest.mark.parametrize(
    ("files", "more", "match"),
    [
        (NEMO, [entry("./l", tarfile.SYMTYPE)], "'./l' is a link"),
        (NEMO, [entry("../x")], "'../x' leads out"),
        (NEMO, [entry("/x")], "'/x' leads out"),
        (NEMO, [entry("model_config.yaml")], "'model_config.yaml' comes twice"),
        ({"model_config.yaml": b""}, [], "no member model_weights.ckpt"),
        ({"model_weights.ckpt": b""}, [], "no member model_config.yaml"),
        ({f"deep/{name}": b"" for name in NEMO}, [], "no member model_config.yaml"),
    ],
)
def test_bad_models(tmp_path, files, more, match):
    path = tar(tmp_path / "m.nemo", files, *more)
    with pytest.raises(UserError, match=match) as raised:
        check_nemo_archive(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n" * 30, b"PK\x03\x04" * 200])
def test_no_model_at_all(tmp_path, content):
    (tmp_path / "m.nemo").write_bytes(content)
    with pytest.raises(UserError, match="nemo is damaged, cut short or no tar"):
        check_nemo_archive(tmp_path / "m.nemo")


def test_no_such_model_and_a_cut_one(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        check_nemo_archive(tmp_path / "none.nemo")
    path = tar(tmp_path / "m.nemo", {**NEMO, "./big": bytes(50_000)})
    os.truncate(path, 20_000)
    with pytest.raises(UserError, match="nemo is damaged"):
        check_nemo_archive(path)
