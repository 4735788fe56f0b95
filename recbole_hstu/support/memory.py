"""Memory that a training step frees is kept for the next step."""

from __future__ import annotations

import ctypes

# glibc's mallopt(3) parameters.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc not to hand large blocks back to the system.

    By default every tensor above a few megabytes is mapped and unmapped anew, page by page: on a
    CPU that takes more than a third of the time of RecBole's SASRec (benchmarks/allocator.py
    measures it). Returns whether the setting took effect; elsewhere (musl, macOS, Windows)
    nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
