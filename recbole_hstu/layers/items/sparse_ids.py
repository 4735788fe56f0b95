"""The sparse ids of COBRA: the items that share the first codes of their semantic ids."""

from __future__ import annotations

import torch
from torch import nn

from recbole_hstu.support.errors import InputError


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
    _distinct: torch.Tensor  # (C, n_levels)

    def __init__(self, codes: torch.Tensor, n_levels: int):
        super().__init__()
        distinct, numbers = torch.unique(codes[1:, :n_levels], dim=0, return_inverse=True)
        self.n_ids = len(distinct)
        self.register_buffer("_distinct", distinct, persistent=False)
        self._number(numbers)

    def _number(self, numbers: torch.Tensor) -> None:
        """The ids (V - 1,) of the items from 1 on."""
        self.register_buffer("of_item", torch.cat([numbers.new_zeros(1), numbers]), False)
        order = torch.argsort(numbers, stable=True) + 1
        self.register_buffer("_items", order, persistent=False)
        self._ends = torch.bincount(numbers, minlength=self.n_ids).cumsum(0).tolist()

    def add_items(self, codes: torch.Tensor) -> None:
        """Further items behind the others, by the codes (n, levels) of their semantic ids.

        Raises:
            InputError: a beginning that no item has, so that nobody could predict it.
        """
        n_levels = self._distinct.shape[1]
        same = (codes[:, None, :n_levels] == self._distinct).all(-1)  # (n, C)
        lacking = ~same.any(1)
        if lacking.any():
            raise InputError(
                f"add_items: {int(lacking.sum()):,} of {len(codes):,} items begin with codes that "
                f"no item of the training has, such as {codes[lacking][0, :n_levels].tolist()}; "
                "leave them out, or train with fewer id_levels"
            )
        self._number(torch.cat([self.of_item[1:], same.int().argmax(1)]))

    def items(self, number: int) -> torch.Tensor:
        """(n,) the items that have a sparse id."""
        start = self._ends[number - 1] if number else 0
        return self._items[start : self._ends[number]]
