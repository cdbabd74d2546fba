"""The same weights give the same bytes, under names that their contents decide."""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from transducers import ARCHITECTURE

from nuptse.errors import UserError
from nuptse.models import adapt_model, repack, save_nemo, train_tokenizer

BASE = Path(__file__).parents[2] / "resources/quickstart/base.nemo"
UUIDS = "0" * 32, "f" * 32


def nemo(uuid, mtime, order=1):
    files = {
        "model_config.yaml": f"tokenizer:\n  model_path: nemo:{uuid}_tokenizer.model\n".encode(),
        "model_weights.ckpt": b"weights",
        f"{uuid}_tokenizer.model": b"pieces",
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in sorted(files)[::order]:
            header = tarfile.TarInfo(f"./{name}")
            header.size, header.mtime, header.uname = len(files[name]), mtime, "somebody"
            archive.addfile(header, io.BytesIO(files[name]))
    return stream.getvalue()


def repacked(content):
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as source, tarfile.open(fileobj=target, mode="w") as archive:
        repack(source, archive)
    return target.getvalue()


def test_times_owners_order_and_random_names_leave_no_trace():
    assert repacked(nemo(UUIDS[0], 1)) == repacked(nemo(UUIDS[1], 2, -1))


def test_the_configuration_points_to_the_renamed_artifact():
    with tarfile.open(fileobj=io.BytesIO(repacked(nemo(UUIDS[0], 1)))) as archive:
        names = [member.name for member in archive]
        (artifact,) = [name for name in names if name.endswith("_tokenizer.model")]
        config = archive.extractfile("./model_config.yaml").read().decode()
        assert f"nemo:{artifact.removeprefix('./')}" in config
        assert archive.extractfile(artifact).read() == b"pieces"
        assert archive.extractfile("./model_weights.ckpt").read() == b"weights"


def test_repacking_twice_changes_nothing():
    once = repacked(nemo(UUIDS[0], 1))
    assert repacked(once) == once


def test_what_a_killed_process_left_of_a_model_is_removed(tmp_path):
    model = SimpleNamespace(save_to=lambda path: Path(path).write_bytes(nemo(UUIDS[0], 1)))
    for name in ("x", "x-y"):
        left = Path(tempfile.mkdtemp(dir=tmp_path, prefix=f".nemo-{name}-"))
        (left / "model.nemo").write_bytes(b"half")
    save_nemo(model, tmp_path / "x.nemo")
    assert sorted(path.name for path in tmp_path.iterdir()) == [left.name, "x.nemo"], "x-y may still be at work"


COMPILE = """
from cuda.pathfinder import load_nvidia_dynamic_lib
from nemo.collections.asr.parts.numba.rnnt_loss.utils.cuda_utils.gpu_rnnt_kernel import compute_alphas_kernel
from numba import cuda, float32, int64

floats, ints = float32[:], int64[:]
arguments = (*[floats] * 4, ints, ints, int64[:, :], *[int64] * 5)
print(cuda.compile_ptx(compute_alphas_kernel.py_func, arguments, cc=(8, 0))[0])
print(load_nvidia_dynamic_lib("nvvm").abs_path)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="CUDA")
def test_nemos_loss_of_a_transducer_is_compiled_for_a_gpu_by_what_is_pinned():
    """NeMo does not require numba-cuda; without it the loss needs a CUDA toolkit, which GPU machines need not have."""
    bare = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"]}
    ptx, _, nvvm = (
        subprocess.check_output([sys.executable, "-c", COMPILE], env=bare, text=True).strip().rpartition("\n")
    )
    assert ".target sm_80" in ptx
    assert Path(nvvm).is_relative_to(sys.prefix)


@pytest.mark.slow
def test_a_model_from_scratch_is_restored_by_nemo(tmp_path):
    from nuptse.jsonl import write_rows
    from nuptse.models import build_model
    from nuptse.runtime import prepare_runtime

    prepare_runtime()
    from nemo.collections.asr.models import ASRModel

    cuts = tmp_path / "cuts.jsonl.gz"
    write_rows(cuts, ({"supervisions": [{"text": "the quick brown fox jumps over the lazy dog"}]} for _ in range(20)))
    architecture = ARCHITECTURE | {
        "tokenizer": {"vocab_size": 48, "text": ["zebra 7"]},
        "d_model": 16,
        "n_layers": 1,
        "spec_augment": {"freq_masks": 1, "freq_width": 5, "time_masks": 1, "time_width": 0.05},
    }
    first, second = tmp_path / "a.nemo", tmp_path / "b.nemo"
    assert "parameters" in build_model(architecture, [cuts], first)
    build_model(architecture, [cuts], second)
    assert first.read_bytes() == second.read_bytes()
    model = ASRModel.restore_from(str(first), map_location="cpu")
    assert model.tokenizer.unk_id not in model.tokenizer.text_to_ids("fox 7")
    assert model.spec_augmentation is not None
    assert model.cfg.preprocessor.highfreq == 4000


TEXTS = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"]


def test_nemo_files_of_the_tokenizer(tmp_path):
    pieces = train_tokenizer(TEXTS * 20, 64, tmp_path)
    assert len((tmp_path / "vocab.txt").read_text().splitlines()) == pieces - 1, "all pieces but <unk>"
    again = tmp_path / "again"
    again.mkdir()
    train_tokenizer(TEXTS * 20, 64, again)
    assert (again / "tokenizer.model").read_bytes() == (tmp_path / "tokenizer.model").read_bytes()


def test_too_few_pieces_name_the_setting(tmp_path):
    with pytest.raises(UserError, match="different characters: set tokenizer.vocab_size to"):
        train_tokenizer(TEXTS, 16, tmp_path)


@pytest.mark.slow
def test_another_tokenizer_keeps_all_weights_but_those_of_the_decoder(tmp_path):
    from nuptse.base_model import read_base_model
    from nuptse.jsonl import write_rows
    from nuptse.runtime import prepare_runtime

    prepare_runtime()
    from nemo.collections.asr.models import ASRModel

    cuts = tmp_path / "cuts.jsonl.gz"
    write_rows(
        cuts, ({"supervisions": [{"text": "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich"}]} for _ in "ab")
    )
    adaptation = {"tokenizer": {"vocab_size": 64, "text": ["ß"]}, "seed": 0}
    first, second = tmp_path / "a.nemo", tmp_path / "b.nemo"
    assert "pieces from 2 transcripts; all but the decoder from" in adapt_model(BASE, adaptation, [cuts], first)
    adapt_model(BASE, adaptation, [cuts], second)
    assert first.read_bytes() == second.read_bytes()
    assert tmp_path.name.encode() not in first.read_bytes(), "no path of this machine"
    tokenizer = read_base_model(first).tokenizer
    assert set("Zwölfß") <= set("".join(tokenizer.vocabulary))
    before, after = (ASRModel.restore_from(str(path), map_location="cpu") for path in (BASE, first))
    assert after.tokenizer.ids_to_text(after.tokenizer.text_to_ids("Zwölf Deiche")) == "Zwölf Deiche"
    old, new = before.state_dict(), after.state_dict()
    differ = {name for name in old if old[name].shape != new[name].shape or not old[name].equal(new[name])}
    assert differ == {name for name in old if name.startswith("decoder.")}
    assert after.decoder.num_classes_with_blank == after.tokenizer.vocab_size + 1


def test_a_model_without_a_tokenizer_cannot_get_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr("nuptse.models.restore_model", lambda path, **options: object())
    with pytest.raises(UserError, match="writes letters without a tokenizer"):
        adapt_model(BASE, {}, [], tmp_path / "a.nemo")
