"""The sparse ids of COBRA: the items that share the first codes of their semantic ids."""

from __future__ import annotations

import torch
from torch import nn


class SparseIds(nn.Module):
    """Numbers the different beginnings of semantic ids, and lists the items that have each.

    Args:
        codes: (V, levels) int64, row 0 is the padding.
        n_levels: how many of the levels make a sparse id.

    Attributes:
        of_item: (V,) int64 the sparse id of an item, 0 for the padding.
        n_ids: C, how many there are.
    """

    of_item: torch.Tensor
    _items: torch.Tensor

    def __init__(self, codes: torch.Tensor, n_levels: int):
        super().__init__()
        distinct, numbers = torch.unique(codes[1:, :n_levels], dim=0, return_inverse=True)
        self.n_ids = len(distinct)
        self.register_buffer("of_item", torch.cat([numbers.new_zeros(1), numbers]), False)
        order = torch.argsort(numbers, stable=True) + 1
        self.register_buffer("_items", order, persistent=False)
        self._ends = torch.bincount(numbers, minlength=self.n_ids).cumsum(0).tolist()

    def items(self, number: int) -> torch.Tensor:
        """(n,) the items that have a sparse id."""
        start = self._ends[number - 1] if number else 0
        return self._items[start : self._ends[number]]
