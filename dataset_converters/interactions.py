"""The interactions of one data set in columns: filter, order, describe."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.errors import ConversionError
from dataset_converters.ordering import stable_order, unsigned
from dataset_converters.reading.clean_text import PADDING, is_clean_token

_YEAR_S = 31_536_000
_MANY_ROWS, _FEW_TIMES = 200, 20
_INT64_MAX = 2**63 - 1
_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_BOUNDS = (10**8, 10**11, 10**14, 10**17)  # 1973 in each unit, and 5138 in the one before
_BLOCK = 1 << 20  # rows
_COLUMNS = ("user", "item", "rating", "time")

Row = tuple[str, str, float, int]


@dataclass
class Interactions:
    """Parallel columns, one entry an interaction, in the source's order until `sort_by_time`.

    `user` and `item` (N,) int32 index into the ids `users` and `items`, texts of Arrow's; `rating`
    (N,) float64; `time` (N,) int64 in the source's own unit. Ids may be there without any
    interaction. Rows are dropped and sorted in place, a column at a time: there may be many.
    """

    users: pa.Array
    items: pa.Array
    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def keep(self, rows: np.ndarray) -> int:
        """Drop all interactions but those of the mask (N,); returns how many were dropped."""
        before = len(self)
        if rows.all():
            return 0
        for name in _COLUMNS:
            column = getattr(self, name)
            kept = column[rows]
            column = column[: len(kept)]
            column[:] = kept
            setattr(self, name, column)
        return before - len(self)

    def of_items(self, known: Collection[str]) -> np.ndarray:
        """Mask of the interactions with the items of `known`."""
        items = self.items.to_pylist()
        return np.fromiter((item in known for item in items), bool, len(items))[self.item]

    def sort_by_time(self) -> None:
        """By user id, then time; ties keep the source's order."""
        rank = np.empty(len(self.users), np.uint64)
        rank[pc.sort_indices(self.users).to_numpy()] = np.arange(rank.size, dtype=np.uint64)
        self._reorder(slice(None), stable_order(rank[self.user]))
        for start, stop in self._blocks():
            user, time = self.user[start:stop], self.time[start:stop]
            same = user[1:] == user[:-1]
            if (same & (time[1:] < time[:-1])).any():
                order = stable_order(unsigned(time))
                place = np.cumsum(np.concatenate(([False], ~same)), dtype=np.uint64)  # of the user
                self._reorder(slice(start, stop), order[stable_order(place[order])])

    def _reorder(self, rows: slice, order: np.ndarray) -> None:
        for name in _COLUMNS:
            column = getattr(self, name)[rows]
            column[:] = column[order]

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Where blocks of whole users begin and end, of rows that stand together by user."""
        start = 0
        while start < len(self):
            stop = min(start + _BLOCK, len(self))
            while stop < len(self) and self.user[stop] == self.user[stop - 1]:
                others = self.user[stop : stop + _BLOCK] != self.user[stop]
                stop += int(others.argmax()) if others.any() else len(others)
            yield start, stop
            start = stop

    def repeats(self, keep: str) -> np.ndarray:
        """Mask of the interactions that repeat a (user, item) pair; rows must be sorted by time.

        `keep` is "first" or "last": the one interaction of each pair that is not marked.
        """
        mask = np.zeros(len(self), bool)
        for start, stop in self._blocks():
            pairs = self.user[start:stop].astype(np.uint64) * np.uint64(max(len(self.items), 1))
            pairs += self.item[start:stop].astype(np.uint64)
            order = stable_order(pairs.copy())
            same = pairs[order[1:]] == pairs[order[:-1]]
            mask[start + (order[:-1] if keep == "last" else order[1:])[same]] = True
        return mask

    def drop_to_core(self, users: int, items: int) -> int:
        """Keep users with at least `users`, items with at least `items` interactions, until stable;
        returns how many interactions were dropped."""
        dropped = 0
        while True:
            enough = (_counts(self.user, len(self.users)) >= users)[self.user]
            enough &= (_counts(self.item, len(self.items)) >= items)[self.item]
            if enough.all():
                return dropped
            dropped += self.keep(enough)

    def item_ids(self) -> pa.Array:
        """The items that have an interaction."""
        return self.items.filter(pa.array(_counts(self.item, len(self.items)) > 0))

    def user_ids(self) -> pa.Array:
        """The users that have an interaction."""
        return self.users.filter(pa.array(_counts(self.user, len(self.users)) > 0))

    def counts(self) -> dict[str, int]:
        """Users and items that have an interaction, and the interactions."""
        return {
            "users": int(np.count_nonzero(_counts(self.user, len(self.users)))),
            "items": int(np.count_nonzero(_counts(self.item, len(self.items)))),
            "interactions": len(self),
        }

    def describe(self) -> dict[str, object]:
        """Lengths, ties and the span of time, of rows sorted by time.

        A tie is an interaction at the same time as the same user's one before.
        """
        lengths = _counts(self.user, len(self.users))
        lengths = lengths[lengths > 0]
        ties = (self.user[1:] == self.user[:-1]) & (self.time[1:] == self.time[:-1])
        return {
            "length": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths)),
                "mean": round(float(lengths.mean()), 4),
                "max": int(lengths.max()),
            },
            "time": {"first": int(self.time.min()), "last": int(self.time.max())},
            "ties": int(ties.sum()),
        }


def _counts(codes: np.ndarray, length: int) -> np.ndarray:
    """How often each number below `length` is among the codes, by blocks: numpy copies them."""
    blocks = range(0, len(codes), 16 * _BLOCK)
    counts = (np.bincount(codes[n : n + 16 * _BLOCK], minlength=length) for n in blocks)
    return sum(counts, np.zeros(length, np.int64))


def doubtful_times(time: np.ndarray) -> str | None:
    """What looks wrong with the times (N,) int64 of all interactions, None if nothing does.

    A column of star ratings, or of counts, is easily named in place of that of the times.
    """
    least, most = int(time.min()), int(time.max())
    if least > -_YEAR_S and most < _YEAR_S:
        what = f"all times lie between {least} and {most}, which is in or near 1970"
    elif len(time) >= _MANY_ROWS and len(np.unique(time[:_BLOCK])) <= _FEW_TIMES >= (
        different := len(np.unique(time))
    ):
        what = f"{len(time):,} interactions have only {different} different times"
    else:
        return None
    return f"{what}; is the column of the times (--time) the right one?"


def mixed_units(time: np.ndarray) -> str | None:
    """How many of the times (N,) int64 look like each unit; None if they look like one.

    A number is of one unit alone if it is a time of the years 1973 to 5138.
    """
    above = [*(int(np.count_nonzero(time >= bound)) for bound in _BOUNDS), 0]
    found = {
        unit: more - less
        for unit, more, less in zip(_UNITS, above[:-1], above[1:], strict=True)
        if more > less
    }
    if len(found) < 2:
        return None
    counts = ", ".join(f"{count:,} like {unit}" for unit, count in found.items())
    return f"the times look to be of different units: {counts}; give all of them in one"


def checked_row(user: object, item: object, rating: object, time: int) -> Row:
    """A row whose ids can stand in an atomic file and whose numbers fit.

    Raises:
        ValueError: an id is no string, is empty, is RecBole's padding or holds a control character;
            a rating is no finite number; a time is outside int64.
    """
    for name, token in (("user", user), ("item", item)):
        if token == PADDING:
            raise ValueError(f"{name} id {token!r} is RecBole's name for no {name}")
        if not isinstance(token, str) or not is_clean_token(token):
            raise ValueError(f"{name} id {token!r:.60} is empty or cannot stand in a line")
    number = rating_of(rating)
    if not -_INT64_MAX - 1 <= time <= _INT64_MAX:
        raise ValueError(f"time {time} does not fit 64 bits")
    return user, item, number, time  # type: ignore[return-value]


def rating_of(value: object) -> float:
    """The number that a rating is.

    Raises:
        ValueError: it is none, or is not finite.
    """
    try:
        if isinstance(value, str) and "_" in value:  # Python's way to group digits, no one else's
            raise ValueError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"rating {value!r:.60} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"rating {value!r:.60} is not a finite number")
    return number


def require_rows(data: Interactions, after: str, remedy: str) -> None:
    """Raise ConversionError if no interaction is left."""
    if not len(data):
        raise ConversionError(f"no interaction is left after {after}; {remedy}")
