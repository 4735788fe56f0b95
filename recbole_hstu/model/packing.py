"""Rows of unequal length as one table of tokens, so that padding costs nothing.

Rows are ordered by length and gathered in groups whose lengths differ by a factor of two at most
(the shortest form one): linear layers see the T real tokens, attention sees each group padded to
its own longest row. Nothing depends on who else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Rows up to this long form one group: for so few positions a group costs more than its padding.
LEAST_WIDTH = 8


@dataclass(frozen=True)
class Group:
    """Rows of similar length: `tokens` is their slice of the T tokens, `slots` (tokens,) the
    place of each in the padded (rows * width) grid."""

    rows: slice
    tokens: slice
    width: int
    slots: torch.Tensor

    @property
    def n_rows(self) -> int:
        return self.rows.stop - self.rows.start

    def pad(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T, F), all tokens of the batch -> (rows, width, F), zeros at padding."""
        grid = tokens.new_zeros(self.n_rows * self.width, tokens.shape[-1])
        own = tokens[self.tokens]
        return grid.index_copy(0, self.slots, own).view(self.n_rows, self.width, -1)

    def unpad(self, grid: torch.Tensor) -> torch.Tensor:
        """(rows, width, F) -> (tokens of the group, F)."""
        return grid.reshape(self.n_rows * self.width, -1).index_select(0, self.slots)


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

    def _make_groups(self, one_group: bool):
        sizes = self.lengths.tolist()
        start, token = 0, 0
        while start < len(sizes):
            limit = self.width if one_group else max(LEAST_WIDTH, 1 << sizes[start].bit_length())
            stop = start
            while stop < len(sizes) and sizes[stop] <= limit:
                stop += 1
            n_tokens, width = sum(sizes[start:stop]), sizes[stop - 1]
            slots = self.inside[start:stop, :width].flatten().nonzero().squeeze(1)
            yield Group(slice(start, stop), slice(token, token + n_tokens), width, slots)
            start, token = stop, token + n_tokens

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
