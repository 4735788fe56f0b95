"""Rows (user, history, target) over one flat, sorted table of events.

RecBole copies the history of every prefix of every user. Here a row is three integers, and its
lists are gathered when a batch asks for them: memory grows with the interactions, not with
interactions times history.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_hstu.support.errors import InputError

OWN_TARGETS = "own_targets"
"""Column of windows: after how many of its last positions a row learns its next event."""


class SequenceRows(Interaction):
    """An Interaction whose list fields are views of events; indexing by rows stays lazy.

    Args:
        events: field -> (E, ...) tensors, sorted by user and time.
        list_fields: field of `events` -> name of its list field.
        length_field: name of the history's length, int64.
        width: N, the width of every list field; histories keep their last N events.
        starts: (R,) index of the first event of the user that owns the row.
        targets: (R,) index of the row's target event; the history is what lies between.
    """

    def __init__(
        self,
        *,
        events: dict[str, torch.Tensor],
        list_fields: dict[str, str],
        length_field: str,
        width: int,
        starts: torch.Tensor,
        targets: torch.Tensor,
    ):
        self._events = events
        self._list_fields = list_fields
        self._source = {name: field for field, name in list_fields.items()}
        self._length_field = length_field
        self._width = width
        self._starts = starts
        self._targets = targets
        columns = {field: values[targets] for field, values in events.items()}
        columns[length_field] = (targets - starts).clamp(max=width)
        super().__init__(columns)
        self.length = len(targets)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    @property
    def columns(self) -> list[str]:
        return [*self.interaction, *self._source]

    def __contains__(self, item: str) -> bool:
        return item in self.interaction or item in self._source

    def __getitem__(self, index):
        """A column by its name, or a lazy selection of rows."""
        if isinstance(index, str):
            if index in self._source:
                return self._lists(self._source[index])
            return self.interaction[index]
        if not isinstance(index, int | slice | torch.Tensor):
            array = np.asarray(index)
            index = torch.from_numpy(array.astype(np.int64) if not array.size else array)
        return self.select(torch.arange(self.length)[index].reshape(-1))

    def __delitem__(self, key: str) -> None:
        if key in self._source:
            field = self._source.pop(key)
            self._list_fields = {f: n for f, n in self._list_fields.items() if f != field}
        else:
            super().__delitem__(key)

    def select(self, rows: torch.Tensor) -> SequenceRows:
        """The given rows, (M,) int64, in the given order; columns that were added come along."""
        new = SequenceRows.__new__(SequenceRows)
        new.__dict__.update(self.__dict__)
        new._source = dict(self._source)
        new._starts, new._targets = self._starts[rows], self._targets[rows]
        new.interaction = {key: value[rows] for key, value in self.interaction.items()}
        new.length = len(rows)
        return new

    def materialise(self) -> Interaction:
        """A plain Interaction with the list fields (M, N, ...), right-padded with zeros."""
        return Interaction(self.interaction | self.histories())

    def histories(self) -> dict[str, torch.Tensor]:
        """The list fields (M, N, ...), right-padded with zeros, and their lengths (M,)."""
        positions = self._positions()
        lists = {name: self._lists(field, positions) for name, field in self._source.items()}
        return lists | {self._length_field: self.interaction[self._length_field]}

    def uncut_lengths(self) -> torch.Tensor:
        """(R,) events before each row's target, also those that the width leaves out."""
        return self._targets - self._starts

    def covered_events(self) -> torch.Tensor:
        """Sorted indices of every event from a user's first to the last target among the rows."""
        if not self.length:
            return torch.empty(0, dtype=torch.int64)
        last = self._last_targets()
        first = torch.nonzero(last >= 0).squeeze(1)
        counts = last[first] - first + 1
        offsets = torch.repeat_interleave(first - counts.cumsum(0) + counts, counts)
        return torch.arange(len(offsets)) + offsets

    def whole_history(self, field: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(P,) row and (P,) value of a field of every event before each row's target, uncut.

        With one row a user P is never above the number of events.
        """
        counts = self.uncut_lengths()
        row = torch.repeat_interleave(torch.arange(self.length), counts)
        offset = (self._starts - counts.cumsum(0) + counts)[row]
        return row, self._events[field][torch.arange(len(row)) + offset]

    def last_events(self, count: int) -> SequenceRows:
        """The rows within the last `count` events of every user; their histories begin there."""
        if not self.length:
            return self
        first = torch.maximum(self._starts, self._last_targets()[self._starts] - count + 1)
        kept = torch.nonzero(self._targets > first).squeeze(1)
        new = self.select(kept)
        new._starts = first[kept]
        new.interaction[self._length_field] = new.uncut_lengths().clamp(max=self._width)
        return new

    def last_row_of_each_user(self) -> SequenceRows:
        """One row a user: the one with the latest target."""
        order = torch.argsort(self._targets, stable=True)
        starts = self._starts[order]
        is_last = torch.ones(len(order), dtype=torch.bool)
        is_last[:-1] = starts[1:] != starts[:-1]
        return self.select(order[is_last])

    def windows(self) -> SequenceRows:
        """As few rows as hold every target once, with `OWN_TARGETS` (M,).

        A user's first window holds its first N targets, each with its whole history. Every later
        one holds at most N // 2 + 1 targets, so that none has less than half of N events before it.

        Raises:
            InputError: the rows of a user are not those of its first events, all of them.
        """
        order = torch.argsort(self._targets, stable=True)
        starts, length = self._starts[order], self.uncut_lengths()[order]
        is_new = torch.ones(len(order) + 1, dtype=torch.bool)
        is_new[1:-1] = starts[1:] != starts[:-1]
        before = torch.cat([length.new_zeros(1), length[:-1]]).masked_fill(is_new[:-1], 0)
        if (length != before + 1).any():
            raise InputError(
                "eval_args: this split takes events out of the middle of sequences, and windows "
                "hold them all; use order: TO"
            )
        beyond = length - self._width
        ends = is_new[1:] | ((beyond >= 0) & (beyond % (self._width // 2 + 1) == 0))
        last = torch.nonzero(ends).squeeze(1)
        chosen = self.select(order[last])
        chosen.interaction[OWN_TARGETS] = last.diff(prepend=last.new_tensor([-1]))
        return chosen

    def window_targets(self) -> tuple[Interaction, torch.Tensor, torch.Tensor]:
        """The T targets of windows, in order: the fields of their events, (T,) which row each
        belongs to, and (T,) the position after which it comes."""
        own = self.interaction[OWN_TARGETS]
        row = torch.repeat_interleave(own)
        back = own.cumsum(0)[row] - 1 - torch.arange(len(row))  # from the row's last target
        events = self._targets[row] - back
        fields = self._events.keys() & self.interaction.keys()  # without those that were dropped
        targets = Interaction({field: self._events[field][events] for field in sorted(fields)})
        return targets, row, self.interaction[self._length_field][row] - 1 - back

    def _last_targets(self) -> torch.Tensor:
        """The latest target of the user whose events start there, -1 elsewhere."""
        last = torch.full((int(self._targets.max()) + 1,), -1)
        return last.scatter_reduce_(0, self._starts, self._targets, reduce="amax")

    def _reindex(self, index) -> None:
        rows = torch.as_tensor(index)
        self.__dict__.update(self.select(rows).__dict__)

    def _positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        length = self.interaction[self._length_field]
        offset = torch.arange(self._width)
        inside = offset < length.unsqueeze(1)
        index = (self._targets - length).unsqueeze(1) + offset
        return torch.where(inside, index, 0), inside

    def _lists(self, field: str, positions=None) -> torch.Tensor:
        index, inside = positions or self._positions()
        values = self._events[field][index]
        padding = ~inside.reshape(inside.shape + (1,) * (values.dim() - 2))
        return values.masked_fill_(padding, 0)

    def __str__(self) -> str:
        return f"The batch_size of interaction: {self.length}\n    {', '.join(self.columns)}\n"

    __repr__ = __str__
