"""CSV by columns: Arrow reads what is plainly written, Python's csv module all the rest.

The two read the same where a block is UTF-8, its lines end in a newline alone or after a carriage
return, and every quote opens or closes a field or is doubled inside one. A block with anything else
in it is halved until what is left is small; that alone goes to Python, whose messages are told.

A record that cannot be taken apart ends with its first line, and the lines after it are read anew:
a stray quote costs its own line, not all those up to the next quote.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from dataset_converters.reading.chunks import Chunk, chunk_of_records

_SMALL = 1 << 14  # bytes
# Of a record: where a quote opens and none closes, the whole file would be one.
_MOST_LINES = 10_000
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are taken apart; without `quotes` a quote is a letter as others."""

    separator: str
    header: list[str]
    columns: Collection[str]  # those wanted
    quotes: bool = True


def csv_reader(lines: Iterable[str], separator: str, quotes: bool, *, strict: bool = False) -> Any:
    """Python's reader of any CSV, however long its fields are."""
    csv.field_size_limit(2**31 - 1)  # descriptions may be longer than the module's default
    quoting: Any = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=separator, quoting=quoting, strict=strict)


def csv_chunks(blocks: Iterator[bytes], layout: Layout) -> Iterator[Chunk]:
    """The records after the header, whose line is taken from `blocks` already."""
    line = 2
    for block in blocks:
        pieces = [block]
        while pieces:
            piece = pieces.pop()
            chunk = _plain_chunk(piece, layout, line)
            halves = _halves(piece, layout) if chunk is None else None
            if halves:
                pieces += reversed(halves)
                continue
            if chunk is None:
                careful = _Careful(piece, blocks, layout, line)
                chunk, line = careful.chunk(), careful.line
                pieces += careful.rest()
            else:
                line += piece.count(b"\n")
            if len(chunk):
                yield chunk


def _halves(piece: bytes, layout: Layout) -> list[bytes] | None:
    """Two parts of whole lines; None for what is small or may hold a newline in quotes."""
    if len(piece) <= _SMALL or (layout.quotes and b'"' in piece):
        return None
    cut = piece.find(b"\n", len(piece) // 2) + 1
    return [piece[:cut], piece[cut:]] if 0 < cut < len(piece) else None


def _plain_chunk(piece: bytes, layout: Layout, line: int) -> Chunk | None:
    """The piece as Arrow reads it; None if Python might read it otherwise, or Arrow cannot."""
    if not _is_plain(piece, layout):
        return None
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(piece),
            arrow_csv.ReadOptions(column_names=layout.header, block_size=len(piece) + 1),
            arrow_csv.ParseOptions(
                delimiter=layout.separator,
                quote_char='"' if layout.quotes else False,
                newlines_in_values=layout.quotes and b'"' in piece,
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(layout.header, pa.string()),
                include_columns=list(dict.fromkeys(layout.columns)),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException:
        return None
    if layout.quotes and _has_long_record(piece, len(table)):
        return None
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    places = _Lines(piece, layout, line)
    return Chunk(
        columns, lambda row: {name: columns[name][row].as_py() for name in columns}, places.of_row
    )


def _is_plain(piece: bytes, layout: Layout) -> bool:
    if b"\0" in piece or piece.count(b"\r") != piece.count(b"\r\n"):
        return False
    try:
        piece.isascii() or piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not layout.quotes or b'"' not in piece or _well_quoted(piece, layout.separator)


def _well_quoted(piece: bytes, separator: str) -> bool:
    """Whether quotes stand at the ends of fields and, doubled, inside quoted ones; nowhere else."""
    letters = np.frombuffer(piece, np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    if len(quotes) % 2:
        return False
    inner = np.flatnonzero(quotes[2::2] == quotes[1:-1:2] + 1) * 2 + 1  # one closes, one reopens
    quotes = np.delete(quotes, np.concatenate((inner, inner + 1)))
    ends = (ord(separator), _NEWLINE)
    before = letters[np.maximum(quotes[::2] - 1, 0)]
    after = letters[np.minimum(quotes[1::2] + 1, len(letters) - 1)]
    at_start, at_end = quotes[::2] == 0, quotes[1::2] == len(letters) - 1
    return bool(
        (np.isin(before, ends) | at_start).all()
        and (np.isin(after, (*ends, _RETURN)) | at_end).all()
    )


def _has_long_record(piece: bytes, records: int) -> bool:
    """Whether one of the records of a well-quoted piece takes more lines than it may."""
    if piece.count(b"\n") - records < _MOST_LINES - 1:  # no record can
        return False
    letters = np.frombuffer(piece, np.uint8)
    newlines = np.flatnonzero(letters == _NEWLINE)
    inside = np.searchsorted(np.flatnonzero(letters == _QUOTE), newlines) % 2 == 1
    ends = np.flatnonzero(np.append(~inside, True))  # the last one may end with the file
    return bool((np.diff(ends, prepend=-1) > _MOST_LINES).any())


class _Lines:
    """On which line a record of a plain piece begins; found out when the first one is asked for."""

    def __init__(self, piece: bytes, layout: Layout, first: int) -> None:
        self._piece, self._layout, self._first = piece, layout, first

    def of_row(self, row: int) -> int:
        return self._first + self._starts[row]

    @cached_property
    def _starts(self) -> list[int]:
        text = io.StringIO(self._piece.decode("utf-8"), newline="\n")
        reader = csv_reader(text, self._layout.separator, self._layout.quotes)
        starts, before = [], 0
        for row in reader:
            if row:
                starts.append(before)
            before = reader.line_num
        return starts


class _Careful:
    """One piece read by Python, with as much of the further blocks as its last record needs."""

    def __init__(self, piece: bytes, more: Iterator[bytes], layout: Layout, line: int) -> None:
        self.line = line  # that comes next
        self._record_line = line  # where the present record begins
        self._source = io.BytesIO(piece)
        self._length = len(piece)
        self._more = more
        self._layout = layout
        self._damaged = False

    def chunk(self) -> Chunk:
        """The piece's records, with what is wrong with some of them."""
        records: list[dict[str, str]] = []
        lines: list[int] = []
        problems: dict[int, str] = {}
        header = self._layout.header
        for line, row in self._rows():
            problem = None
            if isinstance(row, str):
                problem = row
            elif self._damaged:
                problem = "not UTF-8 text"
            elif len(row) != len(header):
                problem = f"{len(row)} columns where the header has {len(header)}"
            self._damaged = False
            if problem:
                problems[len(records)] = problem
            records.append({} if problem else dict(zip(header, row, strict=True)))
            lines.append(line)
        return chunk_of_records(records, list(self._layout.columns), lines, problems)

    def rest(self) -> list[bytes]:
        """What was taken of the further blocks and is not read yet."""
        rest = self._source.read()
        return [rest] if rest else []

    def _rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """Line and fields of each record, or why it cannot be taken apart."""
        rows = self._taken_apart()
        while (place := self._source.tell()) < self._length:
            self._record_line = self.line
            try:
                row: list[str] | str = next(rows)
            except csv.Error as error:
                row = f"not CSV ({error})"
                self._source.seek(place)
                self._source.readline()
                self.line = self._record_line + 1
                rows = self._taken_apart()
            if row:
                yield self._record_line, row

    def _taken_apart(self) -> Iterator[list[str]]:
        """The fields of each record from here on; none of a blank line. Raises csv.Error."""
        separator = self._layout.separator
        if self._layout.quotes:
            return csv_reader(self._decoded(), separator, quotes=True, strict=True)
        return (
            [] if text.isspace() else text.rstrip("\r\n").split(separator)
            for text in self._decoded()
        )

    def _decoded(self) -> Iterator[str]:
        while raw := self._source.readline() or self._further_line():
            if self.line - self._record_line >= _MOST_LINES:
                raise csv.Error(f"no quote closes within {_MOST_LINES:,} lines")
            self.line += 1
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError:
                self._damaged = True
                yield raw.decode("utf-8", "replace")

    def _further_line(self) -> bytes:
        place = self._source.tell()
        self._source.write(next(self._more, b""))
        self._source.seek(place)
        return self._source.readline()
