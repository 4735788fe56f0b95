"""Stochastic length: training on random subsequences of long histories (HSTU, section 3.2)."""

from __future__ import annotations

import torch


def kept_events(
    lengths: torch.Tensor, *, alpha: float, longest: int, generator: torch.Generator
) -> torch.Tensor:
    """Which events of each history a step trains on, (B, L) bool.

    With N the longest history, one of n > N^(alpha/2) events is kept whole with probability
    N^alpha / n^2; otherwise N^(alpha/2) of its events are drawn, without replacement, and keep
    their order. An epoch so costs O(N^alpha) a user in attention instead of O(N^2).

    Args:
        lengths: (B,) int64, at most `longest` each.
        alpha: above 1, at most 2; 2 keeps everything.
        longest: N.
        generator: of the device of `lengths`.
    """
    target = int(longest ** (alpha / 2))
    device = lengths.device
    inside = torch.arange(int(lengths.max()), device=device) < lengths.unsqueeze(1)
    whole = torch.rand(len(lengths), generator=generator, device=device)
    shorten = (lengths > target) & (whole >= longest**alpha / lengths.double() ** 2)
    order = torch.rand(inside.shape, generator=generator, device=device)
    place = order.masked_fill(~inside, 2).argsort(1).argsort(1)  # events first, in random order
    return inside & ((place < target) | ~shorten.unsqueeze(1))


def keep(grid: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """(B, L) values -> the kept ones of each row, in order, right-padded with 0."""
    order = (~kept).long().argsort(dim=1, stable=True)[:, : int(kept.sum(1).max())]
    width = kept.shape[1]
    return (grid[:, :width] * kept).gather(1, order)
