"""Corpora from every kind of source: what comes out, what is refused with file and line, and that nothing is lost."""

import dataclasses
import hashlib
import json
import os
import shutil
import time
import tracemalloc
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from corpus_files import BLOCKS, cut_set, drop_length, write_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lhotse import CutSet, RecordingSet, SupervisionSet
from lhotse.utils import fastcopy

from nuptse import importing
from nuptse.converting import Converter, Policy
from nuptse.corpus_import import Import, import_corpus
from nuptse.errors import UserError
from nuptse.import_ledger import changes_since, unused_recordings
from nuptse.jsonl import read_rows, write_rows
from nuptse.source_settings import corpus_source
from nuptse.splits import Shares
from nuptse.text_sources import folder_rows
from nuptse.utterances import AudioNames

RATE = 8000


def write_audio(path, seconds=0.5, channels=1, rate=RATE):
    """White noise, another for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(sum(map(ord, path.name)))
    samples = random.integers(-9000, 9000, (round(seconds * rate), channels)).astype("int16")
    soundfile.write(path, samples, rate)
    return samples


class Corpus:
    """A folder with a corpus, and what was imported of it."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"

    def read(self, block, *, exclude=False, policy=None, changes=(), base="corpus"):
        self.out.mkdir(exist_ok=True)
        for path in self.out.iterdir():
            path.unlink()
        converter = Converter(self.folder / "converted", Policy(**(policy or {})), "mine")
        source = corpus_source(block)
        task = Import("mine", source, self.folder / base, converter, 2, exclude, changes)
        self.log = import_corpus(task, self.out)
        self.ledger = json.loads((self.out / "ledger.json").read_text())
        return self

    def rows(self, kind, part="all"):
        return list(read_rows(self.out / f"{part}_{kind}.jsonl.gz", dict))

    def ids(self, part="all"):
        return [row["id"] for row in self.rows("supervisions", part)]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    for name in "abc":
        write_audio(tmp_path / "corpus" / f"{name}.wav")
    return Corpus(tmp_path)


def table(corpus, text, name="t.csv", encoding="utf-8"):
    (corpus.folder / "corpus" / name).write_bytes(text.encode(encoding))
    return {"table": name}


# --- every source ---


@pytest.mark.parametrize("name", BLOCKS)
def test_every_source_gives_the_same_utterances(corpus, name):
    parts = {}
    for part, count in (("train", 4), ("dev", 2)):
        paths = [corpus.folder / "corpus" / "clips" / f"{part}{i}.flac" for i in range(count)]
        for index, path in enumerate(paths):
            write_audio(path, 0.5 + index / 8)
        parts[part] = [{"audio": path, "text": f"Word {i}", "speaker": f"s{i % 2}"} for i, path in enumerate(paths)]
    write_all(corpus.folder / "corpus", parts)
    corpus.read(BLOCKS[name])
    for part, utterances in parts.items():
        part = "validation" if (name, part) == ("parquet", "dev") else part  # the name that `datasets` gives it
        supervisions = SupervisionSet.from_file(corpus.out / f"{part}_supervisions.jsonl.gz")
        recordings = {r.id: r for r in RecordingSet.from_file(corpus.out / f"{part}_recordings.jsonl.gz")}
        found = {
            s.text: (s.speaker, recordings[s.recording_id].load_audio(offset=s.start, duration=s.duration))
            for s in supervisions
        }
        for utterance in utterances:
            speaker, samples = found.pop(utterance["text"])
            assert speaker == utterance["speaker"]
            assert (samples[0] == soundfile.read(utterance["audio"], dtype="float32")[0]).all()
        assert found == {}
        account = corpus.ledger["parts"][part]
        assert account["rows"] == account["supervisions"] == len(utterances)
        assert account["seconds"] == pytest.approx(sum(soundfile.info(u["audio"]).duration for u in utterances))


def test_kaldi_directories_are_read_as_lhotse_reads_them(corpus):
    from lhotse.kaldi import load_kaldi_data_dir

    folder = corpus.folder / "corpus"
    (folder / "wav.scp").write_text(f"A {folder}/a.wav\nB {folder}/b.wav\n")
    (folder / "segments").write_text("u1 A 0.1 0.3\nu2 A 0.3 -1\nu3 B 0 0.25\n")
    (folder / "text").write_text("u1 ONE TWO\nu2 THREE\nu3 \n")
    (folder / "utt2spk").write_text("u1 s1\nu2 s1\nu3 s2\n")
    _, expected, _ = load_kaldi_data_dir(folder, RATE)
    corpus.read({"kaldi": "."})
    own = SupervisionSet.from_file(corpus.out / "all_supervisions.jsonl.gz")
    for theirs, ours in zip(sorted(expected, key=lambda s: s.id), own, strict=True):
        for key in ("id", "recording_id", "start", "text", "speaker"):
            assert getattr(ours, key) == getattr(theirs, key)
        assert ours.duration == pytest.approx(theirs.duration, abs=0.001)


@pytest.mark.parametrize("order", [1, -1])
def test_ids_depend_neither_on_order_nor_on_place(corpus, order, tmp_path_factory):
    rows = ["a.wav,one,,", "b.wav,two,0.1,0.2", "sub/a.wav,three,,", "sub/a.flac,four,,"][::order]
    write_audio(corpus.folder / "corpus" / "sub" / "a.wav")
    write_audio(corpus.folder / "corpus" / "sub" / "a.flac")
    corpus.read(table(corpus, "path,text,start,end\n" + "\n".join(rows)))
    expected = ["a", "b-0000100-0000200", "sub/a.flac", "sub/a.wav"]
    assert corpus.ids() == expected
    before = [(row["id"], row["text"]) for row in corpus.rows("supervisions")]
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "moved"
    (corpus.folder / "corpus").rename(elsewhere)
    corpus.read({"table": str(elsewhere / "t.csv")})
    assert [(row["id"], row["text"]) for row in corpus.rows("supervisions")] == before


def test_audio_elsewhere_is_named_from_the_first_folder_above_both(corpus, tmp_path_factory):
    for _ in range(2):
        far = tmp_path_factory.mktemp("far")
        for name in ("x/1.wav", "y/1.wav"):
            write_audio(far / name)
        corpus.read(table(corpus, f"path,text\n{far}/x/1.wav,one\n{far}/y/1.wav,two\n"))
        above = os.path.commonpath([far, corpus.folder])
        assert corpus.ids() == [f"{far.relative_to(above)}/{name}" for name in ("x/1", "y/1")]


@pytest.mark.parametrize(
    ("root", "path", "name"),
    [
        ("/data/mine", "sub/../a.wav", "a.wav"),
        ("/data/mine", "/data/mine/sub/a.wav", "sub/a.wav"),
        ("/data/mine", "../mine2/a.wav", "mine2/a.wav"),
        ("/data/mine", "/tmp/a.wav", "tmp/a.wav"),
        ("/data/mine", "//data/mine/..a.wav", "..a.wav"),
        ("//data/mine", "/tmp/a.wav", "tmp/a.wav"),
        ("/", "../a.wav", "a.wav"),
    ],
)
def test_a_name_never_leaves_its_folder(root, path, name):
    assert AudioNames(Path(root)).name(path) == name


def of_parts(form, parts):
    """Return the block of a corpus of numbered files, and what each of its files holds; paths as ``form`` writes them."""
    files, block = {}, {}
    for part, (where, names) in parts.items():
        shown = [(name if form == "audio_folder" else os.path.relpath(name, where)) for name in names]
        if form == "table":
            block[part] = f"{where}/t_{part}.csv"
            files[block[part]] = "path,text\n" + "".join(f"{name}.wav,x\n" for name in shown)
        elif form == "nemo_manifest":
            block[part] = f"{where}/m_{part}.json"
            files[block[part]] = "".join(
                json.dumps({"audio_filepath": f"{name}.wav", "text": "x"}) + "\n" for name in shown
            )
        else:
            block[part] = where
            files |= {f"{name}.txt": "x" for name in names}
    if form == "audio_folder":
        return {form: {"folder": block}}, files
    return {form: {"file": block} if form == "table" else block}, files


FORMS = ["table", "nemo_manifest", "audio_folder"]
OWN_FOLDERS = {"train": ("af/train", ["af/train/0", "af/train/s/1"]), "dev": ("af/dev", ["af/dev/0"])}


@pytest.mark.parametrize("form", FORMS)
def test_parts_in_folders_of_their_own_may_have_the_same_file_names(corpus, form):
    block, files = of_parts(form, OWN_FOLDERS)
    write(corpus, files)
    for name in ("af/train/0", "af/train/s/1", "af/dev/0"):
        write_audio(corpus.folder / "corpus" / f"{name}.wav")
    (corpus.folder / "corpus/af/dev/lonely.txt").write_text("no audio")
    corpus.read(block)
    assert (corpus.ids("train"), corpus.ids("dev")) == (["train/0", "train/s/1"], ["dev/0"])
    assert [row["id"] for row in corpus.rows("rejected", "dev")] == ["dev/lonely"] * (form == "audio_folder")
    (corpus.folder / "corpus/af/train").rename(corpus.folder / "corpus/elsewhere")
    block, _ = of_parts(form, {"train": ("elsewhere", []), "dev": ("af/dev", [])})
    corpus.read(block)
    assert (corpus.ids("train"), corpus.ids("dev")) == (["train/0", "train/s/1"], ["dev/0"])


@pytest.mark.parametrize("form", ["table", "nemo_manifest"])
def test_audio_of_several_parts_has_one_name(corpus, form):
    """It lies beside the folders of the parts, or below one that parts share."""
    for name in ("x/audio/0", "y/audio/0", "0"):
        write_audio(corpus.folder / "corpus" / f"{name}.wav")
    parts = {"train": ("x/lists", ["x/audio/0"]), "dev": ("y/lists", ["y/audio/0", "0"])}
    block, files = of_parts(form, parts)
    write(corpus, files)
    corpus.read(block)
    assert (corpus.ids("train"), corpus.ids("dev")) == (["x/audio/0"], ["0", "y/audio/0"])
    block, files = of_parts(form, {"train": ("x", ["x/audio/0"]), "dev": ("x", []), "test": ("y", ["y/audio/0"])})
    write(corpus, files | {"x/t_dev.csv": "path,text\naudio/1.wav,x\n", "x/m_dev.json": lines({"audio_filepath": "audio/1.wav", "text": "x"})})  # fmt: skip
    write_audio(corpus.folder / "corpus" / "x/audio/1.wav")
    corpus.read(block)
    assert [corpus.ids(part) for part in ("train", "dev", "test")] == [["audio/0"], ["audio/1"], ["test/audio/0"]]


@pytest.mark.parametrize("form", ["relative", "absolute"])
@pytest.mark.parametrize("kind", ["table", "nemo_manifest", "huggingface"])
def test_a_corpus_that_grows_keeps_its_ids(corpus, kind, form):
    """What is added lies in another folder each time, outside of that of the list and in it."""
    import datasets

    folder, data = corpus.folder / "corpus", corpus.folder / "corpus" / "lists" / "data"
    data.mkdir(parents=True)
    start = Path("corpus/lists" if kind == "table" else ".")
    ids = []
    for names in (["a/1"], ["a/1", "b/1"], ["a/1", "b/1", "lists/1"]):
        paths = [folder / f"{name}.wav" for name in names]
        write_audio(paths[-1])
        shown = [str(path) if form == "absolute" else os.path.relpath(path, start) for path in paths]
        if kind == "table":
            table(corpus, "path,text\n" + "".join(f"{path},x\n" for path in shown), "lists/t.csv")
        elif kind == "nemo_manifest":
            write(corpus, {"lists/m.json": lines(*({"audio_filepath": path, "text": "x"} for path in shown))})
        else:
            shutil.rmtree(data)
            datasets.Dataset.from_dict({"audio": shown, "text": ["x"] * len(shown)}).save_to_disk(data)
        corpus.read(
            {kind: {"table": "lists/t.csv", "nemo_manifest": "lists/m.json", "huggingface": "lists/data"}[kind]}
        )
        ids.append(corpus.ids())
    assert ids == [["a/1"], ["a/1", "b/1"], ["1", "a/1", "b/1"]]


def test_two_files_of_one_name_are_refused_with_a_remedy(corpus):
    write_audio(corpus.folder / "corpus" / "lists" / "a.wav")
    table(corpus, "path,text\na.wav,x\n../a.wav,y\n", "lists/t.csv")
    with pytest.raises(UserError, match=r"line 3: the recording a.wav is .*/a.wav, but .*/lists/a.wav in .*line 2: ids are made of paths, so rename a file, or a folder above one of them$"):  # fmt: skip
        corpus.read({"table": "lists/t.csv"})


NAMES = [
    "-dash.wav",
    "a b.wav",
    "q'u\"o.wav",
    "new\nline.wav",
    "ünï 语.wav",
    "semi;colon$(x).wav",
    "%41.wav",
    " pad .wav",
]


def test_any_name_works(corpus):
    import csv

    folder = corpus.folder / "corpus"
    for name in NAMES:
        write_audio(folder / name, channels=2)
    with (folder / "names.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "text"), *((name, "word") for name in NAMES)])
    for policy in ({"channels": "mix"}, {"channels": 1, "sampling_rate": 16000}):
        corpus.read({"table": "names.csv"}, policy=policy)
        assert sorted(corpus.ids()) == sorted(name.removesuffix(".wav") for name in NAMES)
        for row in corpus.rows("recordings"):
            assert soundfile.info(row["sources"][0]["source"]).samplerate == row["sampling_rate"]


# --- tables ---


def test_a_table_as_spreadsheets_write_it(corpus):
    """With byte order mark, CRLF, semicolons, quoted cells, an empty line, and numbers that stay as they are."""
    text = '\ufeffpath;text;id;speaker\r\na.wav;"one; ""two""";007;0012\r\n\r\nb.wav;NA;1e5;\r\n'
    corpus.read(table(corpus, text))
    first, second = corpus.rows("supervisions")
    assert (first["id"], first["text"], first["speaker"]) == ("007", 'one; "two"', "0012")
    assert (second["id"], second["text"]) == ("1e5", "NA")
    assert "speaker" not in second


def test_columns_delimiter_root_and_quotes_are_settings(corpus):
    block = table(corpus, 'file|sentence|secs|duration\na.wav|"Hi" she said|0.25|250\n', "t.txt")["table"]
    write_audio(corpus.folder / "corpus" / "clips" / "a.wav")
    columns = {"path": "file", "text": "sentence", "end": "secs", "duration": None}
    corpus.read({"table": {"file": block, "root": "clips", "quotes": False, "columns": columns}})
    (row,) = corpus.rows("supervisions")
    assert (row["text"], row["duration"], row["recording_id"]) == ('"Hi" she said', 0.25, "a")


def test_a_table_for_each_part(corpus):
    table(corpus, "path\ttext\tsplit\na.wav\tone\tx\n", "train.tsv")
    table(corpus, "path\ttext\tsplit\nb.wav\ttwo\tx\n", "dev.tsv")
    corpus.read({"table": {"file": {"train": "train.tsv", "dev": "dev.tsv"}}})
    assert (corpus.ids("train"), corpus.ids("dev")) == (["a"], ["b"])


def test_segments_of_a_long_recording(corpus):
    corpus.read(table(corpus, "path,text,start,duration\na.wav,x,0.1,0.2\na.wav,y,0.3,\na.wav,z,,0.1\n"))
    spans = [(row["start"], row["duration"]) for row in corpus.rows("supervisions")]
    assert spans == [(0.0, 0.1), (0.1, 0.2), (0.3, 0.2)]
    assert len(corpus.rows("recordings")) == 1


def test_a_segment_behind_the_end_is_left_out(corpus):
    corpus.read(table(corpus, "path,text,start,end\na.wav,x,0.2,\na.wav,y,0.5,\na.wav,z,7,\n"))
    assert [(row["start"], row["duration"]) for row in corpus.rows("supervisions")] == [(0.2, 0.3)]
    left = {"utterances": 2, "seconds": 0.0, "unknown_duration": 2}
    assert corpus.ledger["parts"]["all"]["left_out"] == {"it begins behind the end of its audio": left}


@pytest.mark.parametrize(
    ("text", "policy", "message"),
    [
        ("path,text,start,end\na.wav,x,100,200\nb.wav,x,90,95\n", {}, r"`corpora.mine.table` holds no utterance \(left out, it begins behind the end of its audio: 2\): are its times in seconds\?"),
        ("path,text,channel\ntwo.wav,x,0\n", {"channels": 1}, r"`corpora.mine.table` holds no utterance \(left out, it is not on channel 1: 1\)$"),
        ("path,text\n1.wav,x\n2.wav,x\n", {}, r"`corpora.mine.table` holds no utterance \(left out, no such file: 2\); 2 audio files of `corpora.mine` cannot be used: .*t.csv, line 2: .*1.wav: no such file; .*2.wav: no such file$"),
    ],
    ids=["times in ms", "another channel", "no audio"],
)  # fmt: skip
def test_a_corpus_of_which_nothing_is_left_says_why(corpus, text, policy, message):
    write_audio(corpus.folder / "corpus" / "two.wav", channels=2)
    with pytest.raises(UserError, match=message):
        corpus.read(table(corpus, text), policy=policy, exclude=True)


BAD_TABLES = {
    "no column": ("file,text\na.wav,x\n", r"t.csv, line 1: there is no column 'path' for `columns.path`; there are 'file', 'text'"),
    "a column twice": ("path,text,text\na.wav,x,y\n", r"t.csv, line 1: the column 'text' stands there twice"),
    "empty": ("", r"t.csv is empty"),
    "only a header": ("path,text\n", r"t.csv has no row below"),
    "a cell too many": ("path,text\na.wav,x\nb.wav,Hello, you\n", r"t.csv, line 3 has 3 cells, but there are 2 columns"),
    "a cell too few": ("path,text\na.wav\n", r"t.csv, line 2 has 1 cells"),
    "no path": ("path,text\na.wav,x\n ,y\n", r"t.csv, line 3: the column 'path' is empty"),
    "no id": ("path,text,id\na.wav,x,\n", r"t.csv, line 2: the column 'id' is empty"),
    "no split": ("path,text,split\na.wav,x,\n", r"t.csv, line 2: the column 'split' is empty"),
    "a time that is none": ("path,text,start\na.wav,x,0:01\n", r"t.csv, line 2: the column 'start' is '0:01', expected seconds"),
    "a decimal comma": ('path,text,start\na.wav,x,"0,5"\n', r"is '0,5', expected seconds"),
    "not a number": ("path,text,end\na.wav,x,nan\n", r"the column 'end' is 'nan'"),
    "negative": ("path,text,start\na.wav,x,-1\n", r"the column 'start' is '-1'"),
    "an absurd end": ("path,text,end\na.wav,x,0.5\na.wav,x,1e308\n", r"t.csv, line 3: it lasts from 0.0 s to 1e\+308 s, expected seconds from 0 to 10000000"),
    "an absurd start": ("path,text,start\na.wav,x,1e9\n", r"t.csv, line 2: it lasts from 1000000000.0 s to the end, expected"),
    "end before start": ("path,text,start,end\na.wav,x,0.4,0.2\n", r"line 2: it ends at 0.2 s and begins at 0.4 s"),
    "end against duration": ("path,text,end,duration\na.wav,x,0.4,0.2\n", r"line 2: from 0.0 s to 0.4 s are 0.400 s, but the duration is 0.2 s"),
    "stray quotes": ('path,text\na.wav,"Hi" she said\n', r"t.csv, line 2: .*set `quotes: false`"),
    "a row in quotes": ('path,text\na.wav,"Hello he said\nb.wav,and left"\nc.wav,x\n', r"t.csv, line 2: double quotes make one cell of lines that would be rows of their own, up to line 3; if .* set `quotes: false`"),
    "rows in quotes": ('path,text,speaker\nc.wav,x,1\na.wav,"Hello,s1\r\n\r\nb.wav,bye",s2\n', r"t.csv, line 3: double quotes make one cell of .* up to line 5"),
    "another text for one utterance": ("path,text\na.wav,x\nb.wav,y\na.wav,z\n", r"t.csv, line 4: the utterance a stands in .*t.csv, line 2 too, with another text \(x there, z here\)"),
    "one id for two": ("path,text,id\na.wav,x,1\nb.wav,x,1\n", r"line 3: the utterance 1 stands in .*line 2 too, with another audio"),
    "in two parts": ("path,text,split\na.wav,x,train\na.wav,x,dev\n", r"line 3: the utterance a stands in .* with another part \(train there, dev here\)"),
    "a part that is a path": ("path,text,split\na.wav,x,../x\n", r"'../x' cannot be the name of a part"),
    "a command": ("path,text\npipe:cat a.wav,x\n", r"t.csv, line 2: .*NeMo would run what follows `pipe:`"),
    "no delimiter": ("path text\na.wav x\n", r"there is no column 'path'"),
    "a channel that is none": ("path,text,channel\na.wav,x,left\n", r"line 2: the channel is 'left'"),
    "a channel of many digits": (f"path,text,channel\na.wav,x,{'9' * 5000}\n", r"line 2: the channel is '9{20}', expected a number from 0"),
    "missing audio": ("path,text\na.wav,x\n1.wav,x\n2.wav,x\n3.wav,x\n4.wav,x\n", r"4 audio files of `corpora.mine` cannot be used: .*t.csv, line 3: .*1.wav: no such file; .*line 4.*line 5.*; and 1 more; mend them, or set `corpora.mine.on_bad_audio: exclude`"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_a_bad_table_is_refused_with_its_line(corpus, text, message):
    with pytest.raises(UserError, match=message):
        corpus.read(table(corpus, text))


def test_a_table_of_another_encoding_is_refused(corpus):
    with pytest.raises(UserError, match=r"t.csv is not UTF-8"):
        corpus.read(table(corpus, "path,text\na.wav,Grüße\n", encoding="latin-1"))


def test_the_line_of_a_row_counts_the_lines_inside_of_cells(corpus):
    with pytest.raises(UserError, match=r"t.csv, line 4: the column 'path' is empty"):
        corpus.read(table(corpus, 'path,text\na.wav,"two\nlines"\n,x\n'))


def test_a_text_of_several_lines_may_have_delimiters(corpus):
    rows = ['a.wav,"Hello, he said\nand left",s1', 'b.wav,"two\n\nlines",s1', 'c.wav,"a, b",s2']
    corpus.read(table(corpus, "path,text,speaker\n" + "\n".join(rows) + "\n"))
    texts = [row["text"] for row in corpus.rows("supervisions")]
    assert texts == ["Hello, he said and left", "two lines", "a, b"]


def test_equal_rows_count_once(corpus):
    corpus.read(table(corpus, "path,text\na.wav,x\nb.wav,y\na.wav,x\n"))
    assert corpus.ids() == ["a", "b"]
    account = corpus.ledger["parts"]["all"]
    assert account["rows"] == 3
    assert account["left_out"]["a row that stands there twice"] == {
        "utterances": 1,
        "seconds": 0.5,
        "unknown_duration": 0,
    }


# --- audio that cannot be used ---


def spoil(folder):
    """Write audio files that cannot be used; return their names and the reasons."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no audio at all")
    (folder / "cut.flac").write_bytes(b"fLaC\0\0\0\x22")
    (folder / "fake.mp3").write_text("no audio")
    (folder / "dir.wav").mkdir()
    soundfile.write(folder / "silent.wav", np.zeros(0), RATE)
    write_audio(folder / "piped.flac")
    drop_length(folder / "piped.flac")
    return {
        "none.wav": "no such file",
        "empty.wav": "empty",
        "silent.wav": "empty",
        "text.wav": "unreadable: ",
        "cut.flac": "unreadable: ",
        "fake.mp3": "unreadable: it is damaged, or no .mp3",
        "dir.wav": "a folder, not a file",
        "piped.flac": "its header does not say how long it is: write it again, to a file",
    }


def test_bad_audio_is_left_out_and_counted_if_asked_for(corpus):
    reasons = spoil(corpus.folder / "corpus")
    rows = "".join(f"{name},x,{end}\n" for name, end in zip(["a.wav", *reasons], ["", "0.2", *[""] * 9], strict=False))
    corpus.read(table(corpus, "path,text,end\n" + rows), exclude=True)
    rejected = {Path(row["audio"]).name: row for row in corpus.rows("rejected")}
    assert rejected.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert rejected[name]["reason"].startswith(reason), rejected[name]
    assert rejected["none.wav"]["seconds"] == 0.2
    assert rejected["text.wav"]["seconds"] is None
    account = corpus.ledger["parts"]["all"]
    assert account["rows"] == 9 == account["supervisions"] + sum(a["utterances"] for a in account["left_out"].values())
    assert "left out, no such file: 1 utterances, 0.000 h" in corpus.log
    with pytest.raises(UserError, match="8 audio files of `corpora.mine` cannot be used"):
        corpus.read({"table": "t.csv"})


@pytest.mark.parametrize(("patience_s", "at_once"), [(60, 1), (0, 4)])
def test_threads_look_at_audio_where_it_keeps_us_waiting(monkeypatch, patience_s, at_once):
    monkeypatch.setattr(importing, "PATIENCE_S", patience_s)
    monkeypatch.setattr(importing, "FEW", 1)
    looking, most = set(), []

    def sounds(name, path):
        looking.add(name)
        time.sleep(0.002)
        most.append(len(looking))
        looking.remove(name)
        return f"{name}, {path}"

    files = [(number, str(number), "a.wav") for number in range(100)]
    found = list(importing._sounds(files, SimpleNamespace(sounds=sounds), 4))
    assert found == [(number, -1, f"{number}, a.wav") for number in range(100)], "in the order of the files"
    assert max(most) == at_once


def test_no_more_audio_is_looked_at_than_threads_take(monkeypatch):
    monkeypatch.setattr(importing, "PATIENCE_S", 0)
    taken = []
    files = (taken.append(number) or (number, "", "") for number in range(1000))
    for number, *_ in importing._sounds(files, SimpleNamespace(sounds=lambda *_: "empty"), 2):
        assert len(taken) <= number + 2 * importing.MANY


def test_audio_that_ends_the_import_ends_what_threads_would_look_at(monkeypatch):
    monkeypatch.setattr(importing, "PATIENCE_S", 0)
    looked_at = []

    def sounds(name, path):
        looked_at.append(name)
        if len(looked_at) > importing.FEW:
            time.sleep(0.01)
            raise UserError("no ffmpeg")
        return "empty"

    files = [(number, "", "") for number in range(1000)]
    with pytest.raises(UserError, match="no ffmpeg"):
        list(importing._sounds(files, SimpleNamespace(sounds=sounds), 2))
    assert len(looked_at) < importing.FEW + importing.MANY


def test_a_change_of_listed_audio_is_seen_once(corpus):
    corpus.read(table(corpus, "path,text\na.wav,x\nnone.wav,y\n"), exclude=True)
    assert changes_since(corpus.out) == []
    write_audio(corpus.folder / "corpus" / "none.wav")
    (change,) = changes = changes_since(corpus.out)
    assert change.startswith("1: 1 audio files, ")
    corpus.read({"table": "t.csv"}, changes=changes)
    assert corpus.ids() == ["a", "none"]
    assert changes_since(corpus.out) == changes
    (corpus.folder / "corpus" / "a.wav").unlink()
    assert len(changes_since(corpus.out)) == 2


def test_of_many_files_some_are_looked_at(corpus, monkeypatch):
    rows = "".join(f"{name}.wav,x\n" for name in "bcdef")
    for name in "bcdef":
        write_audio(corpus.folder / "corpus" / f"{name}.wav")
    corpus.read(table(corpus, f"path,text\n{rows}"))
    monkeypatch.setattr("nuptse.import_ledger.MOST_LOOKS", 3)  # every second
    (corpus.folder / "corpus" / "c.wav").unlink()
    assert changes_since(corpus.out) == []
    (corpus.folder / "corpus" / "d.wav").unlink()
    assert [change[:16] for change in changes_since(corpus.out)] == ["1: 1 audio files"]


# --- rates, channels, formats ---


def test_resampled_and_mixed_down(corpus):
    samples = write_audio(corpus.folder / "corpus" / "two.wav", 1.0, 2, 22050)
    block = table(corpus, "path,text,start,end\ntwo.wav,x,0.5,0.75\n")
    corpus.read(block, policy={"sampling_rate": 16000, "channels": "mix"})
    (recording,) = corpus.rows("recordings")
    assert (recording["sampling_rate"], recording["num_samples"]) == (16000, 16000)
    made, rate = soundfile.read(recording["sources"][0]["source"])
    assert (made.ndim, rate) == (1, 16000)
    import soxr

    expected = soxr.resample(samples.mean(axis=1) / 32768, 22050, 16000)
    assert np.abs(made - expected[: len(made)]).max() < 1e-4
    (row,) = corpus.rows("supervisions")
    assert (row["start"], row["duration"]) == (0.5, 0.25)
    assert corpus.ledger["converted"] == 1


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_chosen_channel_keeps_its_samples(corpus, subtype):
    path = corpus.folder / "corpus" / "two.wav"
    levels = np.random.default_rng(0).integers(-(2**31), 2**31, (4000, 2)).astype("int32")
    soundfile.write(path, levels, RATE, subtype=subtype)
    corpus.read(table(corpus, "path,text\ntwo.wav,x\n"), policy={"channels": 1})
    (recording,) = corpus.rows("recordings")
    made, _ = soundfile.read(recording["sources"][0]["source"], dtype="int32")
    assert (made == soundfile.read(path, dtype="int32")[0][:, 1]).all()


def test_every_channel_is_a_recording_of_its_own(corpus):
    samples = write_audio(corpus.folder / "corpus" / "call.wav", channels=2)
    block = table(
        corpus, "path,text,start,end,channel\ncall.wav,hello,0,0.2,0\ncall.wav,yes,0.1,0.3,1\na.wav,mono,,,\n"
    )
    corpus.read(block, policy={"channels": "split"})
    texts = {row["recording_id"]: row["text"] for row in corpus.rows("supervisions")}
    assert texts == {"call-c0": "hello", "call-c1": "yes", "a": "mono"}
    unit = Shares("recording", "1", {"train": 0.5, "test": 0.5}).unit_of
    assert [unit(row) for row in corpus.rows("supervisions")] == ["a", "call", "call"]
    assert list(SupervisionSet.from_file(corpus.out / "all_supervisions.jsonl.gz"))[1].original_recording_id == "call"
    for row in corpus.rows("recordings"):
        if row["id"] != "a":
            made, _ = soundfile.read(row["sources"][0]["source"], dtype="int16")
            assert (made == samples[:, int(row["id"][-1])]).all()
    with pytest.raises(UserError, match=r"line 2: .*call.wav is split into 2 channels, but the row has no channel"):
        corpus.read(table(corpus, "path,text\ncall.wav,hello\n"), policy={"channels": "split"})
    for name, count in (("call", 2), ("a", 1)):
        block = table(corpus, f"path,text,channel\n{name}.wav,hello,0\n{name}.wav,yes,{count}\n")
        with pytest.raises(UserError, match=rf"line 3: the channel is {count}, but .*{name}.wav has only {count}$"):
            corpus.read(block, policy={"channels": "split"})


def test_a_channel_has_no_id_of_another_file(corpus):
    write_audio(corpus.folder / "corpus" / "call.wav", channels=2)
    write_audio(corpus.folder / "corpus" / "call-c0.wav")
    block = table(corpus, "id,path,text,channel\n1,call.wav,hello,0\n2,call.wav,yes,1\n3,call-c0.wav,no,\n")
    clash = (
        "line 4: the recording call-c0 is .*/call-c0.wav or a channel of it, but .*/call.wav in .*line 2, or a channel"
    )
    with pytest.raises(UserError, match=clash):
        corpus.read(block, policy={"channels": "split"})


def test_utterances_on_other_channels_are_left_out(corpus):
    write_audio(corpus.folder / "corpus" / "call.wav", channels=2)
    corpus.read(
        table(corpus, "path,text,end,channel\ncall.wav,hello,0.2,0\ncall.wav,yes,0.2,1\n"), policy={"channels": 1}
    )
    assert [row["text"] for row in corpus.rows("supervisions")] == ["yes"]
    left = {"utterances": 1, "seconds": 0.2, "unknown_duration": 0}
    assert corpus.ledger["parts"]["all"]["left_out"] == {"it is not on channel 1": left}


def test_several_channels_want_a_policy(corpus):
    write_audio(corpus.folder / "corpus" / "two.wav", channels=2)
    block = table(corpus, "path,text\ntwo.wav,x\na.wav,x\n")
    with pytest.raises(UserError, match=r"two.wav has 2 channels: say in `corpora.mine.channels` what to do with them"):
        corpus.read(block, exclude=True)
    with pytest.raises(UserError, match=r"two.wav: it has 2 channels, and `channels` asks for number 2"):
        corpus.read(block, policy={"channels": 2})


def test_converting_goes_on_and_removes_what_is_no_longer_used(corpus):
    block = table(corpus, "path,text\na.wav,x\nb.wav,x\n")
    corpus.read(block, policy={"sampling_rate": 16000})
    made = {path: path.stat().st_mtime_ns for path in (corpus.folder / "converted").rglob("*.flac")}
    assert len(made) == 2
    next(iter(made)).unlink()
    half = next(iter(made)).with_name(f".0123abcd-{next(iter(made)).name}")
    half.write_bytes(b"what a killed import left")
    corpus.read(block, policy={"sampling_rate": 16000})
    again = {path: path.stat().st_mtime_ns for path in (corpus.folder / "converted").rglob("*.flac")}
    assert again.keys() == made.keys()
    assert sum(again[path] == made[path] for path in made) == 1, "the other was not made anew"
    corpus.read(block, policy={"sampling_rate": 12000})
    assert not {*made, half} & set((corpus.folder / "converted").rglob("*.flac"))
    assert "removed 2 audio files of earlier imports" in corpus.log


@pytest.mark.parametrize(("suffix", "subtype"), [("mp3", None), ("ogg", "VORBIS"), ("opus", "OPUS"), ("flac", "PCM_24"), ("wav", "FLOAT")])  # fmt: skip
@pytest.mark.parametrize("rate", [None, 16000])
def test_every_format_of_libsndfile(corpus, suffix, subtype, rate):
    path = corpus.folder / "corpus" / f"x.{suffix}"
    samples = np.sin(np.arange(48000) / 20) / 2
    kind = {"opus": "OGG"}.get(suffix)
    soundfile.write(path, samples, 48000, format=kind, subtype=subtype)
    corpus.read(table(corpus, f"path,text\nx.{suffix},x\n"), policy={"sampling_rate": rate})
    (recording,) = RecordingSet.from_file(corpus.out / "all_recordings.jsonl.gz")
    assert recording.sampling_rate == (rate or 48000)
    assert recording.duration == pytest.approx(1.0, abs=0.1)
    assert recording.load_audio().std() == pytest.approx(samples.std(), rel=0.05)


def test_what_libsndfile_does_not_read_wants_ffmpeg(corpus, monkeypatch):
    (corpus.folder / "corpus" / "x.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    block = table(corpus, "path,text\nx.m4a,x\na.wav,x\n")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"x.m4a: .m4a files are decoded by ffmpeg, which is not installed: install it"):
        corpus.read(block, exclude=True)


def test_ffmpeg_decodes(corpus):
    import subprocess

    if not shutil.which("ffmpeg"):
        pytest.skip("no ffmpeg")
    folder = corpus.folder / "corpus"
    name = "-x 'y'.m4a"
    command = ["ffmpeg", "-loglevel", "error", "-i", "file:a.wav", "-c:a", "aac", f"file:{name}"]
    subprocess.run(command, cwd=folder, check=True)
    (folder / "bad.m4a").write_bytes(b"no audio")
    (folder / "list.aac").write_text("ffconcat version 1.0\nfile a.wav\n")
    corpus.read(table(corpus, f"path,text\n{name},x\nbad.m4a,x\nlist.aac,x\n"), exclude=True)
    (recording,) = corpus.rows("recordings")
    assert recording["duration"] == pytest.approx(0.5, abs=0.1)
    assert sorted(row["id"] for row in corpus.rows("rejected")) == ["bad", "list"]
    assert all(row["reason"].startswith("unreadable: ffmpeg: ") for row in corpus.rows("rejected"))


# --- other sources, when they are broken ---


def write(corpus, files):
    for name, content in files.items():
        path = corpus.folder / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def recording(name="a", kind="file", source="a.wav", **more):
    sources = [{"type": kind, "channels": [0], "source": source}]
    return {"id": name, "sources": sources, "sampling_rate": RATE, "num_samples": 4000, "duration": 0.5} | more


def supervision(name="s", of="a"):
    return {"id": name, "recording_id": of, "start": 0.0, "duration": 0.5, "channel": 0, "text": "x"}


def cut(**more):
    own = {"id": "c", "start": 0.0, "duration": 0.5, "channel": 0, "supervisions": [supervision()], "type": "MonoCut"}
    return own | {"recording": recording()} | more


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


PAIR = {"lhotse": {"all": {"recordings": "r.jsonl", "supervisions": "s.jsonl"}}}
CUTS = {"lhotse": "c.jsonl"}
NEMO = {"nemo_manifest": "m.json"}
KALDI = {"kaldi": "."}

BROKEN = {
    "folder without transcripts": ({"audio_folder": "."}, {}, r"has audio, such as .*a.wav, but beside none of it a transcript of the same name that ends with .txt"),
    "two audio files of a name": ({"audio_folder": "."}, {"a.txt": "x", "a.mp3": b"x"}, r"a.txt stands beside .*a.mp3 and .*a.wav"),
    "a transcript that is not UTF-8": ({"audio_folder": "."}, {"a.txt": b"\xff\xfe"}, r"a.txt is not UTF-8"),
    "an empty folder": ({"audio_folder": "x"}, {}, r"`corpora.mine.audio_folder` holds no utterance"),
    "no JSON": (NEMO, {"m.json": '{"audio_filepath": "a.wav", "text": "x"}\nx\n'}, r"m.json, line 2 is no row of a NeMo manifest"),
    "no audio_filepath": (NEMO, {"m.json": '{"text": "x"}\n'}, r"m.json, line 1 .*audio_filepath"),
    "no text": (NEMO, {"m.json": '{"audio_filepath": "a.wav"}\n'}, r"m.json, line 1 has no `text`"),
    "negative offset": (NEMO, {"m.json": '{"audio_filepath": "a.wav", "text": "x", "offset": -1}\n'}, r"m.json, line 1: offset is -1.0"),
    "no manifest": (NEMO, {}, r"cannot read .*m.json: No such file"),
    "a shell command in wav.scp": (KALDI, {"wav.scp": "A sph2pipe -f wav a.sph |\n", "text": "A x\n"}, r"wav.scp, line 1: the recording A is the output of a shell command \(sph2pipe -f wav a.sph \|\), and commands out of data are not run"),
    "no text file": (KALDI, {"wav.scp": "A a.wav\n"}, r"corpus has no text: a Kaldi data directory needs one"),
    "a segment of nothing": (KALDI, {"wav.scp": "A a.wav\n", "text": "u x\n", "segments": "u B 0 1\n"}, r"segments, line 1: the utterance u belongs to the recording B, which wav.scp lacks"),
    "a segment without end": (KALDI, {"wav.scp": "A a.wav\n", "text": "u x\n", "segments": "u A 0\n"}, r"segments, line 1 is 'u', 'A 0': expected utterance, recording, start and end"),
    "a name twice": (KALDI, {"wav.scp": "A a.wav\nA b.wav\n", "text": "A x\n"}, r"wav.scp, line 2: A stands there twice"),
    "a command as recording": (PAIR, {"r.jsonl": lines(recording(kind="command", source="touch hacked")), "s.jsonl": lines(supervision())}, r"r.jsonl, line 1: the audio of the recording a is command, expected one file: commands are not run"),
    "an address as recording": (CUTS, {"c.jsonl": lines(cut(recording=recording(kind="url", source="http://x/a.wav")))}, r"c.jsonl, line 1: .* is url, expected one file"),
    "a recording with transforms": (CUTS, {"c.jsonl": lines(cut(recording=recording(transforms=[{"name": "Speed"}])))}, r"c.jsonl, line 1: the recording a has transforms"),
    "a mixed cut": (CUTS, {"c.jsonl": lines(cut(type="MixedCut"))}, r"c.jsonl, line 1: a cut of the type MixedCut"),
    "features only": (CUTS, {"c.jsonl": lines(cut(recording=None))}, r"c.jsonl, line 1: the cut c has no recording"),
    "a supervision of nothing": (PAIR, {"r.jsonl": lines(recording()), "s.jsonl": lines(supervision(of="b"))}, r"s.jsonl, line 1: the supervision s belongs to the recording b, which .*r.jsonl lacks"),
    "a recording twice in a pair": (PAIR, {"r.jsonl": lines(recording(), recording(), recording(source="b.wav")), "s.jsonl": lines(supervision())}, r"r.jsonl, line 3: the recording a is .*b.wav, but .*a.wav further up: give each an id of its own"),
    "one manifest for the other": (PAIR, {"r.jsonl": lines(supervision()), "s.jsonl": lines(supervision())}, r"r.jsonl, line 1 is no recording of Lhotse"),
    "custom that is no object": (PAIR, {"r.jsonl": lines(recording()), "s.jsonl": lines(supervision() | {"custom": "x"})}, r"s.jsonl, line 1 is no supervision of Lhotse: .*custom"),
    "no JSON lines": (CUTS, {"c.jsonl": "[\n{}\n]\n"}, r"c.jsonl, line 1 is no Lhotse manifest of JSON lines: .*`lhotse copy`"),
    "a file that is no gzip": ({"lhotse": "c.jsonl.gz"}, {"c.jsonl.gz": "x"}, r"cannot read .*c.jsonl.gz: Not a gzipped file"),
    "one recording in two files": (CUTS, {"c.jsonl": lines(cut(), cut(recording=recording(source="b.wav"), supervisions=[supervision("t")]))}, r"c.jsonl, line 2: the recording a is .*b.wav, but .*a.wav in .*line 1: give each recording an id of its own$"),
    "a segment without times": (KALDI, {"wav.scp": "A a.wav\n", "text": "u x\n", "segments": "u A nan 1\n"}, r"segments, line 1: it lasts from nan s to 1.0 s, expected seconds from 0 to 10000000"),
    "a segment before the start": (KALDI, {"wav.scp": "A a.wav\n", "text": "u x\n", "segments": "u A -0.5 1\n"}, r"segments, line 1: it lasts from -0.5 s"),
    "a segment without end of time": (KALDI, {"wav.scp": "A a.wav\n", "text": "v x\n", "segments": "u A 0 inf\n"}, r"segments, line 1: it lasts from 0.0 s to inf s"),
    "an absurd duration": (NEMO, {"m.json": '{"audio_filepath": "a.wav", "text": "x", "duration": 1e308}\n'}, r"m.json, line 1: it lasts from 0.0 s to 1e\+308 s"),
    "a supervision of no duration": (PAIR, {"r.jsonl": lines(recording()), "s.jsonl": lines(supervision() | {"duration": 0})}, r"s.jsonl, line 1: it ends at 0.0 s and begins at 0.0 s: nothing lies between them"),
    "a supervision before its recording": (CUTS, {"c.jsonl": lines(cut(start=0.1, supervisions=[supervision() | {"start": -0.2}]))}, r"c.jsonl, line 1: it lasts from -0.1 s to 0.4 s"),
    "a supervision that runs backwards": (PAIR, {"r.jsonl": lines(recording()), "s.jsonl": lines(supervision() | {"start": 0.2, "duration": -0.1})}, r"s.jsonl, line 1: it ends at 0.1 s and begins at 0.2 s"),
    "a cut of no number": (CUTS, {"c.jsonl": lines(cut(duration="inf", supervisions=[]))}, r"c.jsonl, line 1: it lasts from 0.0 s to inf s"),
    "no Shar directory": ({"shar": "."}, {}, r"is no Lhotse Shar directory"),
    "Shar without audio": ({"shar": "."}, {"cuts.000000.jsonl": lines(cut())}, r"has no recording.000000.tar"),
    "damaged Shar": ({"shar": "."}, {"cuts.000000.jsonl": lines(cut()), "recording.000000.tar": b"x" * 2048}, r"cannot be read as a Lhotse Shar directory"),
    "no dataset": ({"huggingface": "x"}, {}, r"the dataset 'x' cannot be loaded"),
}  # fmt: skip


@pytest.mark.parametrize(("block", "files", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_source_is_refused(corpus, block, files, message):
    write(corpus, files)
    (corpus.folder / "corpus" / "x").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        corpus.read(block)
    assert not (corpus.folder / "hacked").exists()


def test_columns_of_a_dataset(corpus):
    import datasets

    data = datasets.Dataset.from_dict({"file": [str(corpus.folder / "corpus" / "a.wav")], "sentence": ["x"], "n": [7]})
    data.save_to_disk(corpus.folder / "corpus" / "data")
    columns = {"audio": "file", "text": "sentence", "id": "n"}
    corpus.read({"huggingface": {"dataset": "data", "columns": columns}})
    assert corpus.ids() == ["7"]
    with pytest.raises(UserError, match=r"has no column 'audio' in 'all' for `columns.audio`; there are 'file', 'sentence', 'n'"):  # fmt: skip
        corpus.read({"huggingface": {"dataset": "data", "columns": {}}})


@pytest.mark.parametrize("form", ["bytes", "path"])
def test_rows_of_a_dataset_with_the_same_audio_have_ids_of_their_own(corpus, form):
    import datasets

    path = corpus.folder / "corpus" / "a.wav"
    audio = {"bytes": path.read_bytes(), "path": "a.wav"} if form == "bytes" else {"bytes": None, "path": str(path)}
    rows = {"audio": [audio] * 2, "text": ["one", "two"], "id": ["u1", "u2"]}
    data = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(decode=False))
    data.save_to_disk(corpus.folder / "corpus" / "data")
    corpus.read({"huggingface": "data"})
    assert [(row["id"], row["text"]) for row in corpus.rows("supervisions")] == [("u1", "one"), ("u2", "two")]
    assert len(corpus.rows("recordings")) == 1


def test_a_dataset_that_grows_keeps_its_ids(corpus):
    """Names with dots: what stands behind the last but one is no suffix."""
    import datasets

    ids = []
    for names in (["talk.1.wav"], ["talk.1.wav", "talk.2.wav"]):
        audio = [{"bytes": (corpus.folder / "corpus" / "a.wav").read_bytes(), "path": name} for name in names]
        data = datasets.Dataset.from_dict({"audio": audio, "text": ["x"] * len(names)})
        data = data.cast_column("audio", datasets.Audio(decode=False))
        shutil.rmtree(corpus.folder / "corpus" / "data", ignore_errors=True)
        data.save_to_disk(corpus.folder / "corpus" / "data")
        corpus.read({"huggingface": "data"})
        ids.append(corpus.ids())
    digest = hashlib.blake2b(audio[0]["bytes"], digest_size=16).hexdigest()
    assert ids == [[f"talk.1-{digest}"], [f"talk.1-{digest}", f"talk.2-{digest}"]]


@pytest.mark.parametrize("row", [0, 3])
def test_a_damaged_parquet_is_named(corpus, row):
    """Streamed rows are read one by one: the file opens, and a page of it is no longer what it was."""
    import datasets

    folder = corpus.folder / "corpus" / "data"
    folder.mkdir()
    audio = str(corpus.folder / "corpus" / "a.wav")
    data = datasets.Dataset.from_dict({"audio": [audio] * 4, "text": ["x"] * 4, "id": list("abcd")})
    for number, part in enumerate([data.select(range(3)), data.select([3])] if row else [data]):
        part.to_parquet(folder / f"train-{number}.parquet")
    damaged = folder / f"train-{1 if row else 0}.parquet"
    content = bytearray(damaged.read_bytes())
    content[4:60] = bytes(56)
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=rf"data, train, row {row} cannot be read: \w+: .*; if a file is damaged, copy"):
        corpus.read({"huggingface": "data"})


def test_audio_of_a_dataset_without_names_is_told_apart(corpus):
    """The first 32 bits of the hashes (BLAKE2b of 4 bytes) of these two files agree."""
    import datasets

    files = []
    for level in (54240, 90886):
        with wave.open(str(corpus.folder / "one.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(level.to_bytes(4, "little") * 400)
        files.append((corpus.folder / "one.wav").read_bytes())
    first, second = (hashlib.blake2b(content, digest_size=4).digest() for content in files)
    assert first == second
    rows = {"audio": [{"bytes": content, "path": None} for content in files], "text": ["one", "two"]}
    data = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(decode=False))
    data.save_to_disk(corpus.folder / "corpus" / "data")
    corpus.read({"huggingface": "data"})
    assert sorted(row["text"] for row in corpus.rows("supervisions")) == ["one", "two"]


@pytest.mark.parametrize("name", BLOCKS)
def test_white_space_in_a_text_is_one_space(corpus, name):
    """Line breaks too, where a form has them: a text profile that keeps letters only would join two words. Not those
    spaces that hold a number together.
    """
    text = "one\ttwo  10\u00a0000" if name == "kaldi" else "one\ntwo \r\n\t10\u00a0000\u2028"
    folder = corpus.folder / "corpus"
    files = {"train": folder / "a.wav", "dev": folder / "b.wav"}
    write_all(folder, {part: [{"audio": path, "text": text, "speaker": "s"}] for part, path in files.items()})
    corpus.read(BLOCKS[name])
    assert [row["text"] for row in corpus.rows("supervisions", "train")] == ["one two 10\u00a0000"]


def test_what_a_source_leaves_out_is_counted(corpus):
    write(corpus, {"a.txt": "\ufeffone\n two \n", "orphan.txt": "x"})
    corpus.read({"audio_folder": {"folder": ".", "text_suffix": ".txt"}})
    assert [row["text"] for row in corpus.rows("supervisions")] == ["one two"]
    left = {reason: amount["utterances"] for reason, amount in corpus.ledger["parts"]["all"]["left_out"].items()}
    assert left == {"no transcript (.txt)": 2, "a transcript without audio": 1}
    write(corpus, {"m.json": lines({"audio_filepath": "a.wav", "text": "x"}, {"audio_filepath": "b.wav", "text": "x", "duration": 0.5, "_skipme": True})})  # fmt: skip
    corpus.read(NEMO)
    assert corpus.ledger["parts"]["all"]["left_out"] == {
        "_skipme": {"utterances": 1, "seconds": 0.5, "unknown_duration": 0}
    }
    write(corpus, {"c.jsonl": lines(cut(), cut(id="d", supervisions=[]))})
    corpus.read(CUTS)
    (row,) = corpus.rows("rejected")
    assert (row["id"], row["reason"], row["seconds"]) == ("d", "a cut without a supervision", 0.5)


def test_recordings_without_an_utterance_are_counted(corpus):
    recordings = [recording(name, source=f"{name}.wav") for name in "aabc"]  # one stands there twice
    write(corpus, {"r.jsonl": lines(*recordings), "s.jsonl": lines(supervision("s"), supervision("t"))})
    corpus.read(PAIR)
    assert corpus.ledger["parts"]["all"]["unused_recordings"] == unused_recordings(corpus.out, ["all", "other"]) == 2
    assert "; recordings without an utterance: 2\n" in corpus.log
    write(corpus, {"wav.scp": "a a.wav\nb b.wav\n", "segments": "u a 0 0.2\nv a 0.2 0.4\n", "text": "u x\nv y\n"})
    corpus.read(KALDI)
    assert corpus.ledger["parts"]["all"]["unused_recordings"] == 1
    (corpus.folder / "corpus" / "segments").unlink()
    write(corpus, {"text": "a x\n"})
    corpus.read(KALDI)
    assert corpus.ledger["parts"]["all"]["unused_recordings"] == 0, "without segments each recording is an utterance"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one two", "one two"),
        ("one  two", "one two"),
        ("one\u00a0\u00a02", "one\u00a0\u00a02"),
        (" one\u2028", "one"),
        *[(f"one{chr(code)}two", "one two") for code in (*range(9, 14), *range(28, 33), 0x85, 0x2028, 0x2029)],
    ],
)
def test_white_space_of_a_text_becomes_one_space(text, line):
    assert importing._one_line(text) == line


def test_an_audio_folder_is_read_folder_by_folder(corpus):
    """Nothing but the names of one folder is kept: 200 folders take no more memory than two."""
    peaks = []
    for count in (2, 200):
        folder = corpus.folder / str(count)
        for number in range(count):
            own = folder / f"folder-{number:03}"
            own.mkdir(parents=True)
            for name in ("one.wav", "one.txt", "two.wav"):
                (own / name).write_text("x")
        tracemalloc.start()
        rows = sum(1 for _ in folder_rows(folder, {}, "all", AudioNames(folder)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert rows == 2 * count
    assert peaks[1] < peaks[0] + 50_000


def test_a_path_in_a_nemo_manifest_starts_at_the_working_directory_or_at_the_manifest(corpus):
    write_audio(corpus.folder / "here.wav", 0.25)
    rows = [{"audio_filepath": name, "text": "x", "duration": 0.25} for name in ("here.wav", "a.wav")]
    write(corpus, {"m.json": lines(*rows)})
    corpus.read(NEMO)
    durations = {row["id"]: row["duration"] for row in corpus.rows("recordings")}
    assert sorted(durations.values()) == [0.25, 0.5]


def test_a_recipe_follows_the_policy(corpus):
    chapter = "LibriSpeech/dev-clean-2/1/2"
    for number in (0, 1):
        write_audio(corpus.folder / "corpus" / chapter / f"1-2-000{number}.flac")
    write(corpus, {f"{chapter}/1-2.trans.txt": "1-2-0000 HELLO\n1-2-0001 YOU\n"})
    block = {"recipe": "librispeech", "recipe_root": "LibriSpeech", "recipe_options": {}}
    accounts = []
    for rate in (None, 16000):
        corpus.read(block, policy={"sampling_rate": rate})
        assert {row["sampling_rate"] for row in corpus.rows("recordings", "dev-clean-2")} == {rate or RATE}
        assert [row["text"] for row in corpus.rows("supervisions", "dev-clean-2")] == ["HELLO", "YOU"]
        accounts.append(corpus.ledger["parts"])
    assert accounts[0] == accounts[1]


def test_what_a_recipe_gives_no_duration_is_left_out(corpus, monkeypatch):
    """Without a policy `select_utterances` leaves it out; with one, nothing of the recipe is to be refused for it."""

    def prepare(recipe, root, options, output_dir, threads):
        empty = [supervision("t") | {"duration": 0.0}, supervision("u") | {"duration": -0.2}]
        for kind, rows in (
            ("recordings", [recording(source="corpus/a.wav")]),
            ("supervisions", [supervision(), *empty]),
        ):
            write_rows(output_dir / f"train_{kind}.jsonl.gz", rows)
        return ""

    monkeypatch.setattr("nuptse.corpus_import.prepare_recipe", prepare)
    block = {"recipe": "yesno", "recipe_root": ".", "recipe_options": {}}
    corpus.read(block, policy={"sampling_rate": 16000})
    assert corpus.ids("train") == ["s"]
    assert corpus.ledger["parts"]["train"]["left_out"] == {
        "no duration": {"utterances": 2, "seconds": 0.0, "unknown_duration": 0}
    }


# --- nothing is lost ---

FILES = ["a.wav", "b.wav", "c.wav", "none.wav", "text.wav"]
SEGMENT = st.tuples(
    st.sampled_from(FILES),
    st.sampled_from(["one", "two", ""]),
    st.sampled_from(["train", "dev"]),
    st.none() | st.integers(0, 300),
    st.none() | st.integers(1, 200),
)


def known(rows):
    """Rows as (file, text, part, start, end), s, those with one id removed unless they are equal."""
    seen = {}
    for file, text, part, start, length in rows:
        first = (start or 0) / 1000
        end = None if length is None else round(first + length / 1000, 3)
        row = (file, text, part, first, end)
        if seen.setdefault((file, first, end), row) == row:
            yield row


@pytest.mark.parametrize("kind", ["table", "nemo_manifest", "lhotse", "kaldi"])
@given(rows=st.lists(SEGMENT, min_size=1, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_is_kept_and_rejected(corpus, kind, rows):
    folder = corpus.folder / "corpus"
    (folder / "text.wav").write_text("no audio")
    utterances = list(known(rows))
    parts = sorted({part for _, _, part, *_ in utterances})
    if kind == "table":
        cells = [f"{f},{t},{p},{s},{'' if e is None else e}" for f, t, p, s, e in utterances]
        block = table(corpus, "path,text,split,start,end\n" + "\n".join(cells))
    elif kind == "nemo_manifest":
        for part in parts:
            own = [{"audio_filepath": f, "text": t, "offset": s} | ({} if e is None else {"duration": e - s}) for f, t, p, s, e in utterances if p == part]  # fmt: skip
            write(corpus, {f"m_{part}.json": lines(*own)})
        block = {"nemo_manifest": {part: f"m_{part}.json" for part in parts}}
    elif kind == "lhotse":
        for part in parts:
            own = [
                supervision(f"u{i}", f) | {"text": t, "start": s, "duration": 0.5 - s if e is None else e - s}
                for i, (f, t, p, s, e) in enumerate(utterances)
                if p == part
            ]
            write(corpus, {f"s_{part}.jsonl": lines(*own), "r.jsonl": lines(*(recording(f, source=f) for f in FILES))})
        block = {"lhotse": {part: {"recordings": "r.jsonl", "supervisions": f"s_{part}.jsonl"} for part in parts}}
    else:
        for part in parts:
            own = [(f"u{i}", *row) for i, row in enumerate(utterances) if row[2] == part]
            files = {
                "wav.scp": "".join(f"{f} {folder / f}\n" for f in FILES),
                "text": "".join(f"{u} {t}\n" for u, _, t, *_ in own),
                "segments": "".join(f"{u} {f} {s} {-1 if e is None else e}\n" for u, f, _, _, s, e in own),
            }
            write(corpus, {f"k_{part}/{name}": content for name, content in files.items()})
        block = {"kaldi": {part: f"k_{part}" for part in parts}}
    good = [row for row in utterances if row[0] in ("a.wav", "b.wav", "c.wav")]
    if not good:
        with pytest.raises(UserError, match="cannot be used"):
            corpus.read(block, exclude=True)
        return
    try:
        corpus.read(block, exclude=True)
    except UserError as error:
        assert "with another" in str(error)  # noqa: PT017 -- a whole file and a segment of just its length
        return
    for part in parts:
        wanted = [row for row in utterances if row[2] == part]
        supervisions, rejected = corpus.rows("supervisions", part), corpus.rows("rejected", part)
        assert len(supervisions) + len(rejected) == len(wanted)
        account = corpus.ledger["parts"][part]
        left = account["left_out"].values()
        assert account["rows"] == len(wanted) == account["supervisions"] + sum(a["utterances"] for a in left)
        assert account["seconds"] == pytest.approx(sum(row["duration"] for row in supervisions))
        seconds = sum(a["seconds"] for a in left)
        assert seconds == pytest.approx(sum(row["seconds"] or 0 for row in rejected))
        expected = sum((0.5 if e is None else e) - s for f, _, _, s, e in wanted if f in ("a.wav", "b.wav", "c.wav"))
        duplicates = sum(row["seconds"] for row in rejected if row["reason"].startswith("a row that stands"))
        assert account["seconds"] + duplicates == pytest.approx(expected, abs=1e-6)
        assert sum(a["unknown_duration"] for a in left) == sum(row["seconds"] is None for row in rejected)


@pytest.mark.parametrize("kind", ["audio_folder", "huggingface", "shar"])
@given(kinds=st.lists(st.sampled_from(["good", "no text", "no audio", "damaged"]), min_size=1, max_size=6))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_is_kept_and_rejected_in_containers_too(corpus, kind, kinds):
    import datasets

    folder = corpus.folder / "corpus" / "container"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    kinds = ["good", *kinds]
    if kind == "audio_folder":
        for number, what in enumerate(kinds):
            if what != "no audio":
                write_audio(folder / f"{number}.wav")
            if what == "damaged":
                (folder / f"{number}.wav").write_text("no audio")
            if what != "no text":
                (folder / f"{number}.txt").write_text("word")
        good = kinds.count("good")
    elif kind == "huggingface":
        audio = (folder.parent / "a.wav").read_bytes()
        rows = [{"bytes": b"x" if what == "damaged" else audio, "path": f"{i}.wav"} for i, what in enumerate(kinds)]
        data = datasets.Dataset.from_dict({"audio": rows, "text": ["word"] * len(kinds), "id": list(range(len(kinds)))})
        data.save_to_disk(folder)
        good = len(kinds) - kinds.count("damaged")
    else:
        cuts = cut_set([{"audio": folder.parent / "a.wav", "text": "word", "speaker": "s"}] * len(kinds))
        own = []
        for number, (one, what) in enumerate(zip(cuts, kinds, strict=True)):
            one = fastcopy(one, id=str(number), supervisions=[fastcopy(s, id=f"s{number}") for s in one.supervisions])
            own.append(one.drop_supervisions() if what == "no text" else one)
        CutSet.from_cuts(own).to_shar(folder, fields={"recording": "wav"}, shard_size=3)
        good = len(kinds) - kinds.count("no text")
    corpus.read({kind: "container"}, exclude=True)
    account = corpus.ledger["parts"]["all"]
    left = account["left_out"].values()
    assert len(corpus.rows("supervisions")) == account["supervisions"] == good
    assert len(corpus.rows("rejected")) == sum(a["utterances"] for a in left) == account["rows"] - good
    assert account["rows"] == len(kinds)
    assert account["seconds"] == pytest.approx(0.5 * good)


def test_times_of_a_cut_are_those_of_its_recording(corpus):
    paths = [corpus.folder / "corpus" / "a.wav"]
    cuts = cut_set([{"audio": path, "text": "x", "speaker": "s"} for path in paths])
    (one,) = cuts
    shifted = one.truncate(offset=0.1, duration=0.3, preserve_id=True)
    shifted.supervisions[0] = dataclasses.replace(shifted.supervisions[0], start=0.05, duration=0.1)
    write(corpus, {"c.jsonl": json.dumps(shifted.to_dict()) + "\n"})
    corpus.read(CUTS)
    (row,) = corpus.rows("supervisions")
    assert (row["start"], row["duration"]) == (0.15, 0.1), "from the start of the recording"
