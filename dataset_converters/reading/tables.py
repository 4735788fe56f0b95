"""CSV, JSON-lines and Parquet files by columns, and as records, one dict at a time."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet

from dataset_converters.errors import ConversionError
from dataset_converters.reading.chunks import Chunk, Record, chunk_of_records, records_of
from dataset_converters.reading.csv_chunks import Layout, csv_chunks, csv_reader
from dataset_converters.reading.lines import Tally, parse_json_object, read_blocks

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = ",;\t|"
_MARK = codecs.BOM_UTF8  # Excel's, and of other programs on Windows


def is_separated(path: Path) -> bool:
    """Whether the name is that of a CSV or TSV file, gzipped or not."""
    return _kind(path) in (".csv", ".tsv")


def read_chunks(tally: Tally, columns: Collection[str], *, quotes: bool) -> Iterator[Chunk]:
    """The records of the tally's file by columns, each with `columns` at least; none is counted.

    The ending of the name says what the file is: one of `FORMATS`, all but Parquet also with `.gz`.
    A CSV or TSV file is separated by a comma, semicolon, tab or bar: whichever gives the header the
    columns asked for.

    Args:
        quotes: whether they quote in CSV and TSV files; else they are letters as others.

    Raises:
        ConversionError: another ending, a missing column, a damaged file.
    """
    path = tally.path
    if is_separated(path):
        return _csv_chunks(tally, columns, quotes)
    if _kind(path) in (".jsonl", ".json"):
        return _json_chunks(tally, columns)
    if path.suffix == ".parquet":
        return _parquet_chunks(tally, columns)
    raise ConversionError(f"{path}: the name must end in one of {', '.join(FORMATS)}, or .gz after")


def _kind(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def read_records(
    tally: Tally, columns: Collection[str], *, quotes: bool = True
) -> Iterator[Record]:
    """The same, a record at a time: each is counted, bad ones are rejected."""
    for line, record in records_of(read_chunks(tally, columns, quotes=quotes)):
        tally.line = line
        tally.records += 1
        if isinstance(record, str):
            tally.reject(record)
        else:
            yield record


def first_line(blocks: Iterator[bytes]) -> tuple[str, Iterator[bytes]]:
    """A file's first line as text, and the blocks without it."""
    line, _, rest = next(blocks, b"").partition(b"\n")
    text = line.removeprefix(_MARK).decode("utf-8", "replace")
    return text, chain([rest] if rest else [], blocks)


def _csv_chunks(tally: Tally, columns: Collection[str], quotes: bool) -> Iterator[Chunk]:
    line, blocks = first_line(read_blocks(tally.path, tally.encoding))
    try:
        separator, header = _header(line, columns, quotes)
    except csv.Error as error:
        raise ConversionError(
            f"{tally.path}: line 1 is no header of CSV ({str(error).partition(' - ')[0]}); save "
            "the file with lines that end in a newline, alone or after a carriage return"
        ) from error
    _require_columns(tally.path, columns, header)
    yield from csv_chunks(blocks, Layout(separator, header, columns, quotes))


def _header(line: str, columns: Collection[str], quotes: bool) -> tuple[str, list[str]]:
    """Separator and column names of a CSV file's first line; the likeliest if none fits."""
    readings = []
    for separator in _SEPARATORS:
        names = [name.strip() for name in next(csv_reader([line], separator, quotes), [])]
        readings.append((len(set(columns) & set(names)), len(names), separator, names))
    return max(readings, key=lambda reading: reading[:2])[2:]


def _json_chunks(tally: Tally, columns: Collection[str]) -> Iterator[Chunk]:
    before, known = 0, False
    for block in read_blocks(tally.path, tally.encoding):
        lines = list(io.BytesIO(block if before else block.removeprefix(_MARK)))
        places = [n for n, line in enumerate(lines) if not line.isspace()]
        chunk = _json_chunk([lines[n] for n in places], columns, [before + n + 1 for n in places])
        before += len(lines)
        if not len(chunk):
            continue
        good = [] if known else np.flatnonzero(chunk.usable()).tolist()
        if good:  # a record may leave keys out; the first records together do not
            keys = dict.fromkeys(chain.from_iterable(map(chunk.record, good)))
            _require_columns(tally.path, columns, keys)
            known = True
        yield chunk


def _json_chunk(lines: list[bytes], columns: Collection[str], places: list[int]) -> Chunk:
    problems: dict[int, str] = {}
    try:
        records = list(map(orjson.loads, lines))
    except ValueError:
        records = [{}] * len(lines)
    if not all(type(record) is dict and record for record in records):
        for row, line in enumerate(lines):
            try:
                records[row] = parse_json_object(line)
            except ValueError as error:
                problems[row], records[row] = str(error), {}
    return chunk_of_records(records, list(columns), places, problems)


def _parquet_chunks(tally: Tally, columns: Collection[str]) -> Iterator[Chunk]:
    try:
        with pyarrow.parquet.ParquetFile(tally.path) as file:
            _require_columns(tally.path, columns, file.schema_arrow.names)
            before = 0
            for batch in file.iter_batches(columns=sorted(set(columns))):
                batch.validate(full=True)
                yield _parquet_chunk(batch, before + 1)
                before += len(batch)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ConversionError(f"{tally.path}: cannot be read ({reason})") from error


def _parquet_chunk(batch: pa.RecordBatch, first: int) -> Chunk:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    return Chunk(
        columns,
        lambda row: {name: _value(name, column[row]) for name, column in columns.items()},
        lambda row: first + row,
    )


def _value(name: str, scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:  # such as a date after the year 9999
        raise ValueError(
            f"column '{name}': a {scalar.type} that Python cannot hold ({error})"
        ) from error


def _require_columns(path: Path, columns: Collection[str], present: Iterable[str]) -> None:
    present = list(present)
    twice = sorted({name for name in columns if present.count(name) > 1})
    if twice:
        raise ConversionError(
            f"{path}: more than one column is named {', '.join(map(repr, twice))}"
        )
    missing = [name for name in columns if name not in present]
    if not missing:
        return
    raise ConversionError(
        f"{path}: no column named {', '.join(map(repr, missing))}; the file has "
        f"{', '.join(map(repr, present)) or 'no columns'}"
    )
