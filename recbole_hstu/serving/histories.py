"""What users did, as they give it: checked, in item ids, in one flat table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_hstu.serving.checks import check_columns_there, check_token_columns
from recbole_hstu.serving.times import check_unit, whole_numbers
from recbole_hstu.support.errors import InputError, first_ten

ON_UNKNOWN = ("raise", "warn", "ignore")
_FORM = "a list of (item, time) pairs for every user, or a table with the columns user, item, time"

logger = logging.getLogger(__name__)


@dataclass
class Histories:
    """Events of several users, oldest first.

    Attributes:
        users: (B,) as the caller names them.
        items: (E,) int64 ids.
        times: (E,) int64, None where the events have none.
        ends: (B,) int64, where each user's events end in `items`.
        unknown: events left out since nobody knows their item.
        without_events: users left out since no event was left.
        named: whether `users` are their tokens, not their places in a list.
    """

    users: list[Any]
    items: np.ndarray
    times: np.ndarray | None
    ends: np.ndarray
    unknown: int = 0
    without_events: int = 0
    named: bool = True

    def __len__(self) -> int:
        return len(self.users)

    @property
    def starts(self) -> np.ndarray:
        """(B,) int64, where each user's events begin."""
        return np.r_[0, self.ends[:-1]]

    @property
    def last_times(self) -> np.ndarray | None:
        """(B,) the time of each user's last event."""
        return None if self.times is None else self.times[self.ends - 1]

    def rows(self, start: int, stop: int, width: int) -> dict[str, torch.Tensor]:
        """Users start..stop-1 as `item` and `time` (B, L) int64, right-padded with 0, and `length`
        (B,): the last `width` events of each."""
        ends = self.ends[start:stop]
        lengths = np.minimum(ends - self.starts[start:stop], width)
        offset = np.arange(lengths.max(initial=0))
        inside = offset < lengths[:, None]
        index = np.where(inside, (ends - lengths)[:, None] + offset, 0)
        found = {"item": np.where(inside, self.items[index], 0), "length": lengths}
        if self.times is not None:
            found["time"] = np.where(inside, self.times[index], 0)
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def seen(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(row, item id) of every event of users start..stop-1."""
        starts, ends = self.starts[start:stop], self.ends[start:stop]
        row = np.repeat(np.arange(len(ends)), ends - starts)
        items = self.items[starts[0] : ends[-1]] if len(ends) else self.items[:0]
        return torch.from_numpy(row), torch.from_numpy(items)


def read_histories(
    given: Any,
    items: pd.Index,
    *,
    needs_time: bool,
    on_unknown: str = "raise",
    known_times: tuple[int, int] | None = None,
) -> Histories:
    """Check histories and find their items.

    Args:
        given: a list of lists of (item token, time), or a long table with the columns user, item,
            time, each user's rows oldest first. Where the model reads no times, items alone do.
        items: item tokens in the order of the ids.
        needs_time: whether every event must have a time.
        on_unknown: events with unknown items are an error (`raise`), or are left out, with a
            warning (`warn`) or without (`ignore`); so are users who have no other event.
        known_times: the first and the last of the training, whose unit the times must have.

    Raises:
        InputError: histories of another form, an empty one, an unknown item, a time that is no
            whole number, is missing, of another unit, or lies before the one of the event before.
    """
    if on_unknown not in ON_UNKNOWN:
        raise InputError(f"on_unknown: {on_unknown!r} is not one of {', '.join(ON_UNKNOWN)}")
    read = _from_table if isinstance(given, pd.DataFrame) else _from_lists
    users, counts, tokens, times = read(given)
    if not len(users):
        raise InputError(f"histories: nobody is in them; expected {_FORM}")
    for row in np.flatnonzero(counts == 0)[:1]:
        raise InputError(f"histories: user {users[row]}: the history is empty")
    if needs_time and times is None:
        raise InputError(
            "histories: the model reads the times of the events; give (item, time) pairs, or a "
            "column time"
        )
    owner = np.repeat(np.arange(len(users)), counts)
    exact = None if times is None else _exact_times(times, owner, users)
    if exact is not None and known_times is not None:
        check_unit(exact, known_times, "histories: time ")
    ids = items.get_indexer(pd.Index(tokens, dtype=object))
    ids[ids == 0] = -1  # the padding is no item
    found = _known_only(users, owner, ids, tokens, exact, on_unknown)
    found.named = isinstance(given, pd.DataFrame)
    return found


def users_of(given: Any) -> Sequence[Any]:
    """Everybody in checked histories, in their order."""
    if isinstance(given, pd.DataFrame):
        return list(given["user"].unique())
    return range(len(given))


def of_users_alone(users: Sequence[Any]) -> Histories:
    """Users without any event, for models that know them by their tokens."""
    nothing = np.empty(0, dtype=np.int64)
    return Histories(list(users), nothing, None, np.zeros(len(users), dtype=np.int64))


def joined(several: Sequence[Histories]) -> Histories:
    """The users of all of them, in one; without times where one has none."""
    lengths = np.concatenate([np.diff(some.ends, prepend=0) for some in several])
    times = [some.times for some in several if some.times is not None]
    return Histories(
        [user for some in several for user in some.users],
        np.concatenate([some.items for some in several]),
        np.concatenate(times) if len(times) == len(several) else None,
        lengths.cumsum(),
        named=all(some.named for some in several),
    )


def _from_table(table: pd.DataFrame) -> tuple[list[Any], np.ndarray, np.ndarray, Any]:
    check_columns_there(table, "histories", _FORM)
    for name in ("user", "item"):
        missing = np.flatnonzero(table[[name]].isna().any(axis=1))
        if len(missing):
            raise InputError(f"histories: row {missing[0] + 1}: no {name}")
    check_token_columns(table, "histories")
    code, users = pd.factorize(table["user"])
    order = np.argsort(code, kind="stable")
    counts = np.bincount(code, minlength=len(users))
    tokens = table["item"].astype(str).to_numpy(dtype=object)[order]
    times = table["time"].to_numpy()[order] if "time" in table else None
    return list(users), counts, tokens, times


def _from_lists(given: Any) -> tuple[list[Any], np.ndarray, np.ndarray, Any]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Sequence):
        raise InputError(f"histories: a {type(given).__name__}; expected {_FORM}")
    tokens: list[str] = []
    times: list[Any] = []
    for user, history in enumerate(given):
        if isinstance(history, str | bytes) or not isinstance(history, Sequence | np.ndarray):
            raise InputError(f"histories: user {user}: {history!r}; expected {_FORM}")
        for event in history:
            token, time = _event(event, user)
            tokens.append(token)
            times.append(time)
    counts = np.array([len(history) for history in given], dtype=np.int64)
    untimed = sum(time is None for time in times)
    if untimed not in (0, len(times)):
        raise InputError(f"histories: {untimed} of {len(times)} events have no time")
    return list(range(len(given))), counts, np.array(tokens, object), None if untimed else times


def _event(event: Any, user: int) -> tuple[str, Any]:
    item, time = event, None
    if isinstance(event, tuple | list):
        if len(event) != 2:
            raise InputError(f"histories: user {user}: {event!r} is not an (item, time) pair")
        item, time = event
    if isinstance(item, bool) or not isinstance(item, str | int | np.integer):
        raise InputError(f"histories: user {user}: {item!r} is not an item token")
    if isinstance(time, bool):
        raise InputError(f"histories: user {user}: time {time} is not a whole number")
    return str(item), time


def _exact_times(times: Any, owner: np.ndarray, users: list[Any]) -> np.ndarray:
    exact = whole_numbers(times, "histories: time ")
    backwards = (exact[1:] < exact[:-1]) & (owner[1:] == owner[:-1])
    for row in np.flatnonzero(backwards)[:1]:
        raise InputError(
            f"histories: user {users[owner[row]]}: time {exact[row + 1]} comes after {exact[row]}; "
            "give the events oldest first"
        )
    return exact


def _known_only(users, owner, ids, tokens, times, on_unknown: str) -> Histories:
    known = ids > 0
    unknown = int((~known).sum())
    if unknown and on_unknown == "raise":
        raise InputError(
            f"histories: {unknown:,} of {len(ids):,} events are of items that the model does not "
            f"know: {first_ten(list(dict.fromkeys(tokens[~known])))}; on_unknown=ignore leaves "
            "them out"
        )
    counts = np.bincount(owner[known], minlength=len(users))
    without_events = int((counts == 0).sum())
    if unknown and on_unknown == "warn":
        logger.warning(
            f"{unknown:,} of {len(ids):,} events are of unknown items and left out, and with them "
            f"{without_events:,} of {len(users):,} users, who have no other event"
        )
    if without_events:
        users = [user for user, count in zip(users, counts, strict=True) if count]
        counts = counts[counts > 0]
    kept = None if times is None else times[known]
    return Histories(users, ids[known], kept, counts.cumsum(), unknown, without_events)
