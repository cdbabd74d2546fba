"""A disk that refuses: one line says so, and nothing half-written is left or taken for whole.

The limit of file sizes (RLIMIT_FSIZE) refuses as a full disk does, in the middle of a write, and needs no root.
"""

import resource
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from nuptse.audio_cache import AudioCache, Entry
from nuptse.converting import Converter, Policy, write_flac
from nuptse.errors import UserError, run_command, write_atomically
from nuptse.scratch import scratch_database
from nuptse.shard_tar import TarFile

REFUSED = "File too large; raise the limit of file sizes"


@contextmanager
def room(size):
    """Let no file grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_finds_no_room_is_named_and_the_one_before_kept(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")
    with (
        pytest.raises(UserError, match=f"cannot write {path}: {REFUSED}"),
        room(100),
        write_atomically(path) as partial,
    ):
        partial.write_text("x" * 1000)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "before")]


def test_what_a_disk_refuses_anywhere_is_one_line(tmp_path, capsys):
    with room(100), pytest.raises(SystemExit):
        run_command(lambda: (tmp_path / "a").write_bytes(bytes(1000)))
    assert capsys.readouterr().err.startswith(f"ERROR: {REFUSED}")
    with pytest.raises(FileNotFoundError):  # a bug of ours keeps its traceback
        run_command(lambda: (tmp_path / "none").read_text())


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.97, 0.999, 1])
def test_a_conversion_is_whole_or_refused_and_never_blamed_on_the_source(tmp_path, share):
    source, target = tmp_path / "a.wav", tmp_path / "converted" / "a.flac"
    soundfile.write(source, np.random.default_rng(0).integers(-9000, 9000, (50_000, 2)).astype("int16"), 16000)
    write_flac(str(source), target, 16000, "mix")
    whole = target.read_bytes()
    target.unlink()
    with room(int(share * len(whole))):
        if share == 1:
            write_flac(str(source), target, 16000, "mix")
            assert target.read_bytes() == whole
            return
        with pytest.raises(UserError, match=f"cannot write {target}: {REFUSED}"):
            write_flac(str(source), target, 16000, "mix")
        with pytest.raises(UserError, match=f"cannot write .*: {REFUSED}"):
            Converter(tmp_path / "corpus", Policy(channels="mix"), "corpus").sounds("a", str(source))
    assert not list(target.parent.iterdir())


def test_shards_and_caches_name_their_file(tmp_path):
    with pytest.raises(UserError, match=f"a.tar: {REFUSED}"), room(4096), TarFile(tmp_path / "a.tar") as tar:
        tar.add("a", bytes(10_000))
    with (
        scratch_database() as database,
        room(10),
        pytest.raises(UserError, match=f"cannot write {tmp_path / 'cache'}: {REFUSED}"),
    ):
        cache = AudioCache(tmp_path / "cache", database)
        cache.add(Entry("a.wav", None, "", cache.version, [], [{"reason": "x" * 20_000}]))
        cache.close()
