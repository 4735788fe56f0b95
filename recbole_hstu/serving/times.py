"""Times as callers give them: whole numbers, in the unit of the data set."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import pandas as pd

from recbole_hstu.support.errors import InputError
from recbole_hstu.support.time_unit import unit_name

# Differences of times must fit int64.
LARGEST_TIME = 2**62
# Smaller numbers may count anything; in seconds this is the year 1973.
_CLEAR_FROM = 10**8
_UNITS = {"s": "seconds", "ms": "milliseconds", None: "microseconds or nanoseconds"}


def whole_numbers(values: Any, what: str = "") -> np.ndarray:
    """Times as int64, without a detour through floats that would round them.

    Args:
        values: (n,) numbers.
        what: the beginning of an error's line.

    Raises:
        InputError: one is no whole number, or above 2**62.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise _no_number(values[0], what) from error
    mixed = array.dtype.kind == "f" and not hasattr(values, "dtype")  # perhaps ints beside floats
    if array.dtype.kind == "O" or mixed:
        array = np.array([_number(value, what) for value in values])
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise _no_number(values[0], what)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(array.astype(np.float64)) < LARGEST_TIME) | (array != np.floor(array))
    for place in np.flatnonzero(bad)[:1]:
        raise InputError(f"{what}{array[place]} is not a whole number below 2**62")
    return array.astype(np.int64)


def _number(value: Any, what: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise _no_number(value, what)
    is_whole = isinstance(value, float) and abs(value) < LARGEST_TIME and value.is_integer()
    return int(value) if is_whole else value


def _no_number(value: Any, what: str) -> InputError:
    return InputError(f"{what}{value!r} is not a whole number{date_as_number(value)}")


def date_as_number(value: Any) -> str:
    """For the end of an error's line: what to write for a date. Empty if it is none.

    Args:
        value: an ISO 8601 text, or a date of Python, numpy or pandas; UTC where it has no zone.
    """
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif not isinstance(value, date | np.datetime64):
            return ""
        when = pd.Timestamp(value).to_pydatetime(warn=False)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        seconds = int(when.timestamp())
    except (ValueError, AttributeError, OverflowError):  # no date, NaT, one before the year 1
        return ""
    return (
        f"; write a date as a number in the unit of the data set: in seconds it is {seconds} (UTC)"
    )


def refuse_other_unit(time: int, newest: int, *, what: str, whose: str) -> None:
    """Whether a time is in the unit of others, as far as the size of both tells it.

    Args:
        time, newest: the time, and the newest of the others.
        what: the beginning of the error's line.
        whose: the others, as the line calls them.

    Raises:
        InputError: one is of seconds, for example, and the other of milliseconds.
    """
    units = _unit(time), _unit(newest)
    alike = time // 10 <= newest and newest // 10 <= time
    if not alike and None not in units and units[0] != units[1]:
        raise InputError(
            f"{what}{time} is in {units[0]}, and the times of {whose} are in {units[1]} (the last "
            f"one is {newest}); give it in {units[1]}"
        )


def check_unit(times: np.ndarray, known: tuple[int, int], what: str) -> None:
    """`refuse_other_unit` for the times (n,) outside of those of the training, of which the first
    and the last are `known`. Between them any time will do: the training had such."""
    first, last = known
    outside = times[(times < first) | (times > last)]
    for time in (outside.min(), outside.max()) if len(outside) else ():
        refuse_other_unit(int(time), last, what=what, whose="the training")


def _unit(time: int) -> str | None:
    """None where it cannot be told."""
    return _UNITS[unit_name(time)] if time >= _CLEAR_FROM else None
