"""A long table written part by part as CSV, JSON lines or Parquet, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from recbole_hstu.support.errors import InputError, writing
from recbole_hstu.support.files.whole_file import whole_file

Write = Callable[[pd.DataFrame], None]
KINDS = (".csv", ".jsonl", ".parquet")


def check_kind(path: str | Path) -> None:
    """Whether the name says a kind of file that can be written.

    Raises:
        InputError: it does not.
    """
    if Path(path).suffix not in KINDS:
        raise InputError(f"{path}: tables are written as {', '.join(KINDS)}")


@contextmanager
def table_file(path: str | Path) -> Iterator[Write]:
    """What takes the parts of a table; the file is there when the block ends well.

    Raises:
        InputError: see `check_kind`; the file cannot be written.
    """
    check_kind(path)
    kind = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[Path(path).suffix]
    with writing(path), whole_file(path) as stream, kind(stream) as write:
        yield write


@contextmanager
def _csv(stream: IO[bytes]) -> Iterator[Write]:
    header = True

    def write(table: pd.DataFrame) -> None:
        nonlocal header
        stream.write(table.to_csv(index=False, header=header).encode("utf-8"))
        header = False

    yield write


@contextmanager
def _json_lines(stream: IO[bytes]) -> Iterator[Write]:
    def write(table: pd.DataFrame) -> None:
        if not len(table):  # pandas writes a blank line
            return
        # The most digits behind the point that pandas writes: those of a float32 down to 1e-8.
        text = table.to_json(orient="records", lines=True, force_ascii=False, double_precision=15)
        stream.write(text.encode("utf-8"))

    yield write


@contextmanager
def _parquet(stream: IO[bytes]) -> Iterator[Write]:
    writer: Any = None

    def write(table: pd.DataFrame) -> None:
        nonlocal writer
        part = pyarrow.Table.from_pandas(table, preserve_index=False)
        if writer is None:
            writer = pyarrow.parquet.ParquetWriter(stream, part.schema)
        writer.write_table(part)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
