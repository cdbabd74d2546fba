"""Whatever stands in an archive, a model file or a tar shard: a result or a message, never a file that should not be."""

import bz2
import gzip
import io
import json
import lzma
import shutil
import tarfile
import zipfile
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_nemo_shards import main as index_nemo_shards
from nuptse.archives import extract
from nuptse.base_model import read_base_model
from nuptse.errors import UserError
from nuptse.nemo_archive import NEMO_MEMBERS, check_nemo_archive
from nuptse.shard_findings import shard_findings
from nuptse.shard_ledger import read_ledger

FAST = settings(max_examples=150, deadline=None)

NAMES = [
    "C/a.wav",
    "C/b.txt",
    "C",
    "C/",
    "a b",
    "it's",
    '"',
    "$(touch x)",
    "`touch x`",
    "a\nb",
    "-rf",
    "--help",
    "*",
    "~",
]
NAMES += ["ünï 語", "\udcff", "..", "../x", "/x", "C/../../x", "C/..", "./C/./a.wav", ".", "", "C//a.wav", "C\\..\\x"]
NAMES += ["a" * 300, "d/" * 120 + "x", "C/a.wav/under", "x.partial", "pipe:id|"]
KINDS = [tarfile.REGTYPE] * 12 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
KINDS += [tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, b"\x7f"]
HARMLESS = {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE}
CONTENTS = st.binary(max_size=40) | st.sampled_from([bytes(5000), bytes(3_000_000)])
MEMBERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS), CONTENTS), max_size=5)
COMPRESSIONS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


def tarred(members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name, kind, content in members:
            # The name of a header is nobody's; a long one would be written for, and read as, that of the member behind it.
            info = tarfile.TarInfo("header" if kind == tarfile.XHDTYPE else name)
            info.type, info.linkname, info.mode = kind, "../../outside", 0o4777
            info.size = len(content) if kind in (tarfile.REGTYPE, tarfile.CONTTYPE, tarfile.XHDTYPE) else 0
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(members) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, _, content in members:
            archive.writestr(zipfile.ZipInfo(name.replace("\udcff", "?") or "x"), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


# As it is, cut short, or with other bytes at a place; the place as a share of the length.
DAMAGES = st.none() | st.tuples(st.floats(0, 1, exclude_max=True), st.none() | st.tuples(st.binary(max_size=8), st.sampled_from([0, 1, 8, 600])))  # fmt: skip


def damaged(content: bytes, damage) -> bytes:
    if damage is None:
        return content
    start, change = int(damage[0] * len(content)), damage[1]
    return content[:start] if change is None else content[:start] + change[0] + content[start + change[1] :]


def refusal(call, *args, **options) -> str:
    """Call something; return what the user is told if it refuses, else nothing."""
    try:
        call(*args, **options)
    except UserError as error:
        return str(error)
    return ""


def files_in(folder: Path) -> dict[str, bytes]:
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def first_contents(members) -> dict[str, bytes]:
    """Return what must come out: the first contents of every name."""
    wanted: dict[str, bytes] = {}
    for name, kind, content in members:
        if kind in (tarfile.REGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE):
            content = b"" if kind == tarfile.GNUTYPE_SPARSE else content
            wanted.setdefault("/".join(part for part in name.split("/") if part not in ("", ".")), content)
    return wanted


@pytest.mark.filterwarnings("ignore:Duplicate name")
@FAST
@given(members=MEMBERS, form=st.sampled_from([*COMPRESSIONS, "zip"]), damage=DAMAGES)
def test_any_archive(members, form, damage):
    whole = zipped(members) if form == "zip" else COMPRESSIONS[form](tarred(members))
    content = damaged(whole, damage)
    with TemporaryDirectory() as scratch, chdir(scratch):
        archive, folder, ledger = Path(f"c.{form}"), Path("data/corpus"), Path("data/corpus.json")
        archive.write_bytes(content)
        refused = refusal(extract, [archive], folder, ledger, max_bytes=1 << 20, say=lambda line: None)
        left = sorted(str(path) for path in Path("data").iterdir()) if Path("data").exists() else []
        if refused:
            assert refused.startswith(str(archive)) or f" {archive}" in refused
            assert left == []
        else:
            assert left == ["data/corpus", "data/corpus.json"]
            if content == whole and form != "zip":
                assert {kind for _, kind, _ in members} <= HARMLESS
                assert files_in(folder) == first_contents(members)
        assert sorted(path.name for path in Path().iterdir()) in ([archive.name], [archive.name, "data"])


CONFIGS = [
    b"a: 1\n",
    b"",
    b"[1",
    b"- x\n",
    b"\xff\xfe",
    b"tokenizer: 3\n",
    b"!!python/object/apply:os.system [id]\n",
    b"a: &a [*a]\n",
]
CONFIGS += [
    b"tokenizer: {type: bpe, model_path: 'nemo:t.model'}\n",
    b"preprocessor: {window_stride: x}\nencoder: [1]\n",
]


@FAST
@given(data=st.data(), members=MEMBERS, config=st.sampled_from(CONFIGS), compress=st.booleans(), damage=DAMAGES)
def test_any_model_file(data, members, config, compress, damage):
    own = [(name, tarfile.REGTYPE, content) for name, content in zip(NEMO_MEMBERS, (config, b"w"), strict=True)]
    mixed = data.draw(st.permutations([*own, ("t.model", tarfile.REGTYPE, b"no pieces"), *members]))
    whole = (gzip.compress if compress else bytes)(tarred(mixed))
    content = damaged(whole, damage)
    with TemporaryDirectory() as scratch:
        model = Path(scratch, "m.nemo")
        model.write_bytes(content)
        refused = refusal(check_nemo_archive, model)
        assert not refused or str(model) in refused
        if not refused and content == whole:
            assert {kind for _, kind, _ in mixed} <= HARMLESS
            names = [name for name, kind, _ in mixed if kind != tarfile.XHDTYPE]  # which is the header of the next one
            assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
        if not refused:
            unread = refusal(read_base_model, model)
            assert not unread or str(model) in unread
        assert [path.name for path in Path(scratch).iterdir()] == ["m.nemo"]


# --- shards ---

ROWS = [[("a.wav", 0.5), ("b.wav", 0.25)], [("c.wav", 0.5)]]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Two shards in the layout of NeMo's converter, with their ledger."""
    folder = tmp_path_factory.mktemp("healthy")
    (folder / "shards/sharded_manifests").mkdir(parents=True)
    for number, rows in enumerate(ROWS):
        (folder / f"shards/audio_{number}.tar").write_bytes(tarred([(name, tarfile.REGTYPE, name.encode() * 99) for name, _ in rows]))  # fmt: skip
        lines = [json.dumps({"audio_filepath": name, "duration": seconds, "text": "x"}) for name, seconds in rows]
        (folder / f"shards/sharded_manifests/manifest_{number}.json").write_text("\n".join(lines) + "\n")
    with chdir(folder):
        index()
    return folder


def index() -> None:
    index_nemo_shards(
        [
            *("--corpus=c", "--split=train", "--manifests=shards/sharded_manifests/manifest__OP_0..1_CL_.json"),
            *(
                "--tars=shards/audio__OP_0..1_CL_.tar",
                "--output-dir=out",
                "--cuts=cuts.jsonl.gz",
                "--utterances=u.json",
            ),
        ]
    )


@FAST
@given(data=st.data())
def test_any_shards(healthy, data):
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "c")
        shutil.copytree(healthy, folder)
        path = data.draw(st.sampled_from(sorted(path for path in (folder / "shards").rglob("*") if path.is_file())))
        before = path.read_bytes()
        if path.suffix == ".tar" and data.draw(st.booleans()):
            path.write_bytes(tarred(data.draw(MEMBERS)))
        else:
            path.write_bytes(damaged(before, data.draw(DAMAGES)))
        changed = path.read_bytes() != before
        with chdir(folder):
            found = list(shard_findings("c/train", Path("out/ledger.json")))
            assert bool(found) == changed
            refused = refusal(index)
            if refused:
                assert changed
                assert "shards/" in refused
            else:
                ledger = read_ledger(Path("out/ledger.json"))
                rows = Path("out/tarred_audio_manifest.json").read_bytes().splitlines()
                assert ledger["utterances"] == len(rows)
                assert not list(shard_findings("c/train", Path("out/ledger.json")))


@FAST
@given(damage=DAMAGES)
def test_any_ledger_of_shards(healthy, damage):
    whole = (healthy / "out/ledger.json").read_bytes()
    content = damaged(whole, damage)
    with TemporaryDirectory() as scratch:
        shutil.copytree(healthy, scratch, dirs_exist_ok=True)
        ledger = Path(scratch, "out/ledger.json")
        ledger.write_bytes(content)
        refused = refusal(lambda: list(shard_findings("c/train", ledger)))
        assert not refused or str(ledger) in refused
        assert not (refused and content == whole)
