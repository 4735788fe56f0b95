"""Item vectors: the table of ids, computed once a step and gathered from."""

from __future__ import annotations

import torch
from torch import nn


class IdEncoder(nn.Module):
    """A learned vector an item.

    Args:
        n_items: V, padding included.
        hidden_size: D.
    """

    def __init__(self, *, n_items: int, hidden_size: int):
        super().__init__()
        self.ids = nn.Parameter(torch.empty(n_items, hidden_size))
        nn.init.trunc_normal_(self.ids, std=0.02, a=-0.04, b=0.04)

    def forward(self) -> torch.Tensor:
        """The whole table, (V, D)."""
        return self.ids
