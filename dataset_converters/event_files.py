"""The `.inter` file, written by columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.atomic import INTER_HEADER
from dataset_converters.interactions import Interactions

_ROWS = 1 << 18  # written at a time


def write_interactions(path: Path, data: Interactions) -> None:
    """Write the interactions as `atomic.write_rows` would, a hundred thousands of rows at once."""
    users, items = _fields(data.users), _fields(data.items)
    with path.open("wb") as file:
        file.write("\t".join(INTER_HEADER).encode() + b"\n")
        for start in range(0, len(data), _ROWS):
            rows = slice(start, start + _ROWS)
            columns = (
                users.take(pa.array(data.user[rows])),
                items.take(pa.array(data.item[rows])),
                _numbers(data.rating[rows]),
                pc.binary_join_element_wise(pa.array(data.time[rows]).cast(pa.string()), "", "\n"),
            )
            lines = pc.binary_join_element_wise(*columns, "\t")
            file.write(lines.buffers()[2])


def _fields(tokens: Sequence[str]) -> pa.Array:
    """Tokens as they stand in a tab-separated file: one with a quote is quoted."""
    return pa.array(
        ['"' + token.replace('"', '""') + '"' if '"' in token else token for token in tokens],
        pa.string(),
    )


def _numbers(values: np.ndarray) -> pa.Array:
    """Numbers as Python writes them; by their bits, since -0.0 equals 0.0."""
    different = pa.array(values.view(np.int64)).dictionary_encode()
    numbers = different.dictionary.to_numpy().view(np.float64).tolist()
    return pa.array(map(repr, numbers), pa.string()).take(different.indices)
