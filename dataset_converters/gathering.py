"""Interactions out of chunks: what Arrow can judge at once, and the rest of the rows one by one."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.interactions import Interactions, Row
from dataset_converters.reading.chunks import Chunk, Record
from dataset_converters.reading.lines import Tally

_DECISION = (ValueError, TypeError, OverflowError)


class LeftOutError(Exception):
    """A record that is well formed and not wanted; who raises it counts it."""


class Clock(Protocol):
    """Times of a whole column."""

    def of_column(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Times (N,) int64, and a mask (N,) of those that are certain."""


@dataclass(frozen=True)
class Fields:
    """Which column is what, and `row`: the same of one record, which decides where columns cannot.

    `row` raises ValueError, TypeError or OverflowError for a record that cannot be used. Without a
    `rating` column every rating is 1.
    """

    user: str
    item: str
    time: str
    rating: str | None
    clock: Clock
    row: Callable[[Record], Row]


class _Part(NamedTuple):
    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    time: np.ndarray


class _Tokens(defaultdict[str, int]):
    """Tokens and their codes, in the order in which they were met."""

    def __init__(self) -> None:
        super().__init__(count().__next__)

    def of_column(self, column: pa.Array) -> np.ndarray:
        """Codes (N,) int32; -1 for what is no clean token."""
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_integer(column.type):
            column = column.cast(pa.string())
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return np.full(len(column), -1, np.int32)
        encoded = column.dictionary_encode()
        tokens = encoded.dictionary.to_numpy(zero_copy_only=False)
        clean = _are_clean(encoded.dictionary)
        codes = np.full(len(tokens) + 1, -1, np.int32)  # the last one is that of null
        codes[:-1][clean] = list(map(self.__getitem__, tokens[clean].tolist()))
        return codes[encoded.indices.fill_null(len(tokens)).to_numpy()]


def _are_clean(tokens: pa.Array) -> np.ndarray:
    """Mask of those that `is_clean_token` takes; Arrow's texts hold no surrogates anyway."""
    broken = pc.match_substring_regex(tokens, r"[\x00-\x1f\x7f]")
    return pc.and_not(pc.greater(pc.binary_length(tokens), 0), broken).to_numpy(False)


def gather(
    chunks: Iterator[Chunk], fields: Fields, tally: Tally, limit: int | None = None
) -> Interactions:
    """The interactions of `chunks`, the first `limit` of them if given; the tally counts records.

    Raises:
        ConversionError: too many records cannot be used.
    """
    users, items = _Tokens(), _Tokens()
    columns: list[array[Any]] = [array(code) for code in "iidq"]
    for chunk in chunks:
        start = 0
        while start < len(chunk) and (limit is None or len(columns[0]) < limit):
            stop = len(chunk) if limit is None else start + limit - len(columns[0])
            part = _read(chunk.cut(start, stop), fields, tally, users, items)
            for column, values in zip(columns, part, strict=True):
                column.frombytes(values.tobytes())
            start = stop
        if limit is not None and len(columns[0]) >= limit:
            break
    kinds: tuple[Any, ...] = (np.int32, np.int32, np.float64, np.int64)
    return Interactions(
        list(users),
        list(items),
        *(
            np.frombuffer(column, kind) if column else np.empty(0, kind)
            for column, kind in zip(columns, kinds, strict=True)
        ),
    )


def _read(chunk: Chunk, fields: Fields, tally: Tally, users: _Tokens, items: _Tokens) -> _Part:
    """The usable rows of a chunk; the others are rejected in their order."""
    rating, rated = _ratings(chunk.columns[fields.rating] if fields.rating else None, len(chunk))
    time, timed = fields.clock.of_column(chunk.columns[fields.time])
    user = users.of_column(chunk.columns[fields.user])
    item = items.of_column(chunk.columns[fields.item])
    part = _Part(user, item, rating, time)
    good = (user >= 0) & (item >= 0) & rated & timed & chunk.usable()
    before = tally.records
    for row in np.flatnonzero(~good).tolist():
        place = row + chunk.offset
        tally.records = before + row + 1
        tally.line = chunk.line(place)
        try:
            if place in chunk.problems:
                raise ValueError(chunk.problems[place])
            token, other, part.rating[row], part.time[row] = fields.row(chunk.record(place))
        except LeftOutError:
            continue
        except _DECISION as error:
            tally.reject(error)
        else:
            part.user[row], part.item[row], good[row] = users[token], items[other], True
    tally.records = before + len(chunk)
    return part if good.all() else _Part(*(column[good] for column in part))


def _ratings(column: pa.Array | None, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Ratings (N,) float64, and a mask (N,) of those that are certain."""
    if column is None:
        return np.ones(length), np.ones(length, bool)
    kind = column.type
    if pa.types.is_string(kind):
        encoded = column.dictionary_encode()
        values = [_number(text) for text in encoded.dictionary.to_pylist()]
        codes = encoded.indices.fill_null(len(values)).to_numpy()
        numbers = np.array([*values, np.nan])[codes]
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy().copy()
    else:
        numbers = np.full(length, np.nan)
    return numbers, np.isfinite(numbers)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
