"""A stretch of a file by columns: what its records hold, and which of them cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Chunk:
    """N records by columns, and a way back to each one as it stands in the file.

    `columns` holds the values as Arrow sees them; a column that it cannot hold is all null there.
    `record` gives a row's values as Python has them, or raises ValueError where it cannot have one;
    `line` gives its line in the file. Both take the number of a row of the chunk that this one was
    cut from, which begins at `offset`. `problems` says by such numbers why a record is none.
    """

    columns: Mapping[str, pa.Array]
    record: Callable[[int], Record]
    line: Callable[[int], int]
    problems: Mapping[int, str] = field(default_factory=dict)
    offset: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def cut(self, start: int, stop: int) -> Chunk:
        """The rows from `start` up to `stop`, without a copy."""
        columns = {name: column[start:stop] for name, column in self.columns.items()}
        return replace(self, columns=columns, offset=self.offset + start)

    def usable(self) -> np.ndarray:
        """Mask (N,) of the rows without a problem."""
        mask = np.ones(len(self), bool)
        rows = np.fromiter(self.problems, np.int64, len(self.problems)) - self.offset
        mask[rows[(rows >= 0) & (rows < len(self))]] = False
        return mask


def chunk_of_records(
    records: Sequence[Record],
    columns: Sequence[str],
    lines: Sequence[int],
    problems: dict[int, str],
) -> Chunk:
    """A chunk of records that are Python's already; those with a problem may be empty."""
    arrays = {name: _as_array([record.get(name) for record in records]) for name in columns}
    return Chunk(arrays, records.__getitem__, lines.__getitem__, problems)


def _as_array(values: list[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
        return pa.nulls(len(values))


def records_of(chunks: Iterator[Chunk]) -> Iterator[tuple[int, Record | str]]:
    """Line and record of every row, or why it is none, one after the other."""
    for chunk in chunks:
        for row in range(len(chunk)):
            yield chunk.line(row), chunk.problems.get(row) or _record_of(chunk, row)


def _record_of(chunk: Chunk, row: int) -> Record | str:
    try:
        return chunk.record(row)
    except ValueError as error:
        return str(error)
