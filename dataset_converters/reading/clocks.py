"""Times of a whole column: whole numbers, or dates of the usual forms; others are left to be read
one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.reading.letters import letters_of

_NUMBER = "^-?[0-9]{1,18}$"  # of 64 bits for certain
_DATE = "^[12][0-9]{3}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-9]{2})?$"
_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def whole_numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers (N,) int64 of texts or numbers, and a mask (N,) of those that are certain."""
    if pa.types.is_string(column.type):
        plain = _whole_column(column)
        if plain is not None:
            return plain, np.ones(len(column), bool)
        return _cast(column, _mask(pc.match_substring_regex(column, _NUMBER)))
    if pa.types.is_integer(column.type) and column.type != pa.uint64():
        return _cast(column, _mask(column.is_valid()))
    return _uncertain(len(column))


def _whole_column(column: pa.Array) -> np.ndarray | None:
    """The numbers (N,) of a column where every text is one; the usual case, at a third of the cost.

    Between the minus and the nine lie the digits, the point and the slash; Arrow refuses the last
    two, and knows nothing else that these letters spell.
    """
    letters = letters_of(column)
    if column.null_count or not len(letters):
        return None
    if letters.min() < ord("-") or letters.max() > ord("9"):
        return None
    try:
        return column.cast(pa.int64()).to_numpy().copy()
    except pa.ArrowInvalid:
        return None


def seconds_of_dates(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970 UTC (N,) int64 of ISO dates without a zone, and a mask (N,) as above."""
    if not pa.types.is_string(column.type):
        return _uncertain(len(column))
    return _cast(column, _mask(pc.match_substring_regex(column, _DATE)), pa.timestamp("s"))


def ticks(column: pa.Array) -> tuple[np.ndarray, int, np.ndarray]:
    """Counts (N,) int64 of a column of timestamps, how many make a second, and a mask (N,)."""
    valid = _mask(column.is_valid())
    return column.cast(pa.int64()).fill_null(0).to_numpy(), _A_SECOND[column.type.unit], valid


def _cast(
    column: pa.Array, mask: np.ndarray, kind: pa.DataType | None = None
) -> tuple[np.ndarray, np.ndarray]:
    chosen = column if mask.all() else column.filter(pa.array(mask))
    try:
        numbers = chosen.cast(kind or pa.int64()).cast(pa.int64()).to_numpy()
    except pa.ArrowException:  # one of the dates does not exist
        return _uncertain(len(column))
    values = np.zeros(len(column), np.int64)
    values[mask] = numbers
    return values, mask


def _mask(array: pa.Array) -> np.ndarray:
    return array.fill_null(False).to_numpy(zero_copy_only=False)


def _uncertain(length: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(length, np.int64), np.zeros(length, bool)
