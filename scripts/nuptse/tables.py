"""A table of utterances, CSV or TSV, as rows of an import.

Python's own reader, not pandas: it knows the line of each row, and turns nothing into numbers or "NaN" ("007", "NA").
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuptse.errors import UserError
from nuptse.utterances import AudioNames, Utterance

COLUMNS = ("path", "text", "id", "speaker", "language", "split", "start", "end", "duration", "channel")
REQUIRED = ("path", "text")
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
# Start and duration may differ from an end that is given as well by this much.
ROUNDING_S = 0.01
# Four months: nobody records for longer, and times in ns are above.
LONGEST_S = 1e7
_QUOTES = "if the double quotes of this table are part of its text, set `quotes: false`"


def table_rows(
    file: Path, options: Mapping[str, Any], root: Path, part: str | None, names: AudioNames
) -> Iterator[Utterance]:
    """Yield the rows of a table.

    Args:
        file: UTF-8, with or without byte order mark, with any line ends; its first row names the columns.
        options: ``columns`` (our name to that of the table; null: not used), ``delimiter``, ``quotes``.
        root: folder that relative audio paths start from.
        part: of all rows; None: as the column ``split`` says, or ``all`` without one.
        names: of the audio.

    Raises:
        UserError: a column is missing, or a row cannot be used; names file and line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from _rows(_Reader(file, stream, options), options.get("columns", {}), root, part, names)
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error}): save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error


class _Reader:
    """The rows of a table with the lines that they begin at."""

    def __init__(self, file: Path, stream: Any, options: Mapping[str, Any]) -> None:
        self.file = file
        first = stream.readline()
        stream.seek(0)
        self.delimiter = options.get("delimiter") or _delimiter(file, first)
        quotes = options.get("quotes", True)
        self._rows = csv.reader(
            stream,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
            strict=True,
        )
        self.line = 1

    def __iter__(self) -> Iterator[list[str]]:
        last = 0
        try:
            for row in self._rows:
                self.line, last = last + 1, self._rows.line_num
                if last > self.line and self._swallows_rows(row):
                    raise UserError(
                        f"{self.place()}: double quotes make one cell of lines that would be rows of their own, up to"
                        f" line {last}; {_QUOTES}; if not, write the text of that cell in one line"
                    )
                if row:  # an empty line is no row
                    yield row
        except csv.Error as error:
            raise UserError(f"{self.file}, line {self._rows.line_num}: {error}; {_QUOTES}") from None

    def _swallows_rows(self, row: list[str]) -> bool:
        """Return whether each line of a cell would have as many cells as the row, were double quotes plain text.

        So it looks where a stray quote begins a cell, and another one some rows later ends it.
        """
        for index, cell in enumerate(row):
            first, *others = cell.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            lines = [first, *filter(None, others[:-1]), *others[-1:]]
            cells = [line.count(self.delimiter) + 1 for line in lines]
            cells[0] += index
            cells[-1] += len(row) - 1 - index
            if len(cells) > 1 and set(cells) == {len(row)}:
                return True
        return False

    def place(self) -> str:
        return f"{self.file}, line {self.line}"


def _delimiter(file: Path, header: str) -> str:
    if known := DELIMITERS.get(file.suffix.lower()):
        # Spreadsheets of many countries write semicolons into .csv files.
        return ";" if known == "," and "," not in header and ";" in header else known
    counts = {delimiter: header.count(delimiter) for delimiter in "\t,;|"}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    if not counts[best]:
        raise UserError(f"{file}, line 1: no delimiter is seen in the names of the columns: set `delimiter`")
    return best


def _rows(
    reader: _Reader, wanted: Mapping[str, str | None], root: Path, part: str | None, names: AudioNames
) -> Iterator[Utterance]:
    rows = iter(reader)
    header = next(rows, None)
    if header is None:
        raise UserError(f"{reader.file} is empty: its first row must name the columns")
    columns = _columns(reader, header, wanted, part)
    read = False
    for cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{reader.place()} has {len(cells)} cells, but there are {len(header)} columns: is a delimiter"
                f" ({reader.delimiter!r}) part of a text?"
            )
        read = True
        yield _utterance(_Cells(reader, columns, cells), root, part, names)
    if not read:
        raise UserError(f"{reader.file} has no row below the names of its columns")


def _columns(
    reader: _Reader, header: list[str], wanted: Mapping[str, str | None], part: str | None
) -> dict[str, tuple[str, int]]:
    """Return the name and the number of each column that is used, by our name of it."""
    names = [name.strip() for name in header]
    found = {}
    for key in COLUMNS:
        name = wanted.get(key, key)
        if name is None or (key == "split" and part is not None and key not in wanted):
            continue
        if names.count(name) > 1:
            raise UserError(f"{reader.file}, line 1: the column {name!r} stands there twice")
        if name in names:
            found[key] = name, names.index(name)
        elif key in wanted or key in REQUIRED:
            raise UserError(
                f"{reader.file}, line 1: there is no column {name!r} for `columns.{key}`; there are"
                f" {', '.join(map(repr, names))} (delimiter {reader.delimiter!r})"
            )
    return found


@dataclass(frozen=True, slots=True)
class _Cells:
    reader: _Reader
    columns: Mapping[str, tuple[str, int]]
    cells: list[str]

    def text(self, key: str) -> str:
        return self.cells[self.columns[key][1]].strip() if key in self.columns else ""

    def needed(self, key: str) -> str:
        if not (text := self.text(key)):
            raise UserError(f"{self.reader.place()}: the column {self.columns[key][0]!r} is empty")
        # A file may be called " a.wav ".
        return self.cells[self.columns[key][1]] if key == "path" else text

    def seconds(self, key: str) -> float | None:
        if not (text := self.text(key)):
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise UserError(
                f"{self.reader.place()}: the column {self.columns[key][0]!r} is {text!r}, expected seconds, such as"
                " 1.25"
            )
        return value


def _utterance(row: _Cells, root: Path, part: str | None, names: AudioNames) -> Utterance:
    place, path = row.reader.place(), row.needed("path")
    if part is None:
        part = row.needed("split") if "split" in row.columns else "all"
    if "id" in row.columns:
        row.needed("id")
    channel = row.text("channel")
    if channel and not (channel.isdecimal() and len(channel) < 6):
        raise UserError(f"{place}: the channel is {channel[:20]!r}, expected a number from 0")
    start, end = segment(row.seconds("start"), row.seconds("end"), row.seconds("duration"), place)
    return Utterance(
        part=part,
        place=place,
        audio=os.path.normpath(root / path),
        text=row.text("text"),
        name=names.name(path),
        id=row.text("id"),
        start=start,
        end=end,
        channel=int(channel) if channel else None,
        speaker=row.text("speaker"),
        language=row.text("language"),
    )


def segment(start: float | None, end: float | None, duration: float | None, place: str) -> tuple[float, float | None]:
    """Return start and end, s, of what two of the three say; the end is None for all that follows.

    Every source asks it: later steps reckon with these times.

    Raises:
        UserError: they contradict each other, nothing lies between them, or no recording has such times.
    """
    first = start or 0.0
    if duration is not None:
        if end is not None and abs(end - first - duration) > ROUNDING_S:
            raise UserError(
                f"{place}: from {first} s to {end} s are {end - first:.3f} s, but the duration is {duration} s"
            )
        end = first + duration if end is None else end
    if not (0 <= first <= LONGEST_S and (end is None or 0 <= end <= LONGEST_S)):
        raise UserError(
            f"{place}: it lasts from {first} s to {'the end' if end is None else f'{end} s'}, expected seconds from 0"
            f" to {LONGEST_S:.0f}"
        )
    if end is not None and end <= first:
        raise UserError(f"{place}: it ends at {end} s and begins at {first} s: nothing lies between them")
    return first, end
