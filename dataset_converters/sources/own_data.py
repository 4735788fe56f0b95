"""One's own data: a file of interactions, and one of items if there is one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from dataset_converters.atomic import INTER_HEADER
from dataset_converters.convert import Source
from dataset_converters.errors import ConversionError
from dataset_converters.gathering import Fields
from dataset_converters.interactions import Row, checked_row
from dataset_converters.reading.chunks import Chunk, Record
from dataset_converters.reading.clean_text import plain_text
from dataset_converters.reading.encodings import guess_encoding, known_encoding
from dataset_converters.reading.lines import Tally
from dataset_converters.reading.magic import require_text
from dataset_converters.reading.tables import is_separated, read_chunks, read_records
from dataset_converters.sources.own_times import Clock

logger = logging.getLogger(__name__)

_TAKEN = tuple(column.partition(":")[0] for column in INTER_HEADER)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
_IDS = ("text or whole numbers", (*_TEXTS, pa.types.is_integer))
_NUMBERS = (
    "numbers",
    (*_TEXTS, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean),
)
_TIMES = (
    "whole numbers or dates",
    (
        *_TEXTS,
        *(pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp, pa.types.is_date),
    ),
)
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Columns:
    """Which column of the files is what; `text` maps fields of the `.item` file to columns.

    Without a `rating` column every interaction gets 1. `item_id` is the id's column in the items
    file, the same as `item` if None.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    rating: str | None = None
    item_id: str | None = None
    text: Mapping[str, str] = field(default_factory=dict)


def open_source(
    interactions: Path,
    items: Path | None,
    columns: Columns,
    *,
    time_unit: str | None,
    max_malformed: float,
    encoding: str | None = None,
    quotes: bool = True,
) -> Source:
    """The source of one's own files; see `reading.tables.FORMATS`.

    Times are whole numbers, kept as they are, or ISO dates, which become `time_unit` since 1970
    UTC; a date without a zone is UTC.

    Args:
        time_unit: "s" or "ms"; seconds if None. One that changes nothing is warned of.
        encoding: of both files; guessed for each if None.
        quotes: whether they quote in CSV and TSV files; else they are letters as others.

    Raises:
        ConversionError: a column that is named twice, an unknown encoding, text fields without an
            items file or the reverse, bad names of fields, no `quotes` where no file is CSV or TSV,
            an encoding where no file is text.
    """
    _check_roles(columns)
    _check_text(items, columns.text)
    _check_options([path for path in (interactions, items) if path], encoding, quotes)
    tally = _tally(interactions, max_malformed, encoding)
    settings: dict[str, object] = {"dates_rounded_down": 0}
    item_tally = _tally(items, max_malformed, encoding) if items else None
    return Source(
        name="csv",
        chunks=_chunks(tally, columns, quotes),
        fields=_fields(columns, Clock(time_unit, settings, interactions.name)),
        row_tally=tally,
        items=_items(item_tally, columns, quotes) if item_tally else None,
        item_tally=item_tally,
        text=columns.text,
        clean=plain_text,
        item_text={"fields": list(columns.text), "style": "sentences"} if columns.text else None,
        settings=settings,
    )


def _check_roles(columns: Columns) -> None:
    roles = ("user", "item", "time", "rating")
    column_of = {role: getattr(columns, role) for role in roles if getattr(columns, role)}
    role_of: dict[str, str] = {}
    for role, column in column_of.items():
        if column in role_of:
            raise ConversionError(
                f"--{role}: column '{column}' is that of --{role_of[column]}, too; name another"
            )
        role_of[column] = role


def _check_text(items: Path | None, text: Mapping[str, str]) -> None:
    if (items is None) != (not text):
        raise ConversionError("an items file (--items) and its text columns (--text) go together")
    for name in text:
        if not _FIELD.fullmatch(name) or name in _TAKEN:
            raise ConversionError(
                f"'{name}' cannot be the name of a text field; write --text NAME='{name}' with "
                f"a NAME of letters, digits and underscores, none of {', '.join(_TAKEN)}"
            )


def _check_options(files: Sequence[Path], encoding: str | None, quotes: bool) -> None:
    if not quotes and not any(map(is_separated, files)):
        raise ConversionError("--no_quotes is for CSV and TSV files; leave it out for others")
    if encoding is not None and all(path.suffix == ".parquet" for path in files):
        raise ConversionError("--encoding is for files of text; leave it out for Parquet")


def _tally(path: Path, max_malformed: float, encoding: str | None) -> Tally:
    if path.suffix == ".parquet":
        return Tally(path, max_malformed)
    require_text(path)
    if encoding is not None:
        return Tally(path, max_malformed, known_encoding(encoding))
    guessed = guess_encoding(path, max_malformed)
    if guessed != "utf-8":
        logger.info("%s: read as %s; --encoding names another one", path.name, guessed)
    return Tally(path, max_malformed, guessed)


def _chunks(tally: Tally, columns: Columns, quotes: bool) -> Iterator[Chunk]:
    needed = [columns.user, columns.item, columns.time]
    needed += [columns.rating] if columns.rating else []
    for chunk in read_chunks(tally, needed, quotes=quotes):
        if tally.path.suffix == ".parquet":
            _require_types(tally.path, columns, chunk)
        yield chunk


def _require_types(path: Path, columns: Columns, chunk: Chunk) -> None:
    """Raise ConversionError for a Parquet column whose type cannot be what it is named for."""
    wanted = {columns.user: _IDS, columns.item: _IDS, columns.time: _TIMES}
    wanted |= {columns.rating: _NUMBERS} if columns.rating else {}
    for name, (what, tests) in wanted.items():
        kind = chunk.columns[name].type
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(test(inner) for test in tests):
            raise ConversionError(f"{path}: column '{name}' is of type {kind}; it must hold {what}")


def _fields(columns: Columns, clock: Clock) -> Fields:
    names = (columns.user, columns.item, columns.time, columns.rating)
    return Fields(*names, clock, partial(_row, columns=columns, clock=clock))


def _row(record: Record, columns: Columns, clock: Clock) -> Row:
    return checked_row(
        _token(record, columns.user),
        _token(record, columns.item),
        record.get(columns.rating) if columns.rating else 1.0,
        clock.read(record.get(columns.time)),
    )


def _items(tally: Tally, columns: Columns, quotes: bool) -> Iterator[tuple[str, Record]]:
    id_column = columns.item_id or columns.item
    wanted = [id_column, *columns.text.values()]
    for record in read_records(tally, wanted, quotes=quotes):
        item = _token(record, id_column)
        if isinstance(item, str) and item:
            yield item, record
        else:
            tally.reject(f"item id {item!r} is empty or no text")


def _token(record: Record, column: str) -> object:
    """An id as it stands; whole numbers of JSON and Parquet become their digits."""
    value = record.get(column)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
