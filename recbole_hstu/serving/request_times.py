"""The times of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_hstu.serving.histories import Histories
from recbole_hstu.serving.times import check_unit, refuse_other_unit, whole_numbers
from recbole_hstu.support.errors import InputError, first_ten


def request_times(
    at: Any,
    histories: Histories,
    users_before: Sequence[Any],
    needed_by: str | None = None,
    known_times: tuple[int, int] | None = None,
) -> np.ndarray | None:
    """The time of each user's request, (B,) int64.

    Args:
        at: one time, one a user (in the order of `users_before`), a mapping from user to time, or
            None where the model reads no times.
        users_before: everybody in the request, also those who were left out.
        needed_by: the model, if it reads the time.
        known_times: the first and the last of the training, whose unit the times must have.

    Raises:
        InputError: none where the model reads it, not a whole number, too few or too many, before
            a user's last event or in another unit.
    """
    if at is None and needed_by is None:
        return None
    if at is None:
        raise InputError(
            f"at: {needed_by} reads the time of the request, in the unit of the events; give one, "
            "such as at=881251000"
        )
    times = whole_numbers(_of_users(at, histories.users, users_before), "at: ")
    if known_times is not None:
        check_unit(times, known_times, "at: ")
    if histories.last_times is not None:
        _check_last(times, histories.last_times, histories.users)
    return times


def _of_users(at: Any, users: list[Any], users_before: Sequence[Any]) -> Any:
    """What `at` gives for each of the users that are left, (B,)."""
    if isinstance(at, pd.Series) and at.index.has_duplicates:
        raise InputError(f"at: two times for {first_ten(at.index[at.index.duplicated()].unique())}")
    if isinstance(at, Mapping | pd.Series):
        at = {**{str(user): time for user, time in at.items()}, **dict(at)}
        lacking = [user for user in users if user not in at]
        if lacking:
            raise InputError(f"at: has no time for the users {first_ten(lacking)}")
        return [at[user] for user in users]
    if not np.ndim(at):
        return [at] * len(users)
    if len(at) != len(users_before):
        raise InputError(f"at: {len(at)} times for {len(users_before)} users")
    if len(users) == len(users_before):
        return at
    kept = set(users)
    return [time for user, time in zip(users_before, at, strict=True) if user in kept]


def _check_last(times: np.ndarray, last: np.ndarray, users: list[Any]) -> None:
    """Whether the times of requests (B,) fit those of the users' last events, (B,)."""
    for row in np.flatnonzero((times < last) | (times // 10 > last)):
        user, own = users[row], int(last[row])
        refuse_other_unit(int(times[row]), own, what="at: ", whose=f"user {user}'s events")
        if times[row] < own:
            raise InputError(
                f"at: {times[row]} lies before the last event of user {user} ({own}); leave later "
                "events out, or ask for a later time"
            )
