"""The letters of a whole column of texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def letters_of(column: pa.Array) -> np.ndarray:
    """All bytes (M,) uint8 of a column of texts, one text after the other, without a copy."""
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, letters = column.buffers()
    if letters is None or not len(column):
        return np.empty(0, np.uint8)
    first, last = np.frombuffer(offsets, kind)[[column.offset, column.offset + len(column)]]
    return np.frombuffer(letters, np.uint8)[first:last]
