"""Item vectors from ids, of which each process holds a block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from recbole_hstu.distributed.row_blocks import RowBlocks
from recbole_hstu.layers.items.item_encoder import IdEncoder


class ShardedIds(nn.Module):
    """`IdEncoder` over all processes: the same vectors from the same random numbers.

    Args:
        n_items, hidden_size, sparse: of `IdEncoder`.

    Attributes:
        own: the encoder of this process's items alone.
        blocks: which ones they are.
    """

    def __init__(self, *, n_items: int, hidden_size: int, sparse: bool = False):
        super().__init__()
        self.blocks = RowBlocks(n_items)
        self.own = IdEncoder(
            n_items=n_items, hidden_size=hidden_size, sparse=sparse, block=self.blocks.own
        )

    def forward(self, rows: torch.Tensor | None = None):
        """The table of inputs and positives and the table of negatives and candidates.

        Args:
            rows: (U,) int64, rising: two tables (U, D), here they are one. All processes call at
                once. None: what looks up inputs, and the candidates of this process's block.
        """
        if rows is None:
            return LookedUp(self), self.own()[0]
        table = self.fetch(rows)
        return table, table

    def fetch(self, rows: torch.Tensor) -> torch.Tensor:
        """(U,) int64, rising -> (U, D)."""
        return self.blocks.fetch(rows, lambda local: self.own(local)[0])


@dataclass(frozen=True)
class LookedUp:
    """Stands where a table is read by ids, of which no process holds the whole."""

    items: ShardedIds

    @property
    def is_cuda(self) -> bool:
        return self.items.own.ids.is_cuda

    def __getitem__(self, ids: torch.Tensor) -> torch.Tensor:
        """ids of any shape -> their vectors (..., D). All processes call at once."""
        distinct, place = ids.unique(return_inverse=True)
        return self.items.fetch(distinct)[place]
