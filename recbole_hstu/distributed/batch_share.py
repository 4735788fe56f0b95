"""A process's rows of a batch, and what it knows of the others' without reading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BatchShare:
    """Some rows of a batch of B rows.

    Attributes:
        places: (b,) int64, rising: which rows they are.
        size: B.
        lengths: (B,) int64, the history lengths of all rows, or how many positions of each are a
            window's own; on the CPU; None where rows have none.
        idle: the batch has fewer rows than there are processes, and this one computes its first
            row in vain.
    """

    places: torch.Tensor
    size: int
    lengths: torch.Tensor | None = None
    idle: bool = False

    @property
    def weight(self) -> float:
        """The part of the batch's rows."""
        return len(self.places) / self.size

    def of(self, rows: torch.Tensor) -> BatchShare:
        """Some of these rows, as if they and no others were here."""
        return BatchShare(self.places[rows], self.size, self.lengths)

    def alone(self) -> BatchShare:
        """These rows as a batch of their own."""
        own = None if self.lengths is None else self.lengths[self.places]
        return BatchShare(torch.arange(len(self.places)), len(self.places), own)


def whole_batch(lengths: torch.Tensor) -> BatchShare:
    """All rows of a batch with these history lengths (B,)."""
    return BatchShare(torch.arange(len(lengths)), len(lengths), lengths.cpu())


def own_places(size: int, place: int, processes: int) -> tuple[Sequence[int], bool]:
    """Which of `size` rows are the process's, and whether it is idle."""
    own = range(place, size, processes)
    return (own, False) if own else (range(1), True)
