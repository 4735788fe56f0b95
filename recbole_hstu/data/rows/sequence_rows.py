"""Rows (user, history, target) over one flat, sorted table of events.

RecBole copies the history of every prefix of every user. Here a row is three integers, and its
lists are gathered when a batch asks for them: memory grows with the interactions, not with
interactions times history.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from recbole.data.interaction import Interaction

from recbole_hstu.data.rows.events import Events
from recbole_hstu.support.errors import InputError

OWN_TARGETS = "own_targets"
"""Column of windows: after how many of its last positions a row learns its next event."""
_USERS_AT_ONCE = 1 << 19


class SequenceRows(Interaction):
    """An Interaction whose list fields are views of events; indexing by rows stays lazy.

    Args:
        events: (E,) sorted by user and time.
        list_fields: field of `events` -> name of its list field.
        length_field: name of the history's length, int64.
        width: N, the width of every list field; histories keep their last N events.
        starts: (R,) index of the first event of the user that owns the row.
        targets: (R,) index of the row's target event; the history is what lies between.
    """

    def __init__(
        self,
        *,
        events: Events,
        list_fields: dict[str, str],
        length_field: str,
        width: int,
        starts: torch.Tensor,
        targets: torch.Tensor,
    ):
        self._events = events
        self._fields = list(events)
        self._source = {name: field for field, name in list_fields.items()}
        self._length_field = length_field
        self._width = width
        self._starts = starts
        self._targets = targets
        self._added: dict[str, torch.Tensor] = {}

    @property
    def length(self) -> int:
        return len(self._targets)

    @property
    def interaction(self) -> dict[str, torch.Tensor]:
        """Every column that is no list; they are read when they are asked for."""
        return {name: self[name] for name in self._own}

    @property
    def _own(self) -> list[str]:
        return list(dict.fromkeys([*self._fields, self._length_field, *self._added]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    @property
    def columns(self) -> list[str]:
        return [*self._own, *self._source]

    def __contains__(self, item: object) -> bool:
        return item in self._own or item in self._source

    def __getitem__(self, index):
        """A column by its name, or a lazy selection of rows."""
        if isinstance(index, str):
            return self._column(index)
        if isinstance(index, int | slice):
            return self.select(torch.arange(self.length)[index].reshape(-1))
        places = torch.as_tensor(index)
        if places.dtype == torch.bool:
            return self.select(places.nonzero().squeeze(1))
        places = places.long().reshape(-1)
        return self.select(torch.where(places < 0, places + self.length, places))

    def _column(self, name: str) -> torch.Tensor:
        if name in self._added:
            return self._added[name]
        if name in self._source:
            return self._lists(self._source[name])
        if name == self._length_field:
            return self.uncut_lengths().clamp(max=self._width)
        if name not in self._fields:
            raise KeyError(name)
        return self._events.take(name, self._targets)

    def __setitem__(self, key: str, value: torch.Tensor) -> None:
        self._added[key] = value

    def update(self, new_inter: Interaction) -> None:
        for key in new_inter:
            self[key] = new_inter[key]

    def __delitem__(self, key: str) -> None:
        if key in self._source:
            del self._source[key]
        elif key in self._added:
            del self._added[key]
        else:
            self._fields = [field for field in self._fields if field != key]

    def drop(self, column: str) -> None:
        if column not in self:
            raise ValueError(f"Column [{column}] is not in [{self}].")
        del self[column]

    def select(self, rows: torch.Tensor) -> SequenceRows:
        """The given rows, (M,) int64, in the given order; columns that were added come along."""
        new = SequenceRows.__new__(SequenceRows)
        new.__dict__.update(self.__dict__)
        new._source, new._fields = dict(self._source), list(self._fields)
        new._starts, new._targets = self._starts[rows], self._targets[rows]
        new._added = {key: value[rows] for key, value in self._added.items()}
        return new

    def materialise(self) -> Interaction:
        """A plain Interaction with the list fields (M, N, ...), right-padded with zeros."""
        return Interaction(self.interaction | self.histories())

    def histories(self) -> dict[str, torch.Tensor]:
        """The list fields (M, N, ...), right-padded with zeros, and their lengths (M,)."""
        positions = self._positions()
        lists = {name: self._lists(field, positions) for name, field in self._source.items()}
        return lists | {self._length_field: self[self._length_field]}

    def narrower(self) -> SequenceRows:
        """The same rows, whose histories keep one event less."""
        new = self.select(torch.arange(self.length))
        new._width -= 1
        return new

    def histories_with_targets(self) -> dict[str, torch.Tensor]:
        """The list fields (M, N + 1, ...) that end with the target, and their lengths (M,)."""
        whole = self.select(torch.arange(self.length))
        whole._targets, whole._width = self._targets + 1, self._width + 1
        return whole.histories()

    def uncut_lengths(self) -> torch.Tensor:
        """(R,) events before each row's target, also those that the width leaves out."""
        return self._targets - self._starts

    def covered_events(self) -> torch.Tensor:
        """Sorted indices of every event from a user's first to the last target among the rows."""
        parts = [begin + covered.nonzero().squeeze(1) for begin, covered in self._covered()]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def n_covered(self) -> int:
        """How many events `covered_events` gives."""
        if not self.length:
            return 0
        first, last = self._spans()
        return int((last - first + 1).sum())

    def count_covered(self, field: str, n_ids: int) -> torch.Tensor:
        """(n_ids,) int64, how often each id occurs among the covered events."""
        counts = torch.zeros(n_ids, dtype=torch.int64)
        column = self._events.interaction[field]
        for begin, covered in self._covered():
            ids = column[begin : begin + len(covered)]
            counts += torch.bincount(ids, minlength=n_ids)
            counts -= torch.bincount(ids[~covered], minlength=n_ids)  # a few of them
        return counts

    def _covered(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Where a stretch of events begins, and which of its events are covered: of some users at
        a time, since the indices of all may not fit in memory."""
        if not self.length:
            return
        starts, ends = (part.split(_USERS_AT_ONCE) for part in self._spans())
        for first, last in zip(starts, ends, strict=True):
            begin = int(first[0])
            edges = torch.zeros(int(last[-1]) - begin + 2, dtype=torch.int8)
            edges[first - begin] += 1
            edges[last + 1 - begin] -= 1
            yield begin, edges[:-1].cumsum(0, dtype=torch.int8) > 0

    def _spans(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(U,) first and (U,) last covered event of every user."""
        if (self._starts[1:] > self._starts[:-1]).all():  # a row a user
            return self._starts, self._targets
        last = self._last_targets()
        first = torch.nonzero(last >= 0).squeeze(1)
        return first, last[first]

    def whole_history(self, field: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(P,) row and (P,) value of a field of every event before each row's target, uncut.

        With one row a user P is never above the number of events.
        """
        counts = self.uncut_lengths()
        row = torch.repeat_interleave(torch.arange(self.length), counts)
        offset = (self._starts - counts.cumsum(0) + counts)[row]
        return row, self._events.take(field, torch.arange(len(row)) + offset)

    def last_events(self, count: int) -> SequenceRows:
        """The rows within the last `count` events of every user; their histories begin there."""
        if not self.length:
            return self
        first = torch.maximum(self._starts, self._last_targets()[self._starts] - count + 1)
        kept = torch.nonzero(self._targets > first).squeeze(1)
        new = self.select(kept)
        new._starts = first[kept]
        return new

    def last_row_of_each_user(self) -> SequenceRows:
        """One row a user: the one with the latest target."""
        order = torch.argsort(self._targets, stable=True)
        starts = self._starts[order]
        is_last = torch.ones(len(order), dtype=torch.bool)
        is_last[:-1] = starts[1:] != starts[:-1]
        return self.select(order[is_last])

    def windows(self) -> SequenceRows:
        """`windows_of_users` where there is a row for every target.

        Raises:
            InputError: the rows of a user are not those of its first events, all of them.
        """
        order = torch.argsort(self._targets, stable=True)
        starts, length = self._starts[order], self.uncut_lengths()[order]
        is_new = torch.ones(len(order), dtype=torch.bool)
        is_new[1:] = starts[1:] != starts[:-1]
        before = torch.cat([length.new_zeros(1), length[:-1]]).masked_fill(is_new, 0)
        if (length != before + 1).any():
            raise InputError(
                "eval_args: this split takes events out of the middle of sequences, and windows "
                "hold them all; use order: TO"
            )
        return self.last_row_of_each_user().windows_of_users()

    def windows_of_users(self) -> SequenceRows:
        """Of a row a user, its last one: as few rows as hold every target up to it once, with
        `OWN_TARGETS` (M,), in the order of users and time.

        A user's first window holds its first N targets, each with its whole history. Every later
        one holds at most N // 2 + 1 targets, so that none has less than half of N events before it.
        """
        users = self.select(torch.argsort(self._targets, stable=True))
        length, step = users.uncut_lengths(), self._width // 2 + 1
        beyond = (length - self._width).clamp(min=0)
        counts = 1 + (beyond + step - 1) // step
        row = torch.repeat_interleave(counts)
        number = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        ends = torch.minimum(self._width + number * step, length[row])
        windows = users.select(row)
        windows._targets = windows._starts + ends
        windows[OWN_TARGETS] = torch.where(number == 0, ends, ends.diff(prepend=ends.new_zeros(1)))
        return windows

    def window_targets(self) -> tuple[Interaction, torch.Tensor, torch.Tensor]:
        """The T targets of windows, in order: the fields of their events, (T,) which row each
        belongs to, and (T,) the position after which it comes."""
        own = self[OWN_TARGETS]
        row = torch.repeat_interleave(own)
        back = own.cumsum(0)[row] - 1 - torch.arange(len(row))  # from the row's last target
        events = self._targets[row] - back
        targets = {field: self._events.take(field, events) for field in sorted(self._fields)}
        return Interaction(targets), row, self[self._length_field][row] - 1 - back

    def _last_targets(self) -> torch.Tensor:
        """The latest target of the user whose events start there, -1 elsewhere."""
        last = torch.full((int(self._targets.max()) + 1,), -1)
        return last.scatter_reduce_(0, self._starts, self._targets, reduce="amax")

    def _reindex(self, index) -> None:
        rows = torch.as_tensor(index)
        self.__dict__.update(self.select(rows).__dict__)

    def _positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        length = self[self._length_field]
        offset = torch.arange(self._width)
        inside = offset < length.unsqueeze(1)
        index = (self._targets - length).unsqueeze(1) + offset
        return torch.where(inside, index, 0), inside

    def _lists(self, field: str, positions=None) -> torch.Tensor:
        index, inside = positions or self._positions()
        values = self._events.take(field, index)
        padding = ~inside.reshape(inside.shape + (1,) * (values.dim() - 2))
        return values.masked_fill_(padding, 0)

    def __str__(self) -> str:
        return f"The batch_size of interaction: {self.length}\n    {', '.join(self.columns)}\n"

    __repr__ = __str__
