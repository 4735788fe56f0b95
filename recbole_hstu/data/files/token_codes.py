"""Columns of tokens as categories: numbered and counted block by block, in int32.

pandas' and numpy's own ways take 8 bytes a row for every number that passes through them; with a
hundred million interactions that is what fills the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recbole.utils import FeatureType

from recbole_hstu.data.files.item_rows import PADDING

_ROWS_AT_ONCE = 1 << 20


def blocks(n_rows: int, at_once: int = _ROWS_AT_ONCE) -> Iterator[slice]:
    """Slices that cover the rows, in order."""
    return (slice(k, min(k + at_once, n_rows)) for k in range(0, n_rows, at_once))


def count_ids(ids: NDArray, n_ids: int, kept: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """(n_ids,) how often each id occurs in (E,) ids, none of them negative.

    Args:
        kept: (E,) which rows count; all by default.
    """
    counts = np.zeros(n_ids, dtype=np.int64)
    for rows in blocks(len(ids)):
        some = ids[rows] if kept is None else ids[rows][kept[rows]]
        counts += np.bincount(some, minlength=n_ids)
    return counts


def taken(values: NDArray, places: NDArray) -> NDArray:
    """`values[places]`; numpy alone would first make an int64 copy of (E,) int32 places."""
    out = np.empty(len(places), dtype=values.dtype)
    for rows in blocks(len(places)):
        out[rows] = values[places[rows]]
    return out


def hash_tokens(tokens: NDArray[np.str_]) -> NDArray[np.uint64]:
    """SipHash of every token, with pandas' fixed key."""
    hashes = np.empty(len(tokens), dtype=np.uint64)
    for some in blocks(len(tokens)):
        hashes[some] = pd.util.hash_array(tokens[some].astype(object), categorize=False)
    return hashes


def is_coded(column: pd.Series) -> bool:
    """Whether a column holds categories."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def codes_of(column: pd.Series) -> tuple[NDArray, pd.Index]:
    """(E,) code of every row's token, -1 where there is none, and the (V,) tokens."""
    if is_coded(column):
        return column.array.codes, column.cat.categories
    codes, tokens = pd.factorize(column)
    return codes, pd.Index(np.asarray(tokens), dtype=object)


def number_tokens(dataset: Any, remap_list: list[tuple[pd.DataFrame, str, FeatureType]]) -> None:
    """What RecBole's `_remap` does: all tokens of these columns get ids from 1 on, in the order in
    which they first appear; 0 where there is none. `field2token_id` is not filled.
    """
    columns = [_Column(feat, field, ftype) for feat, field, ftype in remap_list]
    if not columns:
        return
    tokens = [column.tokens() for column in columns]
    ids, different = pd.factorize(np.concatenate(tokens))
    names = np.array([PADDING, *different])
    ends = np.cumsum(list(map(len, tokens)))[:-1]
    for column, new in zip(columns, np.split(ids + 1, ends), strict=True):
        dataset.field2id_token.setdefault(column.field, names)
        column.number(new)


class _Column:
    """A column of a frame: tokens, sequences of tokens, or categories."""

    def __init__(self, feat: pd.DataFrame, field: str, ftype: FeatureType):
        self.feat, self.field = feat, field
        self.is_coded, self.is_seq = is_coded(feat[field]), ftype == FeatureType.TOKEN_SEQ

    def tokens(self) -> NDArray[np.object_]:
        """Of every row, or of categories once each, as they appear."""
        values = self.feat[self.field]
        if self.is_coded:
            codes, categories = codes_of(values)
            self._appearing = _by_appearance(codes, len(categories))
            return categories.to_numpy()[self._appearing]
        return values.agg(np.concatenate) if self.is_seq else values.to_numpy()

    def number(self, ids: NDArray[np.int64]) -> None:
        """Put ids in the place of what `tokens` gave."""
        values = self.feat[self.field]
        if self.is_coded:
            codes, categories = codes_of(values)
            of_codes = np.zeros(len(categories) + 1, dtype=np.int32)  # code -1: the padding
            of_codes[self._appearing] = ids
            self.feat[self.field] = taken(of_codes, codes)
        elif self.is_seq:
            self.feat[self.field] = np.split(ids, np.cumsum(values.agg(len))[:-1])
        else:
            self.feat[self.field] = ids


def _by_appearance(codes: NDArray, n_codes: int) -> NDArray[np.int64]:
    """The codes that occur in (E,) codes, by where they first do; -1 is none."""
    first = np.full(n_codes + 1, len(codes))
    for rows in reversed(list(blocks(len(codes)))):  # what is written last stays
        first[codes[rows][::-1]] = np.arange(rows.stop - 1, rows.start - 1, -1)
    first = first[:-1]  # the last one is where -1 wrote
    return np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
