"""Whether times count seconds or milliseconds."""

from __future__ import annotations

from recbole_hstu.support.errors import InputError

# Seconds reach this in the year 5138; milliseconds reached it in 1973.
_MILLISECONDS_FROM = 1e11
# Milliseconds reach this in the year 5138; microseconds reached it in 1973.
_FINER_FROM = 1e14


def ticks_a_second(time: float) -> int:
    """1000 where a time is one of milliseconds, else 1.

    Raises:
        InputError: a time of a finer unit.
    """
    if time >= _FINER_FROM:
        raise InputError(
            f"time {time:.0f} is neither in seconds nor in milliseconds; convert the data set with "
            "one of these"
        )
    return 1000 if time >= _MILLISECONDS_FROM else 1


def unit_name(time: float) -> str | None:
    """`ms` or `s`; None for a finer unit."""
    try:
        return "ms" if ticks_a_second(time) == 1000 else "s"
    except InputError:
        return None
