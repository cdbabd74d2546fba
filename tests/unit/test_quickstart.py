"""The embedded corpora are what their README says, and Lhotse reads them."""

import gzip
import hashlib
import importlib.util
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest
import soundfile
import yaml
from lhotse.recipes import prepare_librispeech, prepare_yesno

from nuptse.nemo_archive import check_nemo_archive

QUICKSTART = Path(__file__).parents[2] / "resources" / "quickstart"
YESNO = "1/waves_yesno.tar.gz"
PARTS = {  # part: (archive, utterances, voices)
    "train-clean-5": ("31/train-clean-5.tar.gz", 180, 12),
    "dev-clean-2": ("31/dev-clean-2.tar.gz", 54, 6),
    "test-clean": ("12/test-clean.tar.gz", 48, 6),
}
ARCHIVES = [YESNO, *(archive for archive, _, _ in PARTS.values())]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds ``LibriSpeech/`` with all parts, and ``waves_yesno/``."""
    folder = tmp_path_factory.mktemp("quickstart")
    for archive in ARCHIVES:
        with tarfile.open(QUICKSTART / archive) as tar:
            tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def transcripts(extracted: Path) -> dict[str, dict[str, str]]:
    """For each part, its utterances: identifier to text."""
    return {part: dict(read_transcripts(extracted / "LibriSpeech" / part)) for part in PARTS}


def read_transcripts(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.trans.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            utterance_id, text = line.split(maxsplit=1)
            yield utterance_id, text


def load_grammar() -> ModuleType:
    """Import the generator's ``grammar.py``, which needs the standard library alone."""
    spec = importlib.util.spec_from_file_location("quickstart_grammar", QUICKSTART / "grammar.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_archives_match_their_checksums_and_the_readme():
    sums = (QUICKSTART / "SHA256SUMS").read_text().splitlines()
    expected = {name: checksum for checksum, name in (line.split() for line in sums)}
    found = {name: hashlib.sha256((QUICKSTART / name).read_bytes()).hexdigest() for name in ARCHIVES}
    assert found == expected
    readme = (QUICKSTART / "README.md").read_text(encoding="utf-8")
    for name, checksum in found.items():
        size = (QUICKSTART / name).stat().st_size
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
        assert f"{size:,}" in row and checksum in row


def test_archives_stay_small():
    assert sum((QUICKSTART / name).stat().st_size for name in ARCHIVES) <= 12_000_000


@pytest.mark.parametrize("archive", ARCHIVES)
def test_members_are_regular_files_with_safe_sorted_names_and_no_trace_of_their_maker(archive):
    with tarfile.open(QUICKSTART / archive) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(set(names))
    for member in members:
        path = PurePosixPath(member.name)
        assert member.isreg()
        assert path.parts[0] in {"LibriSpeech", "waves_yesno"} and ".." not in path.parts
        owner = (member.uid, member.gid, member.uname, member.gname)
        assert (*owner, member.mtime, member.mode) == (0, 0, "", "", 0, 0o644)


def test_no_speaker_and_no_timbre_is_in_two_parts(extracted, transcripts):
    speakers = {part: {u.split("-")[0] for u in utts} for part, utts in transcripts.items()}
    assert {part: len(ids) for part, ids in speakers.items()} == {p: PARTS[p][2] for p in PARTS}
    table = (extracted / "LibriSpeech" / "SPEAKERS.TXT").read_text().splitlines()
    rows = [[field.strip() for field in row.split("|")] for row in table if row[0] != ";"]
    # Equal sizes of list and set: every number and every timbre is listed once, for one part.
    assert len({row[0] for row in rows}) == len(rows) == sum(map(len, speakers.values()))
    assert len({row[4].split("+")[1] for row in rows}) == len(rows)
    for part, ids in speakers.items():
        assert {row[0] for row in rows if row[2] == part} == ids


def test_no_sentence_is_spoken_twice(transcripts):
    sentences = [text for utterances in transcripts.values() for text in utterances.values()]
    assert len(set(sentences)) == len(sentences) == sum(count for _, count, _ in PARTS.values())


def test_train_has_every_word_of_dev_and_test(transcripts):
    words = {part: set(" ".join(utts.values()).split()) for part, utts in transcripts.items()}
    assert words["dev-clean-2"] | words["test-clean"] <= words["train-clean-5"]
    assert all(word.isalpha() and word.isupper() for word in words["train-clean-5"])


def test_train_has_25_words_that_pretraining_lacks(transcripts):
    grammar = load_grammar().PRETRAIN
    pretrain = set(" ".join(chain(grammar.templates, *grammar.slots.values())).split())
    train = set(" ".join(transcripts["train-clean-5"].values()).lower().split())
    assert len(train - pretrain) == 25


def test_lhotse_reads_the_librispeech_parts(extracted, transcripts):
    manifests = prepare_librispeech(extracted / "LibriSpeech", dataset_parts=list(PARTS))
    for part, (_, count, _) in PARTS.items():
        assert {s.id: s.text for s in manifests[part]["supervisions"]} == transcripts[part]
        recordings = list(manifests[part]["recordings"])
        assert len(recordings) == count
        assert {recording.sampling_rate for recording in recordings} == {16_000}
        assert all(2.0 < recording.duration < 6.0 for recording in recordings)


def test_lhotse_reads_yesno(extracted):
    manifests = prepare_yesno(extracted / "waves_yesno")
    assert {split: len(manifests[split]["recordings"]) for split in manifests} == {
        "train": 30,
        "test": 30,
    }
    for split in manifests.values():
        assert {recording.sampling_rate for recording in split["recordings"]} == {8_000}
        assert all(3.0 < recording.duration < 6.0 for recording in split["recordings"])
        assert {w for s in split["supervisions"] for w in s.text.split()} == {"YES", "NO"}


def test_no_recording_is_silent_or_clipped(extracted):
    for path in [*extracted.rglob("*.flac"), *extracted.rglob("*.wav")]:
        samples, _ = soundfile.read(path, dtype="float32")
        assert abs(samples).max() == pytest.approx(0.03, abs=1e-4), path
        assert 0.002 < (samples**2).mean() ** 0.5 < 0.01, path


def test_generator_writes_the_committed_yesno(tmp_path):
    try:
        installed = version("espeakng-loader")
    except PackageNotFoundError:
        pytest.skip("espeakng-loader is not installed; only regenerating the corpora needs it")
    if installed != "0.2.4":
        pytest.skip(f"the corpora were made with espeakng-loader 0.2.4, this is {installed}")
    pytest.importorskip("soxr", reason="soxr is not installed; the generator resamples with it")
    generator = [sys.executable, str(QUICKSTART / "generate.py"), "--only", "yesno"]
    subprocess.run([*generator, "--output", str(tmp_path)], check=True)
    # The tar inside: how gzip packs it depends on the zlib that Python was built with.
    made, committed = (gzip.decompress((f / YESNO).read_bytes()) for f in (tmp_path, QUICKSTART))
    assert made == committed


def test_the_configuration_pins_what_is_embedded():
    config = yaml.safe_load((QUICKSTART.parents[1] / "config" / "config.yaml").read_text())
    sources = [archive for corpus in config["corpora"].values() for archive in corpus["archives"].values()]
    sources += config["models"].values()
    assert len(sources) == 5
    for source in sources:
        file = QUICKSTART / source["url"].removeprefix("quickstart:")
        content = file.read_bytes()
        assert (source["bytes"], source["sha256"]) == (len(content), hashlib.sha256(content).hexdigest()), file.name


def test_the_base_model_is_small_and_harmless():
    assert (QUICKSTART / "base.nemo").stat().st_size <= 8_000_000
    check_nemo_archive(QUICKSTART / "base.nemo")
