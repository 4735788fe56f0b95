"""Interactions out of chunks: what Arrow can judge at once, and the rest of the rows one by one."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.ids import ID, Ids, as_ids
from dataset_converters.interactions import Interactions, Row, rating_of
from dataset_converters.reading.chunks import Chunk, Record
from dataset_converters.reading.lines import Tally

_DECISION = (ValueError, TypeError, OverflowError)


class LeftOutError(Exception):
    """A record that is well formed and not wanted; who raises it counts it."""


class Clock(Protocol):
    """Times of a whole column. Their `kind` is "number" or "date", "" before the first."""

    @property
    def kind(self) -> str: ...

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
    user: pa.Array
    item: pa.Array
    rating: np.ndarray
    time: np.ndarray


def gather(
    chunks: Iterator[Chunk], fields: Fields, tally: Tally, limit: int | None = None
) -> Interactions:
    """The interactions of `chunks`, the first `limit` of them if given; the tally counts records.

    Raises:
        ConversionError: too many records cannot be used.
    """
    users, items = Ids(), Ids()
    ratings, times = array("d"), array("q")
    for chunk in chunks:
        start = 0
        while start < len(chunk) and (limit is None or len(times) < limit):
            stop = len(chunk) if limit is None else start + limit - len(times)
            part = _read(chunk.cut(start, stop), fields, tally)
            users.append(part.user)
            items.append(part.item)
            ratings.frombytes(part.rating.tobytes())
            times.frombytes(part.time.tobytes())
            start = stop
        if limit is not None and len(times) >= limit:
            break
    numbers = np.frombuffer(ratings or b"", np.float64), np.frombuffer(times or b"", np.int64)
    (user_ids, user), (item_ids, item) = users.finish(), items.finish()
    return Interactions(user_ids, item_ids, user, item, *numbers)


def _read(chunk: Chunk, fields: Fields, tally: Tally) -> _Part:
    """The usable rows of a chunk; the others are rejected in their order."""
    rating, rated = _ratings(chunk.columns[fields.rating] if fields.rating else None, len(chunk))
    time, timed = fields.clock.of_column(chunk.columns[fields.time])
    user, known_user = as_ids(chunk.columns[fields.user])
    item, known_item = as_ids(chunk.columns[fields.item])
    good = known_user & known_item & rated & timed & chunk.usable()
    doubtful = np.flatnonzero(~good)
    saved: dict[int, Row] = {}
    before = tally.records
    for row in doubtful.tolist():
        place = row + chunk.offset
        tally.records = before + row + 1
        tally.line = chunk.line(place)
        try:
            if place in chunk.problems:
                raise ValueError(chunk.problems[place])
            saved[row] = fields.row(chunk.record(place))
        except LeftOutError:
            continue
        except _DECISION as error:
            tally.reject(error)
    tally.records = before + len(chunk)
    part = _Part(user, item, rating, time)
    return _mended(part, good, saved) if len(doubtful) else part


def _mended(part: _Part, good: np.ndarray, saved: Mapping[int, Row]) -> _Part:
    """The `good` rows of the part, and the `saved` ones with the values given."""
    rows = np.fromiter(saved, np.int64, len(saved))
    fixed = np.zeros(len(good), bool)
    fixed[rows] = True
    part.rating[rows] = [rating for _, _, rating, _ in saved.values()]
    part.time[rows] = [time for _, _, _, time in saved.values()]
    users = pa.array([user for user, _, _, _ in saved.values()], ID)
    items = pa.array([item for _, item, _, _ in saved.values()], ID)
    mask, kept = pa.array(fixed), good | fixed
    return _Part(
        pc.replace_with_mask(part.user, mask, users).filter(pa.array(kept)),
        pc.replace_with_mask(part.item, mask, items).filter(pa.array(kept)),
        part.rating[kept],
        part.time[kept],
    )


def _ratings(column: pa.Array | None, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Ratings (N,) float64, and a mask (N,) of those that are certain."""
    if column is None:
        return np.ones(length), np.ones(length, bool)
    kind = column.type
    if pa.types.is_string(kind):
        encoded = column.dictionary_encode()
        values = [_certain_rating(text) for text in encoded.dictionary.to_pylist()]
        codes = encoded.indices.fill_null(len(values)).to_numpy()
        numbers = np.array([*values, np.nan])[codes]
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy().copy()
    else:
        numbers = np.full(length, np.nan)
    return numbers, np.isfinite(numbers)


def _certain_rating(text: str) -> float:
    try:
        return rating_of(text)
    except ValueError:
        return np.nan
