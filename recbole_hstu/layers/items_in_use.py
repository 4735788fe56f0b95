"""The items that a training step touches, when they are fewer than the catalogue."""

from __future__ import annotations

import torch


class ItemsInUse:
    """Distinct items in ascending order, padding (0) first, and the row of each among them.

    Args:
        n_items: V, padding included.
        *ids: int64 item ids of any shape.
    """

    def __init__(self, n_items: int, *ids: torch.Tensor):
        mark = torch.zeros(n_items, dtype=torch.bool, device=ids[0].device)
        mark[0] = True
        for some in ids:
            mark[some.flatten()] = True
        self.ids = mark.nonzero().squeeze(1)  # (U,)
        self._row = mark.cumsum(0) - 1

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids of any shape -> their rows in a table of the U items in use."""
        return self._row[ids]
