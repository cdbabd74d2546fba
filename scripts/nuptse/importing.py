"""From the rows of any source of a corpus to recordings and supervisions, one pair of files for each part.

Whatever the source, the rules are the same: ids that depend neither on the order of rows nor on where the corpus lies,
audio whose header can be read, and an account in which every row is either a supervision or left out with a reason.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from nuptse.converting import Converter, Policy, Sound
from nuptse.errors import UserError
from nuptse.import_ledger import Account, as_text, size_of
from nuptse.import_tables import ImportTables, Kept, LookedAt, as_key, as_name
from nuptse.jsonl import row_writer
from nuptse.utterances import ORIGINAL, Rejected, Row, Unused, Utterance, portable, utterance_id

# A row of a whole file may state a duration that was rounded this much.
ROUNDING_S = 0.05
SHOWN = 3
BEHIND = "it begins behind the end of its audio"
# Audio files that are looked at before we ask whether they kept us waiting: one by one, and those of a thread.
FEW, MANY = 8, 64
# A file. Of a local disk a header is read in a tenth of this time; over a network that takes longer.
PATIENCE_S = 0.00025
# Line breaks, tabs and plain spaces: a step such as `keep` would join the words of two lines. Not the spaces of
# typography, by which `numbers` knows the groups of a number.
_BREAKS = re.compile(r"[ \t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")
_encode = msgspec.json.Encoder().encode


def import_rows(
    rows: Iterable[Row],
    tables: ImportTables,
    converter: Converter,
    account: Account,
    output_dir: Path,
    threads: int,
    exclude: bool,
) -> None:
    """Write ``<part>_recordings``, ``<part>_supervisions`` and ``<part>_rejected`` (``.jsonl.gz``), sorted by id.

    Args:
        rows: of the source.
        tables: empty; are filled in.
        converter: for audio that cannot be used as it is.
        account: is filled in.
        output_dir: must exist.
        threads: audio files that are looked at, or converted, at a time.
        exclude: leave out utterances whose audio cannot be used, instead of raising.

    Raises:
        UserError: two rows have one id, an audio file cannot be used, or nothing is left.
    """
    if not tables.add(_utterances(rows, tables, account)):
        raise UserError(_nothing(tables, account))
    tables.name_recordings()
    tables.add_sounds(_sounds(tables.recordings(), converter, threads))
    if not exclude and tables.bad_audio(1)[0]:
        raise UserError(
            f"{_bad_audio(tables, account.corpus)}; mend them, or set `corpora.{account.corpus}.on_bad_audio: exclude`"
            " to leave them out"
        )
    if not tables.keep(_kept(tables, converter.policy)):
        raise UserError(_nothing(tables, account))
    _write(tables, account, output_dir)


def _utterances(rows: Iterable[Row], tables: ImportTables, account: Account) -> Iterator[Utterance]:
    """Yield the utterances; count the rows, and reject what the source left out."""
    for row in rows:
        own = account.parts.get(row.part) or account.part(check_part(row.part))
        if isinstance(row, Unused):
            own.unused_recordings += row.recordings
            continue
        own.rows += 1
        if isinstance(row, Rejected):
            tables.reject(row)
            continue
        if "pipe:" in row.audio:
            raise UserError(
                f"{row.place}: the audio is {as_text(row.audio)}; NeMo would run what follows `pipe:` as a shell"
                " command: rename the file"
            )
        yield row if (text := _one_line(row.text)) == row.text else replace(row, text=text)


def _one_line(text: str) -> str:
    # The question costs a tenth of the substitution, and most texts are as they shall be.
    if "  " in text or not text.isprintable():
        text = _BREAKS.sub(" ", text)
    return text.strip()


def _kept(tables: ImportTables, policy: Policy) -> Iterator[Kept]:
    """Yield what is kept of each row; reject the others."""
    for number, row, first, recording, found in tables.joined():
        sound = None if isinstance(found, str) else _channel_of(row, found, policy)
        whole = sound is not None and _is_whole(row, sound)
        identity = utterance_id(row, recording, whole)
        reason = found if isinstance(found, str) else _misfit(row, found, policy)
        if sound is None or reason:
            tables.reject(Rejected(row.part, identity, row.audio, reason, row.seconds))
            continue
        own = recording if sound.channel is None else f"{recording}-c{sound.channel}"
        end = sound.header.duration if whole or row.end is None else row.end
        seconds = round(end - row.start, 8)
        supervision = _supervision(identity, row, seconds, own)
        if sound.channel is not None:
            supervision["custom"] = {**(supervision.get("custom") or {}), ORIGINAL: recording}
        yield Kept(
            number, as_key(identity), row.part, seconds, as_key(own), first, sound.channel or 0, _encode(supervision)
        )


def _nothing(tables: ImportTables, account: Account) -> str:
    reasons = tables.reasons()
    why = "; ".join(f"left out, {reason}: {count}" for reason, count in islice(reasons.items(), SHOWN))
    more = f"; and {len(reasons) - SHOWN} more reasons" if len(reasons) > SHOWN else ""
    hint = ": are its times in seconds?" if BEHIND in reasons else ""
    bad = f"; {_bad_audio(tables, account.corpus)}" if tables.bad_audio(1)[0] else ""
    source = f"`corpora.{account.corpus}.{account.source}`"
    return f"{source} holds no utterance{f' ({why}{more})' if why else ''}{hint}{bad}"


def check_part(name: str) -> str:
    """Return the name of a part, which is also that of a file.

    Raises:
        UserError: it cannot be one.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name or len(name.encode(errors="replace")) > 200:
        raise UserError(f"{name!r} cannot be the name of a part: it becomes the name of a file")
    return name


# --- rows with one id ---


def _same(row: Utterance, other: Utterance) -> bool:
    fields = ("part", "audio", "text", "start", "end", "channel", "speaker", "language", "extra")
    return all(getattr(row, name) == getattr(other, name) for name in fields)


def _twice(identity: str, row: Utterance, other: Utterance) -> str:
    fields = ("part", "audio", "text", "speaker", "language", "start", "end", "channel", "extra")
    name = next(name for name in fields if getattr(row, name) != getattr(other, name))
    before, after = as_text(getattr(other, name)), as_text(getattr(row, name))
    return (
        f"{row.place}: the utterance {as_text(identity)} stands in {other.place} too, with another {name} ({before}"
        f" there, {after} here): remove one, or give each an id of its own"
    )


# --- audio ---


def _sounds(recordings: Iterable[tuple[int, str, str]], converter: Converter, threads: int) -> Iterator[LookedAt]:
    """Yield what becomes of each audio file.

    Threads are enough: reading and converting leave Python's lock. Where reading takes no time, as on a local disk,
    they would do little but wake each other for that lock: so we look at files by ourselves until some keep us waiting.
    """

    def look(recording: tuple[int, str, str]) -> LookedAt:
        first, identity, audio = recording
        return first, size_of(audio), converter.sounds(identity, audio)

    remaining, waited = iter(recordings), False
    with ThreadPoolExecutor(threads) as pool:
        while lot := list(islice(remaining, MANY * threads if waited else FEW)):
            began = time.monotonic()
            yield from pool.map(look, lot) if waited else map(look, lot)
            waited = time.monotonic() - began > PATIENCE_S * len(lot)


def _bad_audio(tables: ImportTables, corpus: str) -> str:
    count, first = tables.bad_audio(SHOWN)
    shown = "; ".join(f"{place}: {as_text(audio)}: {reason}" for place, audio, reason in first)
    more = f"; and {count - SHOWN} more" if count > SHOWN else ""
    return f"{count} audio files of `corpora.{corpus}` cannot be used: {shown}{more}"


def _channel_of(row: Utterance, found: Sequence[Sound], policy: Policy) -> Sound:
    """Return the sound that a row belongs to: the only one, or that of its channel."""
    if policy.channels != "split":
        return found[0]
    if row.channel is None and len(found) == 1:
        return found[0]
    if row.channel is None:
        raise UserError(
            f"{row.place}: {as_text(row.audio)} is split into {len(found)} channels, but the row has no channel: name"
            " one"
        )
    if row.channel >= len(found):
        raise UserError(f"{row.place}: the channel is {row.channel}, but {as_text(row.audio)} has only {len(found)}")
    return found[row.channel]


def _misfit(row: Utterance, found: Sequence[Sound], policy: Policy) -> str:
    """Return why a row is left out although its audio can be used, or ""."""
    if isinstance(policy.channels, int) and row.channel not in (None, policy.channels):
        return f"it is not on channel {policy.channels}"
    return BEHIND if row.start >= found[0].header.duration else ""


def _is_whole(row: Utterance, sound: Sound) -> bool:
    return not row.start and (row.end is None or abs(row.end - sound.header.duration) <= ROUNDING_S)


# --- output ---


def _write(tables: ImportTables, account: Account, output_dir: Path) -> None:
    with _writers(account, output_dir, "supervisions") as writers:
        for identity, rows in groupby(tables.kept(), itemgetter(0)):
            (_, owner, part, seconds, supervision), *doubles = rows
            writers[part](msgspec.Raw(supervision))
            own = account.parts[part]
            own.supervisions += 1
            own.seconds += seconds
            for _, number, _, seconds, _ in doubles:
                row, other = tables.row(number), tables.row(owner)
                if not _same(row, other):
                    raise UserError(_twice(as_name(identity), row, other))
                tables.reject(Rejected(part, as_name(identity), row.audio, "a row that stands there twice", seconds))
    here = os.path.join(os.getcwd(), "")
    with _writers(account, output_dir, "recordings") as writers:
        last: tuple[str, int] | None = None
        for identity, part, first, sound in tables.used():
            if last and last[0] == identity and last[1] != first:
                row, other = tables.row(first), tables.row(last[1])
                raise UserError(
                    f"{row.place}: the recording {as_text(identity)} is {as_text(row.audio)} or a channel of it, but"
                    f" {as_text(other.audio)} in {other.place}, or a channel of that, has this id as well: rename one"
                )
            last = identity, first
            writers[part](_recording(identity, sound, here))
            own = account.parts[part]
            own.recordings += 1
            own.recording_seconds += sound.header.duration
    with _writers(account, output_dir, "rejected") as writers:
        for left in tables.rejected():
            writers[left.part](_rejected(left))
            account.parts[left.part].leave_out(left.reason, left.seconds)


@contextmanager
def _writers(account: Account, output_dir: Path, kind: str) -> Iterator[dict[str, Callable[[Any], Any]]]:
    """Give what writes a row of each part."""
    with ExitStack() as files:
        yield {part: files.enter_context(row_writer(output_dir / f"{part}_{kind}.jsonl.gz")) for part in account.parts}


def _recording(identity: str, sound: Sound, here: str) -> dict[str, Any]:
    """Return a recording of one channel in Lhotse's JSON form."""
    header = sound.header
    return {
        "id": identity,
        "sources": [{"type": "file", "channels": [0], "source": portable(sound.path, here)}],
        "sampling_rate": header.sampling_rate,
        "num_samples": header.num_samples,
        "duration": header.duration,
        "channel_ids": [0],
    }


def _supervision(identity: str, row: Utterance, seconds: float, recording: str) -> dict[str, Any]:
    known = {"language": row.language, "speaker": row.speaker}
    return {
        **(row.extra or {}),
        "id": identity,
        "recording_id": recording,
        "start": row.start,
        "duration": seconds,
        "channel": 0,
        "text": row.text,
        **{key: value for key, value in known.items() if value},
    }


def _rejected(row: Rejected) -> dict[str, Any]:
    return {"id": as_text(row.id), "audio": as_text(row.audio), "reason": row.reason, "seconds": row.seconds}
