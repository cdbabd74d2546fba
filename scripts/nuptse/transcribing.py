"""Texts that a NeMo model hears in a set of utterances: batched, resumable, every utterance accounted for.

The texts are those that NeMo counts for ``val_wer``: the model's own forward pass and its own decoding, on audio that
Lhotse reads as it does for a validation. Unlike there, audio that cannot be read is an error and never left out.

The same batches give the same texts as there. Other batches may differ in a last word: NeMo's ``StackingSubsampling``
adds the padding of a batch's longest utterance to the length of all. A preprocessor with ``pad_to: 16`` prevents it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import torch
from lhotse import MonoCut, MultiCut
from lhotse.audio import AudioLoadingError, DurationMismatchError
from lhotse.serialization import deserialize_item
from nemo.collections.asr.models import ASRModel

from nuptse.cutsets import nemo_rows
from nuptse.decoding import decoding_files
from nuptse.errors import UserError, announce, say, sha256_of, write_atomically
from nuptse.gpus import gpu
from nuptse.jsonl import read_rows, write_rows
from nuptse.recogniser import hear, load_model, set_decoding
from nuptse.runtime import describe_device, prepare_device, versions

PROGRESS_S = 10.0

Cut: TypeAlias = MonoCut | MultiCut


@dataclass(frozen=True)
class Task:
    """One set of utterances: its cuts (``.jsonl.gz``), the transcripts that come out, and supervisions of each cut."""

    cuts: Path
    transcripts: Path
    supervisions: int = 1

    @property
    def timing(self) -> Path:
        """How long it took; beside the transcripts."""
        return self.transcripts.with_suffix(".json")

    @property
    def partial(self) -> Path:
        """What is done so far; stays behind when a run is killed."""
        return self.transcripts.with_name(f"{self.transcripts.name}.part")


class Done(msgspec.Struct):
    """One batch that is done.

    Attributes:
        seconds: time for reading its audio, the forward pass and decoding.
        texts: hypothesis of each utterance, by id.
    """

    seconds: float
    texts: dict[str, str]


def transcribe(
    model_path: Path,
    tasks: Sequence[Task],
    *,
    threads: int,
    batch_duration: float,
    decoding: Mapping[str, Any],
    publish: Publish | None = None,
) -> None:
    """Write the transcripts of every task, with one model that is restored once.

    A run that was killed leaves ``<transcripts>.part``; the next one with the same model, cuts and options goes on
    there and gives the same transcripts byte for byte.

    Args:
        model_path: a CTC or RNN-T model, .nemo; of a hybrid model the RNN-T decoder is used.
        tasks: each with cuts of one recording, of any sampling rate; several channels are averaged.
        threads: CPU threads, for reading audio and for a model that runs on the CPU.
        batch_duration: audio of a batch (s), padding counted; a longer utterance is a batch by itself.
        decoding: options merged over the model's own, such as ``{"strategy": "greedy_batch"}``.
        publish: writes what comes out of a task; if None, ``publish_utterances``.

    Raises:
        UserError: no such model, an option that it does not know, audio that cannot be read, or too large a batch.
    """
    torch.set_num_threads(threads)
    sets = {
        task: read_cuts(task.cuts, task.supervisions) for task in tasks
    }  # mistakes here show before the model is read
    with gpu("auto") as where:
        device = torch.device("cuda", where["devices"][0]) if where["accelerator"] == "gpu" else torch.device("cpu")
        model = load_model(model_path, device)
        prepare_device(device.type)
        if decoding:
            set_decoding(model, decoding)
        settings = describe_device(device) | {"threads": threads, "batch_duration": batch_duration}
        say(f"{model_path}: " + ", ".join(f"{key} {value}" for key, value in settings.items()))
        # All that decides a text, rounding included.
        files = {key: sha256_of(path) for key, path in decoding_files(decoding).items()}
        run = {"model": sha256_of(model_path), "decoding": dict(decoding), "files": files} | settings
        run["versions"] = versions()
        for task, cuts in sets.items():
            batches = make_batches(cuts, batch_duration)
            done = list(transcribe_batches(model, task, batches, threads, run | {"cuts": sha256_of(task.cuts)}))
            texts = {name: text for batch in done for name, text in batch.texts.items()}
            seconds, audio_s = sum(batch.seconds for batch in done), sum(cut.duration for cut in cuts)
            (publish or publish_utterances)(task, cuts, texts, seconds, settings)
            say(
                f"{task.cuts}: {len(cuts)} utterances, {audio_s / 3600:.3f} h in; {len(texts)} out;"
                f" dropped {len(cuts) - len(texts)}; {seconds:.1f} s, RTF {seconds / audio_s:.4f}"
            )
    for task in tasks:  # only now: a run that is killed in a later set has nothing to do again
        task.partial.unlink(missing_ok=True)


# --- input ---


def read_cuts(path: Path, supervisions: int = 1) -> list[Cut]:
    """Return the cuts of a manifest.

    Raises:
        UserError: there are none, an id stands there twice, or a cut is not of one recording with so many supervisions.
    """
    cuts = [deserialize_item(row) for row in read_rows(path, dict)]
    for cut in cuts:
        if not isinstance(cut, Cut) or not cut.has_recording or len(cut.supervisions) != supervisions:
            raise UserError(f"{path}: {cut.id} is no cut of one recording with supervisions: {supervisions}")
    if not cuts:
        raise UserError(f"{path} holds no utterance")
    if len({cut.id for cut in cuts}) < len(cuts):
        raise UserError(f"{path}: ids must be unique, but an id stands there twice")
    return cuts


def make_batches(cuts: Iterable[Cut], batch_duration: float) -> list[list[Cut]]:
    """Return batches of at most ``batch_duration`` seconds with padding; the longest first, to fail early."""
    batches: list[list[Cut]] = []
    for cut in sorted(cuts, key=lambda cut: (-cut.duration, cut.id)):
        if batches and batches[-1][0].duration * (len(batches[-1]) + 1) <= batch_duration:
            batches[-1].append(cut)
        else:
            batches.append([cut])
    return batches


def load_audio(cut: Cut, sampling_rate: int) -> torch.Tensor:
    """Return the samples of a cut, float32 of shape (T,), resampled by Lhotse as in NeMo's loader, channels averaged.

    Raises:
        UserError: its file cannot be read or ends too early.
    """
    try:
        return torch.from_numpy(cut.resample(sampling_rate).load_audio().mean(axis=0))
    except (AudioLoadingError, DurationMismatchError, OSError, RuntimeError, ValueError) as error:
        path = cut.recording.sources[0].source
        lines = ["it is missing"] if not Path(path).exists() else str(error).splitlines()
        reason = next((line for line in lines if line.startswith("Exception #0")), lines[0])
        raise UserError(f"utterance {cut.id}: cannot read {path}: {reason}") from error


def load_ahead(
    batches: Iterable[list[Cut]], sampling_rate: int, threads: int
) -> Iterator[tuple[list[Cut], list[torch.Tensor]]]:
    """Yield each batch with its audio; the next one is read meanwhile."""
    with ThreadPoolExecutor(threads) as pool:
        reading = ((batch, [pool.submit(load_audio, cut, sampling_rate) for cut in batch]) for batch in batches)
        for (batch, audio), _ in pairwise(chain(reading, [([], [])])):
            yield batch, [samples.result() for samples in audio]


def transcribe_batches(
    model: ASRModel, task: Task, batches: Sequence[list[Cut]], threads: int, run: Mapping[str, Any]
) -> Iterator[Done]:
    """Yield every batch, in order: what ``task.partial`` holds of the same run, then the rest, which is added there."""
    found = read_partial(task.partial, run)
    yield from found
    count, total = sum(len(done.texts) for done in found), sum(map(len, batches))
    if found:
        say(f"{task.cuts}: {count} of {total} utterances were done before")
    heard, last = 0.0, time.monotonic()
    began = said = last
    with open_partial(task.partial, run, found) as file:
        rate = model.cfg.preprocessor.sample_rate
        for batch, audio in load_ahead(batches[len(found) :], rate, threads):
            try:
                texts = hear(model, audio)
            except torch.OutOfMemoryError as error:
                size = len(batch) * batch[0].duration
                raise UserError(f"a batch of {size:.0f} s is too large for the GPU: lower --batch-duration") from error
            before, last = last, time.monotonic()
            done = Done(round(last - before, 6), dict(zip([cut.id for cut in batch], texts, strict=True)))
            file.write(_encode(done))
            file.flush()
            yield done
            count += len(batch)
            heard += sum(cut.duration for cut in batch)
            if last - said >= PROGRESS_S:
                said = last
                announce(
                    f"{task.cuts}: {count} of {total} utterances, {heard / 3600:.3f} h of audio now,"
                    f" {heard / (last - began):.1f} x real time"
                )


# --- what is done ---


def read_partial(path: Path, run: Mapping[str, Any]) -> list[Done]:
    """Return the batches of an earlier run with the same header, without one that was cut short."""
    if not path.exists():
        return []
    header, *lines = path.read_bytes().splitlines(keepends=True) or [b""]
    if header != _encode(run):
        return []
    done = []
    for line in lines:
        try:
            done.append(msgspec.json.decode(line, type=Done))
        except msgspec.DecodeError:
            break
    return done


def open_partial(path: Path, run: Mapping[str, Any], done: Iterable[Done]) -> BinaryIO:
    """Return the file of what is done, to add to; it starts with the header and the batches of ``read_partial``."""
    with write_atomically(path) as new, new.open("wb") as file:
        file.writelines(map(_encode, [run, *done]))
    return path.open("ab")


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


Publish = Callable[[Task, Sequence[Cut], Mapping[str, str], float, Mapping[str, Any]], None]


def publish_utterances(
    task: Task, cuts: Sequence[Cut], texts: Mapping[str, str], seconds: float, settings: Mapping[str, Any]
) -> None:
    """Write a transcript for each cut, sorted by id, and the timing.

    Args:
        texts: hypothesis of each cut, by id.
        seconds: time it took, without loading the model.
        settings: part of the timing.
    """
    speakers = {cut.id: cut.supervisions[0].speaker for cut in cuts}
    rows = sorted(nemo_rows(task.cuts), key=itemgetter("id"))
    write_rows(task.transcripts, (transcript(row, speakers, texts) for row in rows))
    audio_s = sum(cut.duration for cut in cuts)
    timing = {"seconds": round(seconds, 3), "audio_seconds": round(audio_s, 3), "rtf": round(seconds / audio_s, 6)}
    with write_atomically(task.timing) as path:
        path.write_text(json.dumps(timing | dict(settings), indent=1) + "\n")


def transcript(row: Mapping[str, Any], speakers: Mapping[str, str | None], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of ``manifests.nemo_rows`` with the speaker, if known, and ``pred_text``."""
    known = {key: row[key] for key in row if key != "sampling_rate"}
    speaker = {"speaker": name} if (name := speakers[row["id"]]) else {}
    return known | speaker | {"pred_text": texts[row["id"]]}
