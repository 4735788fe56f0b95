"""Stochastic length: training on random subsequences of long histories (HSTU, section 3.2)."""

from __future__ import annotations

import torch


def kept_lengths(
    lengths: torch.Tensor, chance: torch.Tensor, *, alpha: float, longest: int
) -> torch.Tensor:
    """How many events of each history a step trains on, (B,) int64.

    With N the longest history, one of n > N^(alpha/2) events is kept whole with probability
    N^alpha / n^2; otherwise N^(alpha/2) of its events are kept. An epoch so costs O(N^alpha) a
    user in attention instead of O(N^2).

    Args:
        lengths: (B,) int64, at most `longest` each.
        chance: (B,) uniform random numbers.
        alpha: above 1, at most 2; 2 keeps everything.
        longest: N.
    """
    target = int(longest ** (alpha / 2))
    shorten = (lengths > target) & (chance >= longest**alpha / lengths.double() ** 2)
    return torch.where(shorten, target, lengths)


def kept_events(lengths: torch.Tensor, kept: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Which events of each history are kept, (B, L) bool: drawn without replacement.

    Args:
        lengths: (B,) int64.
        kept: (B,) int64, how many of them.
        order: (B, L) uniform random numbers, L the longest history's length or more.
    """
    inside = torch.arange(order.shape[1], device=order.device) < lengths.unsqueeze(1)
    place = order.masked_fill(~inside, 2).argsort(1).argsort(1)  # events first, in random order
    return inside & (place < kept.unsqueeze(1))


def keep(grid: torch.Tensor, kept: torch.Tensor, width: int) -> torch.Tensor:
    """(B, L) values -> (B, width): the kept ones of each row, in order, right-padded with 0."""
    order = (~kept).long().argsort(dim=1, stable=True)[:, :width]
    return (grid[:, : kept.shape[1]] * kept).gather(1, order)
