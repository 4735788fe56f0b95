"""A column of ids as numbers: what stands in a line is judged and numbered by columns."""

from __future__ import annotations

from array import array
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.reading.clean_text import PADDING
from dataset_converters.reading.letters import letters_of

ID = pa.large_string()  # all ids of a column may be more than 2 GiB
_WAITING = 1 << 26  # bytes
_DELETE = 0x7F
_KINDS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)


class Ids:
    """The ids of one column and their numbers, in the order in which they were met.

    Ids wait until there are enough of them to pay for a new table of all: 64 MiB, or as many bytes
    as the known ids have. So memory is bounded by the different ids, not by the rows. They are
    numbered in a thread of the column's own, while further ones are read.
    """

    def __init__(self) -> None:
        self._known = pa.array([], ID)
        self._waiting: list[pa.Array] = []
        self._bytes = 0
        self._codes = array("i")
        self._thread = ThreadPoolExecutor(1)
        self._numbered: Future[None] | None = None

    def append(self, ids: pa.Array) -> None:
        """Add rows (N,) of type `ID`, none of them null."""
        self._waiting.append(ids)
        self._bytes += ids.nbytes
        if self._bytes > max(_WAITING, self._known.nbytes):
            self._start()

    def finish(self) -> tuple[pa.Array, np.ndarray]:
        """The different ids, and the number (N,) int32 of each row's."""
        self._start()
        self._thread.shutdown()
        self._wait()
        return self._known, np.frombuffer(self._codes or b"", np.int32)

    def _start(self) -> None:
        self._wait()
        self._numbered = self._thread.submit(self._number, self._waiting)
        self._waiting, self._bytes = [], 0

    def _wait(self) -> None:
        if self._numbered is not None:
            self._numbered.result()

    def _number(self, waiting: list[pa.Array]) -> None:
        known = [self._known] if len(self._known) else []  # Arrow leaves empty chunks out
        chunks = pa.chunked_array([*known, *waiting], ID).dictionary_encode().chunks
        for chunk in chunks[len(known) :]:
            self._known = chunk.dictionary  # that of all chunks
            self._codes.frombytes(chunk.indices.to_numpy().tobytes())


def as_ids(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The column as ids (N,), and a mask (N,) of those that `is_clean_token` takes for certain."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not any(test(column.type) for test in _KINDS):
        return pa.nulls(len(column), ID), np.zeros(len(column), bool)
    ids = column.cast(ID)
    clean = pc.and_(pc.greater(pc.binary_length(ids), 0), pc.not_equal(ids, PADDING))
    if _may_hold_controls(ids):
        clean = pc.and_not(clean, pc.match_substring_regex(ids, r"[\x00-\x1f\x7f]"))
    return ids, clean.fill_null(False).to_numpy(zero_copy_only=False)


def _may_hold_controls(ids: pa.Array) -> bool:
    letters = letters_of(ids)
    return bool(len(letters)) and bool(letters.min() < ord(" ") or (letters == _DELETE).any())
