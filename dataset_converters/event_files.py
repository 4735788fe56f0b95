"""The interactions as files, written by columns: `.inter`, and Parquet beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_converters.atomic import INTER_HEADER
from dataset_converters.ids import ID
from dataset_converters.interactions import Interactions
from dataset_converters.reading.letters import letters_of

_ROWS = 1 << 18  # written at a time


def write_interactions(path: Path, data: Interactions) -> None:
    """Write the interactions as `atomic.write_rows` would, some rows at a time."""
    users = _joined("\n", _fields(data.users))  # each ends the line before
    items = _fields(data.items)
    with path.open("wb") as file:
        file.write("\t".join(INTER_HEADER).encode())
        for start in range(0, len(data), _ROWS):
            rows = slice(start, start + _ROWS)
            columns = (
                users.take(pa.array(data.user[rows])),
                items.take(pa.array(data.item[rows])),
                _numbers(data.rating[rows]),
                pa.array(data.time[rows]).cast(ID),
            )
            file.write(letters_of(_joined(*columns, separator="\t")).data)
        file.write(b"\n")


def write_parquet(path: Path, data: Interactions) -> None:
    """Write the interactions under the names of the `.inter` file, ids as dictionaries: those of
    a row group are its own ids, in the order in which they occur."""
    names = [column.partition(":")[0] for column in INTER_HEADER]
    types = [pa.dictionary(pa.int32(), pa.string())] * 2 + [pa.float64(), pa.int64()]
    schema = pa.schema(list(zip(names, types, strict=True)))
    *repeat, times = names
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=repeat,
        column_encoding={times: "DELTA_BINARY_PACKED"},
    ) as file:
        for start in range(0, len(data), _ROWS):
            rows = slice(start, start + _ROWS)
            columns = [
                _own_dictionary(data.users, data.user[rows]),
                _own_dictionary(data.items, data.item[rows]),
                pa.array(data.rating[rows]),
                pa.array(data.time[rows]),
            ]
            file.write_table(pa.table(columns, schema=schema))


def _own_dictionary(ids: pa.Array, codes: np.ndarray) -> pa.DictionaryArray:
    """Rows (N,) of ids by their numbers (N,), with a dictionary of the ids that occur."""
    own = pa.array(codes).dictionary_encode()
    return pa.DictionaryArray.from_arrays(own.indices, ids.take(own.dictionary).cast(pa.string()))


def _fields(ids: pa.Array) -> pa.Array:
    """Ids as they stand in a tab-separated file: one with a quote is quoted."""
    quoted = pc.match_substring(ids, '"')
    if not pc.any(quoted).as_py():
        return ids
    doubled = pc.replace_substring(ids, '"', '""')
    return pc.if_else(quoted, _joined('"', doubled, '"'), ids)


def _joined(*parts: pa.Array | str, separator: str = "") -> pa.Array:
    texts = [pa.scalar(part, ID) if isinstance(part, str) else part for part in (*parts, separator)]
    return pc.binary_join_element_wise(*texts)


def _numbers(values: np.ndarray) -> pa.Array:
    """Numbers as Python writes them; by their bits, since -0.0 equals 0.0."""
    different = pa.array(values.view(np.int64)).dictionary_encode()
    numbers = different.dictionary.to_numpy().view(np.float64).tolist()
    return pa.array(map(repr, numbers), ID).take(different.indices)
