"""Which items a list may hold, whoever it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbole_hstu.evaluation.top_k import Pairs, check_k
from recbole_hstu.serving.checks import token_list
from recbole_hstu.support.errors import InputError


@dataclass(frozen=True)
class AllowedItems:
    """What `candidates` and `exclude` of a request leave.

    Attributes:
        columns: (n,) rising ids that are compared; None for the whole catalogue, the only one that
            an index knows.
        left_out: (m,) ids among them that no list may hold.
        count: how many items are left.
    """

    columns: torch.Tensor | None
    left_out: torch.Tensor
    count: int

    def check_k(self, k: Any) -> None:
        """Raises InputError where fewer than k items are left, or k is no whole number."""
        check_k(k, self.count)

    def barred(self, n_rows: int) -> Pairs:
        """(row, item id): `left_out` of each of these rows."""
        row = torch.arange(n_rows).repeat_interleave(len(self.left_out))
        return row, self.left_out.repeat(n_rows)


def allowed_items(
    n_items: int,
    ids: Callable[[Any], np.ndarray],
    candidates: Any,
    exclude: Any,
    by_row: bool,
) -> AllowedItems:
    """Args:
        n_items: of the catalogue, without the padding.
        ids: of item tokens.
        candidates: tokens of the only items that may be recommended; None for all.
        exclude: tokens of those that may not.
        by_row: leave `exclude` out of each list, so that requests with other ones may be computed
            together, and an index may find the rest; else out of `columns`, which is faster.

    Raises:
        InputError: an unknown item, or none is left.
    """
    columns = None if candidates is None else np.unique(ids(candidates))
    given = () if exclude is None else token_list(exclude, "exclude")
    left_out = np.unique(ids(given)) if given else np.empty(0, dtype=np.int64)
    if columns is not None:
        left_out = np.intersect1d(left_out, columns)
    count = (n_items if columns is None else len(columns)) - len(left_out)
    if not count:
        raise InputError("exclude: no item is left to recommend; allow more or exclude fewer")
    if len(left_out) and not by_row:
        columns = np.arange(1, n_items + 1) if columns is None else columns
        columns, left_out = np.setdiff1d(columns, left_out), left_out[:0]
    kept = None if columns is None else torch.from_numpy(columns)
    return AllowedItems(kept, torch.from_numpy(left_out), count)
