"""Interactions sorted by user and time, in columns as narrow as they are kept on disk.

A batch asks for a few thousand places of a column: what it gets has the type that RecBole gives
the field, the column itself stays as it is, be it in memory or mapped from a file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction

from recbole_hstu.data.files.token_codes import blocks, count_ids

_EVENTS_AT_ONCE = 1 << 22
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


def by_user_and_time(users: NDArray, times: NDArray) -> NDArray:
    """(E,) the order of events by user and time; equal times stay in the order given.

    Sorted by ranges of users, so that little more than the result is in memory: int32, where it
    suffices.

    Args:
        users: (E,) ids.
        times: (E,) integers.
    """
    order = np.empty(len(users), dtype=np.int32 if len(users) < 2**31 else np.int64)
    ends = count_ids(users, 1 + int(users.max(initial=-1))).cumsum()
    first = begin = 0
    while begin < len(users):
        last = max(first + 1, int(np.searchsorted(ends, begin + _EVENTS_AT_ONCE, side="right")))
        rows = np.concatenate(
            [
                part.start + np.flatnonzero((users[part] >= first) & (users[part] < last))
                for part in blocks(len(users))
            ]
        )
        by_time = torch.argsort(torch.from_numpy(times[rows]), stable=True).numpy()  # by radix
        rows = rows[by_time]
        by_user = torch.argsort(torch.from_numpy(users[rows]), stable=True).numpy()
        order[begin : begin + len(rows)] = rows[by_user]
        first, begin = last, begin + len(rows)
    return order
