"""The k best items of every row, exactly, over blocks of items: no table (rows, catalogue)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from recbole_hstu.evaluation.ranks import refuse_nan
from recbole_hstu.support.errors import InputError

# Scores that exist at once, 4 MiB, or of the least number of columns: torch's topk is several times
# as fast where a block is much wider than k.
BLOCK_SCORES = 1 << 20
LEAST_BLOCK = 1 << 14

Pairs = tuple[torch.Tensor, torch.Tensor]


def together(*several: Pairs) -> Pairs:
    """Pairs of all of these."""
    rows, columns = zip(*several, strict=True)
    return torch.cat(rows), torch.cat(columns)


def top_k(
    score: Callable[[int, int], torch.Tensor],
    n_rows: int,
    n_columns: int,
    k: int,
    barred: Pairs | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best columns of every row; equal scores stand in the order of their columns.

    Args:
        score: (start, stop) -> (n_rows, stop - start) scores, which may be overwritten.
        k: at most `n_columns`.
        barred: (row, column), (P,) int64 each: pairs left out.

    Returns:
        Scores (n_rows, k), falling, and columns (n_rows, k) int64. A row with fewer than k columns
        ends with -inf; so does one whose other columns score -inf.

    Raises:
        InputError: a score is NaN.
    """
    width = max(LEAST_BLOCK, k, BLOCK_SCORES // max(1, n_rows))
    best: torch.Tensor | None = None
    columns = torch.empty(0, dtype=torch.int64)
    pairs = by_column(barred)
    for start in range(0, n_columns, width):
        stop = min(start + width, n_columns)
        block = score(start, stop)
        bar(block, pairs, start, stop)
        highest = block.amax(1)
        refuse_nan(highest)
        if best is None:
            best, columns = best_of_block(block, k)
            continue
        better = (highest > best[:, -1]).nonzero().squeeze(1)
        if len(better):
            found, place = best_of_block(block[better], k)
            both = torch.cat([best[better], found], dim=1)
            where = torch.cat([columns[better], place + start], dim=1)
            # Columns before this block stand first: a stable sort keeps them there.
            both, order = torch.sort(both, dim=1, descending=True, stable=True)
            best[better], columns[better] = both[:, :k], where.gather(1, order[:, :k])
    assert best is not None
    return best, columns


def check_k(k: Any, most: int) -> None:
    """Whether k is a whole number from 1 to `most`.

    Raises:
        InputError: it is not.
    """
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if not whole or not 1 <= k <= most:
        raise InputError(
            f"k: {k!r} must be a whole number from 1 to the {most:,} items that may be recommended"
        )


def best_of_block(block: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, W) -> scores (B, min(k, W)) and their columns, equal ones in the order of the columns."""
    k = min(k, block.shape[1])
    # topk chooses among equal scores as it likes: rows whose next score equals the last are sorted.
    best, columns = block.topk(min(k + 1, block.shape[1]), dim=1)
    last = best[:, k - 1 : k]
    cut = (best[:, k:] == last) & (last > -torch.inf)
    best, columns = best[:, :k], columns[:, :k]
    if cut.any():
        rows = cut.any(1).nonzero().squeeze(1)
        ranked, order = torch.sort(block[rows], dim=1, descending=True, stable=True)
        best[rows], columns[rows] = ranked[:, :k], order[:, :k]
    columns, order = columns.sort(dim=1)
    best, by_score = best.gather(1, order).sort(dim=1, descending=True, stable=True)
    return best, columns.gather(1, by_score)


def by_column(barred: Pairs | None) -> Pairs | None:
    """(row, column) pairs in the order of their columns, as `bar` takes them."""
    if barred is None or not len(barred[0]):
        return None
    column, order = barred[1].sort()
    return barred[0][order], column


def bar(block: torch.Tensor, barred: Pairs | None, start: int, stop: int) -> None:
    """-inf for the pairs that lie in the columns `start` to `stop` of a block."""
    if barred is None:
        return
    row, column = barred
    ends = torch.tensor([start, stop], device=column.device)
    first, last = torch.searchsorted(column, ends).tolist()
    block[row[first:last], column[first:last] - start] = -torch.inf
