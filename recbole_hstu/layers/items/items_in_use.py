"""The items that a training step touches, when they are fewer than the catalogue."""

from __future__ import annotations

import torch

# To sort an id takes as long as to look at this many items, whether each is in use.
SORTED = 32


class ItemsInUse:
    """Distinct items in ascending order, padding (0) first, and the row of each among them.

    Args:
        n_items: V, padding included.
        *ids: int64 item ids of any shape.
    """

    def __init__(self, n_items: int, *ids: torch.Tensor):
        self._row: torch.Tensor | None = None
        if SORTED * sum(map(torch.numel, ids)) < n_items:
            self.ids = torch.cat(
                [ids[0].new_zeros(1), *(x.flatten() for x in ids)]
            ).unique()  # (U,)
            return
        mark = torch.zeros(n_items, dtype=torch.bool, device=ids[0].device)
        mark[0] = True
        for some in ids:
            mark[some.flatten()] = True
        self.ids = mark.nonzero().squeeze(1)
        self._row = mark.cumsum(0) - 1

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids of any shape -> their rows in a table of the U items in use."""
        return torch.searchsorted(self.ids, ids) if self._row is None else self._row[ids]
