"""Base models: a tokenizer and an untrained Conformer-CTC; and .nemo files that are the same for the same weights."""

from __future__ import annotations

import glob
import hashlib
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from nuptse.errors import UserError, write_atomically
from nuptse.jsonl import read_rows
from nuptse.model_kinds import check_kind

if TYPE_CHECKING:
    from nemo.collections.asr.models import ASRModel


class _Supervision(msgspec.Struct):
    text: str


class _Cut(msgspec.Struct):
    supervisions: list[_Supervision]


def read_transcripts(cuts: Path) -> Iterable[str]:
    """Yield the transcript of each cut in a manifest (``.jsonl.gz``)."""
    return (cut.supervisions[0].text for cut in read_rows(cuts, _Cut))


def train_tokenizer(transcripts: Iterable[str], vocab_size: int, folder: Path) -> int:
    """Train a SentencePiece BPE tokenizer in the form that NeMo reads; return its number of pieces.

    Writes ``tokenizer.model`` and ``vocab.txt``, which NeMo wants as well, to ``folder``.

    Args:
        transcripts: texts after the text profile; the tokenizer knows their characters and no others.
        vocab_size: pieces at most; short texts give fewer.
        folder: must exist.

    Raises:
        UserError: vocab_size is below the number of characters.
    """
    import sentencepiece

    texts, model = list(transcripts), io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,  # a file's path would become part of the model
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            num_threads=1,  # more than one may order equal pairs differently
            minloglevel=2,
        )
    except RuntimeError as error:
        characters = len(set("".join(texts)))
        raise UserError(
            f"no tokenizer of {vocab_size} pieces can be trained on {len(texts)} transcripts with {characters}"
            f" different characters: set tokenizer.vocab_size to {characters + 16} or more ({error})"
        ) from None
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [tokenizer.id_to_piece(index) for index in range(tokenizer.get_piece_size())]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces[1:]), encoding="utf-8")
    return len(pieces)


def model_config(architecture: Mapping[str, Any], tokenizer_dir: Path) -> dict[str, Any]:
    """Return NeMo's configuration of a Conformer-CTC.

    Args:
        architecture: the keys of ``from_scratch`` in the configuration.
        tokenizer_dir: output of ``train_tokenizer``.

    Source: examples/asr/conf/conformer/conformer_ctc_bpe.yaml of NeMo.
    """
    a = architecture
    augment = {"spec_augment": spec_augment_config(a["spec_augment"])} if a["spec_augment"] else {}
    return augment | {
        "sample_rate": a["sample_rate"],
        "log_prediction": False,
        "ctc_reduction": "mean_volume",
        "skip_nan_grad": False,
        "tokenizer": {"dir": str(tokenizer_dir), "type": "bpe"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": a["sample_rate"],
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": a["features"],
            "highfreq": a["highfreq"],
            "n_fft": 512,
            "log": True,
            "frame_splicing": 1,
            "dither": 1e-5,
            # Frames of a batch, a multiple of the subsampling: NeMo's stacking adds what lacks to the length of every
            # utterance, so that what is heard in one would depend on the longest of its batch.
            "pad_to": 16,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": a["features"],
            "feat_out": -1,
            "n_layers": a["n_layers"],
            "d_model": a["d_model"],
            "subsampling": a["subsampling"],
            "subsampling_factor": a["subsampling_factor"],
            "subsampling_conv_channels": a["d_model"],
            "ff_expansion_factor": 4,
            "self_attention_model": "rel_pos",
            "n_heads": a["n_heads"],
            "att_context_size": a["att_context_size"],
            "xscaling": True,
            "untie_biases": True,
            "pos_emb_max_len": 5000,
            "conv_kernel_size": a["conv_kernel_size"],
            "conv_norm_type": "batch_norm",
            "dropout": a["dropout"],
            "dropout_pre_encoder": a["dropout"],
            "dropout_emb": 0.0,
            "dropout_att": a["dropout"],
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": None,
            "num_classes": -1,
            "vocabulary": [],
        },
    }


def spec_augment_config(masks: Mapping[str, Any]) -> dict[str, Any]:
    """Return NeMo's configuration of SpecAugment."""
    return {"_target_": "nemo.collections.asr.modules.SpectrogramAugmentation", **masks}


def build_model(architecture: Mapping[str, Any], cuts: Iterable[Path], output: Path) -> str:
    """Train a tokenizer on the transcripts of ``cuts``, write an untrained model to ``output``; return a summary."""
    import lightning.pytorch as pl
    from nemo.collections.asr.models import EncDecCTCModelBPE
    from omegaconf import OmegaConf

    with _trained_tokenizer(architecture["tokenizer"], cuts) as (folder, learned):
        pl.seed_everything(architecture["seed"], verbose=False)
        model = EncDecCTCModelBPE(OmegaConf.create(model_config(architecture, folder)))
        return f"{_save_made(model, output)}, {learned}"


def adapt_model(base: Path, adaptation: Mapping[str, Any], cuts: Iterable[Path], output: Path) -> str:
    """Write a model like ``base``, but with a tokenizer of its own and an untrained decoder; return a summary.

    Args:
        base: a model with a tokenizer, .nemo.
        adaptation: ``tokenizer`` and ``seed`` of ``from_model`` in the configuration.
        cuts: whose transcripts the tokenizer learns from.
        output: .nemo.

    Raises:
        UserError: ``base`` writes letters without a tokenizer.
    """
    import lightning.pytorch as pl

    model = restore_model(base, map_location="cpu")
    if not hasattr(model, "tokenizer"):
        raise UserError(f"{base} writes letters without a tokenizer, so it cannot get another one: take another model")
    with _trained_tokenizer(adaptation["tokenizer"], cuts) as (folder, learned):
        pl.seed_everything(adaptation["seed"], verbose=False)
        model.change_vocabulary(str(folder), "bpe")
        return f"{_save_made(model, output)}, {learned}; all but the decoder from {base}"


@contextmanager
def _trained_tokenizer(settings: Mapping[str, Any], cuts: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Give a folder with a tokenizer, for the time of the ``with`` block, and a summary."""
    with tempfile.TemporaryDirectory() as folder:
        transcripts = [text for path in cuts for text in read_transcripts(path)]
        pieces = train_tokenizer(transcripts + settings["text"], settings["vocab_size"], Path(folder))
        yield Path(folder), f"{pieces} pieces from {len(transcripts)} transcripts"


def _save_made(model: ASRModel, output: Path) -> str:
    model.cfg.tokenizer.dir = "tokenizer"  # not the temporary folder, which the archive would remember
    save_nemo(model, output)
    return f"{output}: {sum(weight.numel() for weight in model.parameters()):,} parameters"


def restore_model(path: Path, **options: Any) -> ASRModel:
    """Return the model in a .nemo file; ``options`` are those of NeMo's ``restore_from``.

    Raises:
        UserError: the file is no NeMo speech recogniser, or one of another kind than CTC and RNN-T.
    """
    from nemo.collections.asr.models import ASRModel

    try:
        model = ASRModel.restore_from(str(path), **options)
    except (RuntimeError, OSError, KeyError, tarfile.TarError) as error:
        raise UserError(f"{path} cannot be read as a NeMo speech recogniser: {error}") from error
    check_kind(path, type(model).__name__)
    return model


def save_nemo(model: ASRModel, output: Path) -> None:
    """Write ``model`` to ``output``: whole or not at all, and byte for byte the same for the same weights.

    NeMo writes the tar in place, with the time of the day in every header and with artifacts named by random UUIDs.
    What a killed process left of an earlier attempt is deleted.
    """
    aside = f".nemo-{output.stem}-"  # others may be writing beside it
    for leftover in output.parent.glob(f"{glob.escape(aside)}????????"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=aside) as folder:
        plain = Path(folder, "model.nemo")
        model.save_to(str(plain))
        with (
            write_atomically(output) as partial,
            tarfile.open(plain, "r:*") as source,
            tarfile.open(partial, "w:") as target,
        ):
            repack(source, target)


def repack(source: tarfile.TarFile, target: tarfile.TarFile) -> None:
    """Copy a .nemo archive without times and owners, its artifacts named by their contents, members sorted by name."""
    files = {PurePosixPath(member.name).name: member for member in source.getmembers() if member.isfile()}
    names = {}
    for name, member in files.items():
        artifact = re.fullmatch(r"[0-9a-f]{32}_(.+)", name)
        if artifact:
            names[name] = f"{hashlib.sha256(_content(source, member)).hexdigest()[:32]}_{artifact[1]}"
    for name in sorted(files, key=lambda name: names.get(name, name)):
        header = tarfile.TarInfo(f"./{names.get(name, name)}")
        if name == "model_config.yaml":
            content = _content(source, files[name])
            for old, new in names.items():
                content = content.replace(old.encode(), new.encode())
            header.size = len(content)
            target.addfile(header, io.BytesIO(content))
        else:
            header.size = files[name].size
            target.addfile(header, source.extractfile(files[name]))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return file.read()
