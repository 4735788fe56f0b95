"""Histories of many lengths in lists of one width, padded on the right with zeros."""

from __future__ import annotations

from collections.abc import Mapping

import torch

# Histories up to this long form one range, longer ones a range for each doubling: a list is at
# most twice as wide as its history.
SHORT = 8


def length_ranges(lengths: torch.Tensor) -> torch.Tensor:
    """The range of each length (R,), equal numbers for lengths that are computed together."""
    return lengths.clamp(min=SHORT).log2().ceil()


def beginnings(lists: Mapping[str, torch.Tensor], lengths: torch.Tensor) -> dict[str, torch.Tensor]:
    """The lists (R, N, ...) with nothing behind the first `lengths` (R,) events."""
    begun = {}
    for field, values in lists.items():
        inside = torch.arange(values.shape[1], device=lengths.device) < lengths.unsqueeze(1)
        begun[field] = values * inside.reshape(inside.shape + (1,) * (values.dim() - 2))
    return begun
