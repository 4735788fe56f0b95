"""The interactions as files, written by columns: `.inter`, and Parquet beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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


def write_parquet(path: Path, data: Interactions) -> None:
    """Write the interactions under the names of the `.inter` file, ids as dictionaries."""
    names = [column.partition(":")[0] for column in INTER_HEADER]
    users, items = pa.array(data.users, pa.string()), pa.array(data.items, pa.string())
    ids = (users, data.user), (items, data.item)
    columns = [pa.DictionaryArray.from_arrays(pa.array(codes), tokens) for tokens, codes in ids]
    table = pa.table([*columns, pa.array(data.rating), pa.array(data.time)], names)
    pq.write_table(table, path, row_group_size=_ROWS, compression="zstd")


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
