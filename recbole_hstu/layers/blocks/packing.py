"""Rows of unequal length as one table of tokens, so that padding costs nothing.

The T tokens lie in lines: rows share a line, out of each other's sight, as far as they fit; long
rows lie in groups of lines, whose lengths differ by a factor of two at most. Nothing depends on who
else is in the batch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from math import prod

import torch

# Rows up to this long share lines: for so few positions a group costs more than what it computes
# in vain.
SHARED_WIDTH = 128


class Packing:
    """The order in which the rows of a batch are packed, and their slots in groups of lines.

    Args:
        lengths: (B,) int64, at least 1 each.
        one_group: lines as wide as the longest row for all, as a GPU prefers.
    """

    def __init__(self, lengths: torch.Tensor, *, one_group: bool = False):
        self.order = torch.argsort(lengths, stable=True)
        lengths = lengths[self.order]
        sizes = lengths.tolist()
        if sizes[0] < 1:
            raise ValueError("a history must hold at least one item")
        n_tokens = sum(sizes)
        end = lengths.cumsum(0)
        self.last = end - 1  # (B,) token of each row's last position
        row = torch.repeat_interleave(lengths, output_size=n_tokens)  # (T,) of each token
        self.row = row + 1  # 0 is padding's
        self.source = self.order[row]  # (T,) row of the batch
        self.positions = torch.arange(n_tokens, device=lengths.device) - (end - lengths)[row]
        starts, self.groups = _places(sizes, sizes[-1] if one_group else SHARED_WIDTH)
        first = torch.tensor(starts).to(lengths.device, non_blocking=True)
        self.slots = first[row] + self.positions  # (T,) place among the S slots of all groups

    def pad(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T, F) -> (S, F), zeros at padding."""
        slots = tokens.new_zeros(sum(map(prod, self.groups)), tokens.shape[-1])
        return slots.index_copy(0, self.slots, tokens)

    def unpad(self, slots: torch.Tensor) -> torch.Tensor:
        """(S, F) -> (T, F)."""
        return slots.index_select(0, self.slots)

    def lines(self, slots: torch.Tensor) -> list[torch.Tensor]:
        """(S, F) -> views of every group, (lines, width, F)."""
        parts = slots.split([prod(group) for group in self.groups])
        return [part.unflatten(0, group) for part, group in zip(parts, self.groups, strict=True)]

    def pack(self, grid: torch.Tensor) -> torch.Tensor:
        """(B, L) or (B, L, F) in batch order, right-padded -> (T,) or (T, F)."""
        return grid[self.source, self.positions]

    def unorder(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, ...) in packed order -> batch order."""
        return torch.empty_like(rows).index_copy(0, self.order, rows)


def _places(lengths: list[int], shared: int) -> tuple[list[int], list[tuple[int, int]]]:
    """The first slot of each row, and the lines and the width of each group.

    Args:
        lengths: of the rows, rising.
        shared: up to which length rows form one group.
    """
    starts: list[int] = []
    groups: list[tuple[int, int]] = []
    before = 0  # slots of the groups so far
    while len(starts) < len(lengths):
        first = len(starts)
        limit = max(shared, 1 << lengths[first].bit_length())
        rows = lengths[first : bisect_right(lengths, limit)]
        slots, n_lines = _fill_lines(rows)
        starts += [before + slot for slot in slots]
        groups.append((n_lines, rows[-1]))
        before += prod(groups[-1])
    return starts, groups


def _fill_lines(lengths: list[int]) -> tuple[list[int], int]:
    """The first slot of each row in lines as wide as the longest, and how many lines there are:
    the longest first, each where it leaves the least (best-fit decreasing).

    Args:
        lengths: of the rows, rising.
    """
    starts, n_lines, width = [0] * len(lengths), 0, lengths[-1]
    free: list[tuple[int, int]] = []  # slots left at the end of a line, and its number; rising
    for row in reversed(range(len(lengths))):
        fit = bisect_left(free, (lengths[row],))
        if fit == len(free):
            free.append((width, n_lines))
            n_lines += 1
        left, line = free.pop(fit)
        starts[row] = (line + 1) * width - left
        insort(free, (left - lengths[row], line))
    return starts, n_lines
