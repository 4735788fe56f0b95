"""The times of one's own data: whole numbers, or ISO dates of every form."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
from dateutil.parser import isoparse

from dataset_converters.reading.clocks import seconds_of_dates, ticks, whole_numbers

logger = logging.getLogger(__name__)

UNITS = {"s": timedelta(seconds=1), "ms": timedelta(milliseconds=1)}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_SECOND, _LAST_SECOND = (  # of the years that Python has, and so a date of text
    (end.replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(seconds=1)
    for end in (datetime.min, datetime.max)
)
_INTEGER = re.compile(r"-?[0-9]+(?:\.0*)?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d", re.ASCII)


class Clock:
    """Reads times, all of one `kind`: "number", whole and kept as it is, or "date"."""

    def __init__(self, unit: str | None, settings: dict[str, object], file: str) -> None:
        self.kind = ""
        self._asked, self._unit = unit, UNITS[unit or "s"]
        self._settings = settings
        self._file = file

    def of_column(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """The times (N,) that are certain to be of the clock's kind, and a mask of them."""
        for scalar in () if self.kind else column:
            with suppress(ValueError, OverflowError):
                value = scalar.as_py()
                self._decide("number" if _whole_number(value) is not None else _kind_of_date(value))
                break
        if self.kind == "number":
            return whole_numbers(column)
        if pa.types.is_timestamp(column.type):
            return self._of_timestamps(column)
        seconds, certain = seconds_of_dates(column)
        return seconds * (timedelta(seconds=1) // self._unit), certain

    def _decide(self, kind: str) -> None:
        self.kind = kind
        if kind == "number" and self._asked:
            logger.warning(
                "%s: the times are whole numbers and stay as they are: --time_unit=%s changes "
                "nothing but dates",
                self._file,
                self._asked,
            )

    def _of_timestamps(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        values, a_second, valid = ticks(column)
        seconds = values // a_second
        valid = valid & (seconds >= _FIRST_SECOND) & (seconds <= _LAST_SECOND)
        wanted = timedelta(seconds=1) // self._unit
        if a_second <= wanted:
            return values * (wanted // a_second), valid
        times, rest = np.divmod(values, a_second // wanted)
        return times, valid & (rest == 0)  # the others are counted one by one

    def read(self, value: object) -> int:
        """A whole number as it is, a date in the clock's unit. Raises ValueError for all else."""
        number = _whole_number(value)
        kind = "date" if number is None else "number"
        time = self._of_date(value) if number is None else number
        if not self.kind:
            self._decide(kind)
        if kind != self.kind:
            raise ValueError(f"time {value!r} is a {kind}, those before it were not")
        return time

    def _of_date(self, value: object) -> int:
        moment = _date(value)
        time, rest = divmod(moment - _EPOCH, self._unit)
        if rest:
            self._settings["dates_rounded_down"] = (
                int(str(self._settings["dates_rounded_down"])) + 1
            )
        return time


def _whole_number(value: object) -> int | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value.strip().split(".")[0])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"time {value!r} has a fraction")
        return int(value)
    return None


def _date(value: object) -> datetime:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        moment = _iso_date(value)
    else:
        raise ValueError(f"time {value!r:.60} is no whole number and no ISO date")
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment


def _kind_of_date(value: object) -> str:
    """`date`, if `value` is one. Raises ValueError if it is not."""
    _date(value)
    return "date"


def _iso_date(text: str) -> datetime:
    """An ISO 8601 date, with or without a time: `datetime` of Python 3.10 knows one form of it."""
    plain = re.sub(r"(?<=\d)\s+(?=[+-]\d\d:?\d\d$|[zZ]$)", "", text.strip())  # before the zone
    if _DAY.match(plain):  # a year or a month alone is no date
        try:
            return isoparse(plain)
        except ValueError:
            pass
    raise ValueError(f"time {text!r:.60} is no whole number and no ISO date")
