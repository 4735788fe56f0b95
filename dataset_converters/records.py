"""Records of CSV, JSON-lines and Parquet files, one dict at a time."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dataset_converters.errors import ConversionError
from dataset_converters.reading import Tally, parse_json_object, read_lines, read_raw_lines

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}

Record = Mapping[str, Any]


def read_records(
    tally: Tally, columns: Collection[str], separator: str | None = None
) -> Iterator[Record]:
    """The records of the tally's file, each with `columns` at least; bad ones are rejected.

    The ending of the name says what the file is: one of `FORMATS`, all but Parquet also with `.gz`.
    `separator` is that of a CSV file.

    Raises:
        ConversionError: another ending, a missing column, a damaged file.
    """
    path = tally.path
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind in _SEPARATORS:
        return _csv_records(tally, columns, separator or _SEPARATORS[kind])
    if kind in (".jsonl", ".json"):
        return _json_records(tally, columns)
    if path.suffix == ".parquet":
        return _parquet_records(tally, columns)
    raise ConversionError(f"{path}: the name must end in one of {', '.join(FORMATS)}, or .gz after")


def _csv_records(tally: Tally, columns: Collection[str], separator: str) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)  # descriptions may be longer than the module's default
    lines = _Decoded(tally.path)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    header = [name.strip() for name in next(reader, [])]
    _require_columns(tally.path, columns, header)
    while True:
        tally.line = reader.line_num + 1
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


class _Decoded:
    """Decoded lines of a file, with their line ends; remembers a line that was not UTF-8."""

    def __init__(self, path: Path) -> None:
        self._lines = read_raw_lines(path)
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
    missing = [name for name in columns if name not in present]
    if not missing:
        return
    hint = ""
    if len(present) == 1:
        other = [mark for mark in (";", "\t", "|", ",") if mark in present[0]]
        hint = f"; its separator seems to be {other[0]!r}, say so by --separator" if other else ""
    raise ConversionError(
        f"{path}: no column named {', '.join(map(repr, missing))}; the file has "
        f"{', '.join(map(repr, present)) or 'no columns'}{hint}"
    )
