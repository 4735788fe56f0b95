"""A folder of Arrow files: tables whose columns are mapped from disk, not read.

All processes that map a file share its pages. Arrow rather than safetensors, which has neither
texts nor lists of unequal length: frames come back as RecBole made them.

    state.json      what the data set knows beside its tables, and the bytes of every file
    inter.arrow     the interactions, sorted by user and time
    places.arrow    of each of them, its row in RecBole's frame
    starts.arrow    the first interaction of every user that has one
    hashes.arrow    a hash of every user's token, for samples of users
    user.arrow, item.arrow     RecBole's frames, where there are such files
    tokens.N.arrow  the token of every id, the padding first
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recbole_hstu.support.errors import in_a_line

STATE = "state.json"
_ROWS_AT_ONCE = 1 << 22


class NotWhole(Exception):
    """A folder that is none of ours, or lacks something; the message says what."""


def write_table(folder: Path, name: str, columns: dict[str, Any] | pd.DataFrame) -> None:
    """Write `name.arrow`, one batch of all rows.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    if isinstance(columns, pd.DataFrame):
        table = pa.Table.from_pandas(columns, preserve_index=False)
    else:
        table = pa.table({key: _array(values) for key, values in columns.items()})
    table = table.combine_chunks().replace_schema_metadata(None)
    with (
        pa.OSFile(str(folder / f"{name}.arrow"), "wb") as stream,
        pa.ipc.new_file(stream, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=max(1, table.num_rows))


def _array(values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        parts = (values[k : k + _ROWS_AT_ONCE] for k in range(0, len(values), _ROWS_AT_ONCE))
        return pa.chunked_array(
            [pa.array(part.astype(object), pa.large_string()) for part in parts]
        )
    return pa.array(values)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what the data set knows, last of all."""
    sizes = {file.name: file.stat().st_size for file in sorted(folder.glob("*.arrow"))}
    (folder / STATE).write_text(json.dumps(state | {"files": sizes}), encoding="utf-8")


def read_state(folder: Path) -> dict[str, Any]:
    """What `write_state` wrote, of a folder with all its files in full length.

    Raises:
        NotWhole: it is not, or there is no such folder.
    """
    try:
        state = json.loads((folder / STATE).read_bytes())
        for name, size in state["files"].items():
            if (found := (folder / name).stat().st_size) != size:
                raise NotWhole(f"{name} has {found:,} bytes, not {size:,}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotWhole(in_a_line(error)) from error
    return state


def map_table(folder: Path, name: str) -> pa.Table:
    """A table whose columns lie in the file.

    Raises:
        NotWhole: the file is none of Arrow's.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(folder / f"{name}.arrow"))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise NotWhole(f"{name}.arrow: {in_a_line(error)}") from error


def mapped(table: pa.Table, field: str) -> np.ndarray:
    """A column of numbers `(E,)` where it lies; it cannot be written to."""
    column = table[field]
    return column.chunk(0).to_numpy() if column.num_chunks else column.to_numpy()
