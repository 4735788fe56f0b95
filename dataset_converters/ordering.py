"""Sorting by whole numbers."""

from __future__ import annotations

import numpy as np

_BITS = 64
_BLOCK = 1 << 20


def stable_order(keys: np.ndarray) -> np.ndarray:
    """Indices (N,) int64 that sort the `keys` (N,) uint64; ties keep their order.

    Key and place go into one number where both fit: numbers are sorted several times faster than
    indices are. The keys are overwritten, for there may be many.
    """
    places = max(len(keys) - 1, 0).bit_length()
    if len(keys) and int(keys.max()) >> (_BITS - places):
        return np.argsort(keys, kind="stable")
    keys <<= np.uint64(places)
    for start in range(0, len(keys), _BLOCK):
        stop = min(start + _BLOCK, len(keys))
        keys[start:stop] |= np.arange(start, stop, dtype=np.uint64)
    keys.sort()
    keys &= np.uint64((1 << places) - 1)
    return keys.view(np.int64)


def unsigned(times: np.ndarray) -> np.ndarray:
    """Whole numbers (N,) int64 as distances (N,) uint64 from the least of them."""
    return times.view(np.uint64) - times.min().view(np.uint64)  # exact: modulo 2**64
