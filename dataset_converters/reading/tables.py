"""Records of CSV, JSON-lines and Parquet files, one dict at a time."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dataset_converters.errors import ConversionError
from dataset_converters.reading.lines import Tally, parse_json_object, read_lines, read_raw_lines

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = ",;\t|"

Record = Mapping[str, Any]


def read_records(tally: Tally, columns: Collection[str]) -> Iterator[Record]:
    """The records of the tally's file, each with `columns` at least; bad ones are rejected.

    The ending of the name says what the file is: one of `FORMATS`, all but Parquet also with `.gz`.
    A CSV or TSV file is separated by a comma, semicolon, tab or bar: whichever gives the header the
    columns asked for.

    Raises:
        ConversionError: another ending, a missing column, a damaged file.
    """
    path = tally.path
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind in (".csv", ".tsv"):
        return _csv_records(tally, columns)
    if kind in (".jsonl", ".json"):
        return _json_records(tally, columns)
    if path.suffix == ".parquet":
        return _parquet_records(tally, columns)
    raise ConversionError(f"{path}: the name must end in one of {', '.join(FORMATS)}, or .gz after")


def _csv_records(tally: Tally, columns: Collection[str]) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)  # descriptions may be longer than the module's default
    lines = _Decoded(tally)
    separator, header = _header(next(lines, ""), columns)
    _require_columns(tally.path, columns, header)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        tally.line = reader.line_num + 2  # after the header and those read so far
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row, problem = [str(error)], f"not CSV ({error})"
        else:
            problem = f"{len(row)} columns where the header has {len(header)}"
        if not row:
            continue
        tally.records += 1
        if lines.was_damaged():
            tally.reject("not UTF-8 text")
        elif len(row) != len(header):
            tally.reject(problem)
        else:
            yield dict(zip(header, row, strict=True))


def _header(line: str, columns: Collection[str]) -> tuple[str, list[str]]:
    """Separator and column names of a CSV file's first line; the likeliest if none fits."""
    readings = []
    for separator in _SEPARATORS:
        names = [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
        readings.append((len(set(columns) & set(names)), len(names), separator, names))
    return max(readings, key=lambda reading: reading[:2])[2:]


class _Decoded:
    """Decoded lines of a file, with their line ends; remembers a line that was not UTF-8."""

    def __init__(self, tally: Tally) -> None:
        self._lines = read_raw_lines(tally.path, tally.encoding)
        self._first = True
        self._damaged = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        if self._first:
            raw = raw.removeprefix(b"\xef\xbb\xbf")  # Excel's byte order mark
            self._first = False
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self._damaged = True
            return raw.decode("utf-8", "replace")

    def was_damaged(self) -> bool:
        damaged, self._damaged = self._damaged, False
        return damaged


def _json_records(tally: Tally, columns: Collection[str]) -> Iterator[Record]:
    for line in read_lines(tally):
        try:
            record = parse_json_object(line)
        except ValueError as error:
            tally.reject(error)
            continue
        if tally.records == 1:
            _require_columns(tally.path, columns, record)
        yield record


def _parquet_records(tally: Tally, columns: Collection[str]) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConversionError(
            f"{tally.path}: reading Parquet needs pyarrow; run: pip install pyarrow"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(tally.path) as file:
            _require_columns(tally.path, columns, file.schema_arrow.names)
            for batch in file.iter_batches(columns=sorted(set(columns))):
                for record in batch.to_pylist():
                    tally.records += 1
                    tally.line = tally.records
                    yield record
    except (OSError, pyarrow.ArrowException) as error:
        raise ConversionError(f"{tally.path}: cannot be read ({error})") from error


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
