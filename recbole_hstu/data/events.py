"""Interactions sorted by user and time, in columns as narrow as they are kept on disk.

A batch asks for a few thousand places of a column: what it gets has the type that RecBole gives
the field, the column itself stays as it is, be it in memory or mapped from a file.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction

_WIDE = {torch.int32: torch.int64, torch.float64: torch.float32}


class Events(Interaction):
    """(E,) events; RecBole's Interaction, whose columns may be int32 for ids, float64 for floats.

    Args:
        columns: field -> (E, ...) tensor; they are never written to.
        starts: (U,) int64, the first event of every user that has one, in order.
    """

    def __init__(self, columns: dict[str, torch.Tensor], starts: torch.Tensor):
        super().__init__(columns)
        self.starts = starts

    @property
    def ends(self) -> torch.Tensor:
        """(U,) int64, one after the last event of every user."""
        return torch.cat([self.starts[1:], torch.tensor([self.length])])[: len(self.starts)]

    def take(self, field: str, index: Any) -> torch.Tensor:
        """The values of a field at some places, in RecBole's type: int64 or float32."""
        values = self.interaction[field][index]
        return values.to(_WIDE.get(values.dtype, values.dtype))

    def __getitem__(self, index: Any) -> Any:
        """A whole column by its name, or some events."""
        if isinstance(index, str):
            return self.take(index, slice(None))
        return Interaction({field: self.take(field, index) for field in self.interaction})


def first_of_each_user(users: torch.Tensor) -> torch.Tensor:
    """(U,) where another user begins in (E,) sorted users."""
    if not len(users):
        return torch.zeros(0, dtype=torch.int64)
    changes = torch.nonzero(users[1:] != users[:-1]).squeeze(1) + 1
    return torch.cat([torch.zeros(1, dtype=torch.int64), changes])


def by_user_and_time(users: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """(E,) int64, the order of events by user and time; equal times stay in the order given."""
    order = torch.argsort(times, stable=True)  # integers: torch sorts by radix, on all cores
    return order[torch.argsort(users[order], stable=True)]
