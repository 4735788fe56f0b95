"""Whether times count seconds or milliseconds."""

from __future__ import annotations

# Seconds reach this in the year 5138; milliseconds reached it in 1973.
_MILLISECONDS_FROM = 1e11


def ticks_a_second(time: float) -> int:
    """1000 where a time is one of milliseconds, else 1."""
    return 1000 if time >= _MILLISECONDS_FROM else 1
