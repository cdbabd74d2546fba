"""What must hold before a training starts, because NeMo would train on it without a word.

NeMo drops an utterance whose audio is missing from its batch, and trains on `<unk>` where a transcript has characters
that the tokenizer does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from nuptse.errors import UserError
from nuptse.jsonl import read_rows
from nuptse.shard_ledger import check_shards

# Above this share of unknown characters a corpus is refused; below it the log names them.
UNKNOWN_LIMIT = 0.05


class _Source(msgspec.Struct):
    source: str


class _Recording(msgspec.Struct):
    sources: list[_Source]


class _Supervision(msgspec.Struct):
    text: str


class _Cut(msgspec.Struct):
    recording: _Recording
    supervisions: list[_Supervision]


class _Row(msgspec.Struct):
    audio_filepath: str
    text: str


def read_utterances(data: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (transcript, audio file) of each utterance in cuts, a NeMo manifest or the shards of a ledger.

    The audio file is None for what lies in a shard.
    """
    if data.name == "ledger.json":
        yield from ((row.text, None) for row in read_rows(data.with_name("tarred_audio_manifest.json"), _Row))
    elif data.suffix == ".gz":
        yield from ((cut.supervisions[0].text, cut.recording.sources[0].source) for cut in read_rows(data, _Cut))
    else:
        yield from ((row.text, row.audio_filepath) for row in read_rows(data, _Row))


def check_data(name: str, data: Path, tokenizer: Any) -> str:
    """Check one corpus and split against the disk and the tokenizer; return a line for the log.

    Args:
        name: ``corpus/split``.
        data: its cuts (``.jsonl.gz``), NeMo manifest (``.json``) or shard ledger (``ledger.json``).
        tokenizer: of NeMo.

    Raises:
        UserError: audio is missing, a shard is not as its ledger says, or the tokenizer does not know the transcripts.
    """
    if data.name == "ledger.json":
        check_shards(data)
    texts, missing = [], []
    for text, audio in read_utterances(data):
        texts.append(text)
        if audio is not None and not Path(audio).is_file():
            missing.append(audio)
    if missing:
        raise UserError(
            f"{name}: {len(missing)} of {len(texts)} audio files in {data} are missing, such as"
            f" {', '.join(missing[:3])}; put them back, or delete the corpus below data/ to have it made again"
        )
    unknown = unknown_characters(texts, tokenizer)
    characters = sum(len(text) - text.count(" ") for text in texts)
    share = sum(unknown.values()) / max(1, characters)
    named = " ".join(repr(character) for character, _ in unknown.most_common(10))
    if share > UNKNOWN_LIMIT:
        raise UserError(
            f"{name}: the tokenizer of the base model does not know {share:.0%} of the characters of the transcripts"
            f" ({named}): it would learn to write nothing there; {_remedy(texts, tokenizer, share)}"
        )
    return f"{name}: {len(texts)} utterances, unknown to the tokenizer: {share:.2%}" + (f" ({named})" if named else "")


def unknown_characters(texts: Iterable[str], tokenizer: Any) -> Counter[str]:
    """Count the characters of ``texts`` that become ``<unk>``."""
    counts = Counter("".join(texts))
    counts.pop(" ", None)
    unknown = getattr(tokenizer, "unk_id", None)
    return Counter({char: count for char, count in counts.items() if unknown in tokenizer.text_to_ids(char)})


def _remedy(texts: list[str], tokenizer: Any, share: float) -> str:
    for step in ("lower", "upper"):
        changed = [getattr(text, step)() for text in texts]
        left = sum(unknown_characters(changed, tokenizer).values()) / max(1, sum(map(len, changed)))
        if left < share / 2:
            return f"add `{step}` to the `text` profile of the corpus (that leaves {left:.0%})"
    return "change the `text` profile of the corpus, or take another model"
