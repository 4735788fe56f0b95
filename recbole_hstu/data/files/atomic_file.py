"""Read RecBole's atomic files exactly: text stays text, times stay integers.

RecBole's own reader takes every number as float64 and every "NA" as missing. Here tokens are
read as they stand, and the time column becomes int64 without a detour through floats.
"""

from __future__ import annotations

import csv
import itertools
import logging
import re
from collections.abc import Collection, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from recbole_hstu.support.errors import InputError

logger = logging.getLogger(__name__)

_BLOCK = 1 << 22  # letters read at a time


class _Source(NamedTuple):
    """A file, and how it is read."""

    path: Path
    separator: str
    encoding: str

    def blocks(self) -> Iterator[str]:
        """All of its letters, some at a time."""
        with self.path.open(encoding=self.encoding, newline="") as file:
            yield from iter(lambda: file.read(_BLOCK), "")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row that pandas sees, the header too, and the line on which it begins."""
        csv.field_size_limit(2**31 - 1)  # a text may be longer than the module's default
        blank = " \t\r\n".replace(self.separator, "")
        with self.path.open(encoding=self.encoding, newline="") as file:
            lines = (line if line.strip(blank) else "\n" for line in file)  # pandas passes over
            reader = csv.reader(lines, delimiter=self.separator)
            before = 0
            for row in reader:
                if row:
                    yield before + 1, row
                before = reader.line_num

    def line_of(self, row: int) -> int:
        """The line on which a row behind the header, counted from 0, begins."""
        return next(itertools.islice(self.rows(), row + 1, None))[0]


def form_of(config: Any) -> dict[str, str]:
    """How a data set's files are written, by its options: the arguments of the readers below."""
    return {
        "separator": config["field_separator"] or "\t",
        "encoding": config["encoding"] or "utf-8",
    }


FIELD_TYPES = ("token", "token_seq", "float", "float_seq")


def read_header(path: str | Path, *, separator: str, encoding: str) -> list[str]:
    """Column headers `name:type` of an atomic file, in file order.

    Raises:
        InputError: no such file, no such encoding, an empty file, a column without a known type, a
            name twice.
    """
    path = Path(path)
    try:
        with path.open(encoding=encoding) as file:
            line = file.readline().rstrip("\r\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeError as error:
        raise _not_in(encoding, path) from error
    except LookupError as error:
        raise InputError(
            f"--encoding={encoding}: no such encoding of text; try utf-8, utf-16, latin-1 or cp1252"
        ) from error
    if not line.strip():
        pair = ("item_id", "title") if Path(path).suffix == ".item" else ("user_id", "item_id")
        example = r"\t".join(f"{name}:token" for name in pair)
        raise InputError(f"{path}: the file is empty; expected a header such as {example}")
    columns = line.lstrip("\ufeff").split(separator)
    for column in columns:
        name, _, ftype = column.partition(":")
        if not name or ftype not in FIELD_TYPES:
            raise InputError(
                f"{path}: line 1: column '{column}' is not name:type "
                f"with a type of {', '.join(FIELD_TYPES)}"
            )
    names = [column.partition(":")[0] for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{path}: line 1: the header names {', '.join(twice)} more than once; "
            "give every column its own name"
        )
    return columns


def column_names(path: str | Path, *, separator: str, encoding: str) -> list[str]:
    """Names of an atomic file's columns, in file order; errors: see `read_header`."""
    header = read_header(path, separator=separator, encoding=encoding)
    return [column.partition(":")[0] for column in header]


def read_atomic(
    path: str | Path,
    *,
    fields: Collection[str] | None = None,
    separator: str = "\t",
    time_field: str | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    """Read an atomic file; columns are named without their `:type`, in file order.

    Args:
        path: the `.inter`, `.item` or `.user` file.
        fields: the columns wanted, all of them by default.
        separator: between columns.
        time_field: this column becomes exact int64; other float columns become float64, all
            others stay str (sequences are not split), an empty token becomes NaN.
        encoding: of the file.

    Raises:
        InputError: what `read_header` raises, rows of another width, no row at all, a number
            that is none (with its line).
    """
    columns = read_header(path, separator=separator, encoding=encoding)
    wanted = [c for c in columns if fields is None or c.partition(":")[0] in fields]
    source = _Source(Path(path), separator, encoding)
    frame = _read_texts(source, len(columns))[wanted]
    frame.columns = pd.Index([c.partition(":")[0] for c in wanted])
    for column in wanted:
        name, _, ftype = column.partition(":")
        if name == time_field:
            frame[name] = _exact_times(frame[name], source)
        elif ftype == "float":
            frame[name] = _floats(frame[name], source)
    return frame


def _read_texts(source: _Source, n_columns: int) -> pd.DataFrame:
    """All of the file as text; an empty cell is NaN."""
    path, separator, encoding = source
    try:
        # Every column: with `usecols` pandas would pass over rows that are too wide.
        frame = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            encoding=encoding,
            engine="c",
            quoting=csv.QUOTE_MINIMAL,
            keep_default_na=False,
            na_values=[""],
        )
    except UnicodeError as error:
        raise _not_in(encoding, path) from error
    except pd.errors.ParserError as error:
        if "Expected" in str(error):  # a row that is too wide; not so a quote without its end
            _refuse_other_width(source, n_columns)
        raise InputError(f"{path}: {str(error).strip().splitlines()[-1]}") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes a surplus column as index
        _refuse_other_width(source, n_columns)
        raise InputError(f"{path}: line 2: more columns than the {n_columns} of the header")
    if _has_quotes(source):
        _warn_of_open_quotes(frame, source)
    if frame.empty:
        raise InputError(f"{path}: the file has a header and no row")
    if frame.iloc[:, -1].isna().any() and _lack_separators(frame, source):
        _refuse_other_width(source, n_columns)
    return frame


def _has_quotes(source: _Source) -> bool:
    """Whether there are any; a NUL, which the same look through the file finds, is refused."""
    quotes = False
    for block in source.blocks():
        quotes = quotes or '"' in block
        if "\0" in block:  # pandas ends a cell there
            with source.path.open(encoding=source.encoding) as file:
                line = next(number for number, text in enumerate(file, 1) if "\0" in text)
            raise InputError(f"{source.path}: line {line}: holds a NUL character; remove it")
    return quotes


def _lack_separators(frame: pd.DataFrame, source: _Source) -> bool:
    """Whether some rows of the file are cut short, where pandas sees empty cells.

    Counting tells it at a fraction of the time that reading takes: full rows have a separator
    between any two cells, and those that stand within quoted cells.
    """
    found, quoted = 0, False
    for block in source.blocks():
        found += block.count(source.separator)
        quoted |= '"' in block
    expected = (len(frame) + 1) * (len(frame.columns) - 1)
    if quoted:
        within = methodcaller("count", source.separator)
        expected += sum(sum(map(within, frame[name].dropna())) for name in frame)
    return found < expected


def _refuse_other_width(source: _Source, n_columns: int) -> None:
    """Raise InputError for the first row that has not the columns of the header."""
    for line, row in source.rows():
        if len(row) != n_columns:
            raise InputError(
                f"{source.path}: line {line}: {len(row)} columns where the header has "
                f"{n_columns}; mend or remove such rows (an empty cell keeps its separator)"
            )


def _warn_of_open_quotes(frame: pd.DataFrame, source: _Source) -> None:
    """A quote that is not closed takes whole rows into its cell, up to the next quote."""
    for column in frame:
        cells = frame[column].dropna()
        lines = cells[cells.str.contains("\n", regex=False)]
        whole = lines[lines.str.count(re.escape(source.separator)) >= len(frame.columns) - 1]
        for row, cell in whole[:1].items():
            logger.warning(
                "%s: line %d: the quoted cell %r... holds line breaks and separators, and so do %d "
                "in all: rows are lost if a quote was not meant to open a cell",
                *(source.path, source.line_of(int(row)), cell[:20], len(whole)),
            )


def _not_in(encoding: str, path: str | Path) -> InputError:
    return InputError(
        f"{path}: is not {encoding} text; name its encoding, as in --encoding=latin-1"
    )


def _floats(texts: pd.Series, source: _Source) -> np.ndarray:
    numbers = pd.to_numeric(texts, errors="coerce")
    _refuse(numbers.isna() & texts.notna(), texts, source, "a number")
    return numbers.to_numpy(np.float64)


def _exact_times(texts: pd.Series, source: _Source) -> np.ndarray:
    try:
        times = texts.to_numpy(dtype=object, na_value="").astype(np.int64)
    except (ValueError, OverflowError):
        pass  # a column such as 978300019.0: exact as long as it is a whole number
    else:
        letters = "".join(texts)  # Python reads 1_000 and digits of other scripts; pandas does not
        if letters.isascii() and "_" not in letters:
            return times
    numbers = pd.to_numeric(texts, errors="coerce").astype(np.float64)
    _refuse(numbers.isna() | np.isinf(numbers), texts, source, "a whole number")
    bad = (numbers != np.floor(numbers)) | (numbers.abs() >= 2.0**53)
    _refuse(bad, texts, source, "a whole number", ", or write all times in milliseconds")
    return numbers.to_numpy().astype(np.int64)


def _refuse(
    bad: pd.Series, texts: pd.Series, source: _Source, expected: str, remedy: str = ""
) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        held = "nothing" if pd.isna(texts.iloc[row]) else repr(texts.iloc[row])
        raise InputError(
            f"{source.path}: line {source.line_of(row)}: column '{texts.name}' holds {held}, "
            f"which is not {expected} ({int(bad.sum()):,} such rows); "
            f"mend or remove these rows{remedy}"
        )
