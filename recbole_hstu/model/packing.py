"""Rows of unequal length as one table of tokens, so that padding costs nothing.

Rows are ordered by length and gathered in groups whose lengths differ by a factor of two at most
(the shortest form one): linear layers see the T real tokens, attention sees each group padded to
its own longest row. Nothing depends on who else is in the batch.
"""

from __future__ import annotations

from bisect import bisect_right
from math import prod
from typing import NamedTuple

import torch

# Rows up to this long form one group: for so few positions a group costs more than its padding.
LEAST_WIDTH = 8


class Group(NamedTuple):
    """Consecutive rows in packed order, padded to the longest of them."""

    rows: slice
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.width


class Packing:
    """The order in which the rows of a batch are packed.

    Args:
        lengths: (B,) int64, at least 1 each.
        one_group: pad all rows to the longest, as a GPU prefers.
    """

    def __init__(self, lengths: torch.Tensor, *, one_group: bool = False):
        if int(lengths.min()) < 1:
            raise ValueError("a history must hold at least one item")
        self.order = torch.argsort(lengths, stable=True)
        self.lengths = lengths[self.order]
        self.width = int(self.lengths[-1])
        self.inside = torch.arange(self.width, device=lengths.device) < self.lengths.unsqueeze(1)
        self.positions = self.inside.nonzero()[:, 1]  # (T,) place of each token in its row
        self.last = self.lengths.cumsum(0) - 1  # (B,) token of each row's last position
        self.groups = list(self._make_groups(one_group))
        inside = [self.inside[group.rows, : group.width].flatten() for group in self.groups]
        self.slots = torch.cat(inside).nonzero().squeeze(1)  # (T,) place among all padded groups

    def _make_groups(self, one_group: bool):
        sizes = self.lengths.tolist()
        start = 0
        while start < len(sizes):
            limit = self.width if one_group else max(LEAST_WIDTH, 1 << sizes[start].bit_length())
            stop = bisect_right(sizes, limit, lo=start)
            yield Group(slice(start, stop), sizes[stop - 1])
            start = stop

    def pad(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """(T, F) -> (rows, width, F) of every group, zeros at padding."""
        sizes = [prod(group.shape) for group in self.groups]
        grid = tokens.new_zeros(sum(sizes), tokens.shape[-1])
        parts = grid.index_copy(0, self.slots, tokens).split(sizes)
        return [part.unflatten(0, g.shape) for part, g in zip(parts, self.groups, strict=True)]

    def unpad(self, grids: list[torch.Tensor]) -> torch.Tensor:
        """(rows, width, F) of every group -> (T, F)."""
        return torch.cat([grid.flatten(0, 1) for grid in grids]).index_select(0, self.slots)

    def pack(self, grid: torch.Tensor) -> torch.Tensor:
        """(B, L) or (B, L, F) in batch order, right-padded -> (T,) or (T, F)."""
        return grid[self.order, : self.width][self.inside]

    def unorder(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, ...) in packed order -> batch order."""
        return torch.empty_like(rows).index_copy(0, self.order, rows)


def tokens_of(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(T,) bool in the packed order of a batch with these `lengths` (B,): the tokens of the given
    rows (b,), which a `Packing` of those rows alone has in the same order."""
    wanted = torch.zeros_like(lengths, dtype=torch.bool)
    wanted[rows] = True
    order = torch.argsort(lengths, stable=True)
    return wanted[order].repeat_interleave(lengths[order])
