"""Whatever bytes stand in the files of a corpus: they are imported and accounted for, or refused with a message."""

import json
import shutil
from contextlib import chdir, suppress

import numpy as np
import pytest
import soundfile
from corpus_files import BLOCKS, write_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuptse.converting import Converter, Policy
from nuptse.corpus_import import Import, import_corpus
from nuptse.errors import UserError
from nuptse.source_settings import corpus_source

# What is read by our own code; the containers of others (Hugging Face, Parquet) are read by theirs.
OURS = [name for name in BLOCKS if name not in ("huggingface", "parquet")]
INSERTED = st.binary(max_size=6) | st.sampled_from(
    [b"\0", b"\xff\xfe", b"\n", b"\r", b'"', b"'", b",", b"\t", b"{}", b"null", b"-1", b"1e999", b"NaN", b"../", b"|", b"$(id)", b" " * 200]
)  # fmt: skip


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A small corpus in the form of every source."""
    folder, parts = tmp_path_factory.mktemp("healthy"), {}
    random = np.random.default_rng(0)
    for part, count in (("train", 3), ("dev", 2)):
        paths = [folder / "clips" / f"{part}{index}.flac" for index in range(count)]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, random.integers(-9000, 9000, 4000).astype("int16"), 8000)
        parts[part] = [{"audio": path, "text": f"Word {i}", "speaker": f"s{i % 2}"} for i, path in enumerate(paths)]
    write_all(folder, parts)
    return folder


def imported(block, folder, out, exclude):
    """Import a corpus; return its ledger."""
    out.mkdir()
    import_corpus(
        Import("mine", corpus_source(block), folder, Converter(out.parent / "converted", Policy(), "mine"), 1, exclude),
        out,
    )
    return json.loads((out / "ledger.json").read_text())


@pytest.mark.parametrize("name", OURS)
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_damaged_files_of_a_corpus(healthy, tmp_path_factory, name, data):
    scratch = tmp_path_factory.mktemp("fuzz")
    folder = scratch / "corpus"
    shutil.copytree(healthy, folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3)):
        content = path.read_bytes()
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.sampled_from([start, start + 1, start + 20, len(content)]))
        path.write_bytes(content[:start] + data.draw(INSERTED) + content[end:])
    with chdir(scratch), suppress(UserError):
        ledger = imported(BLOCKS[name], folder, scratch / "out", data.draw(st.booleans()))
        for part in ledger["parts"].values():
            assert part["rows"] == part["supervisions"] + sum(
                amount["utterances"] for amount in part["left_out"].values()
            )
    shutil.rmtree(scratch)
