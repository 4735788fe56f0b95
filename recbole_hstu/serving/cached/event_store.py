"""The last events of many users in memory that is bounded from the start."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch

from recbole_hstu.serving.histories import Histories
from recbole_hstu.support.errors import InputError, first_ten

EVENT_BYTES = 16  # item and time


def zeros(*shape: int, dtype: Any = np.int64) -> torch.Tensor:
    """Memory that is taken as it is used, page by page.

    Raises:
        InputError: the machine cannot promise so much.
    """
    try:
        return torch.from_numpy(np.zeros(shape, dtype))
    except (MemoryError, ValueError) as error:
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        raise InputError(
            f"max_bytes: this machine has no room for {n_bytes:,} bytes; give fewer (--cache_mb)"
        ) from error


class EventStore:
    """The last `width` events of up to `max_users` users; who was away longest is forgotten.

    Args:
        width: N.
        max_users: S, at least one place for users; each takes `EVENT_BYTES` * N.

    Attributes:
        items, times: (S, N) int64, oldest first.
        lengths: (S,) int64.
        settled: (S,) int64, how many of the oldest events are where they were when the owner of
            the store last set this; events that move or are replaced set it to 0.
        forgotten: users who had to make room.
    """

    def __init__(self, width: int, max_users: int):
        self.width, self.max_users = width, max_users
        self.items, self.times = zeros(max_users, width), zeros(max_users, width)
        self.lengths, self.settled = zeros(max_users), zeros(max_users)
        self.forgotten = 0
        self._places: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, user: Hashable) -> bool:
        return user in self._places

    def put(self, user: Hashable, items: np.ndarray, times: np.ndarray | None) -> None:
        """A user's whole history, in the place of an earlier one."""
        place = self._place(user)
        length = min(len(items), self.width)
        self.items[place, :length] = torch.from_numpy(items[-length:])
        self.times[place] = 0
        if times is not None:
            self.times[place, :length] = torch.from_numpy(times[-length:])
        self.lengths[place], self.settled[place] = length, 0

    def append(self, user: Hashable, item: int, time: int) -> None:
        """One more event of a user, who may be new.

        Raises:
            InputError: it lies before the user's last one.
        """
        if user in self._places:
            self.check_order(user, time)
        place = self._place(user)
        length = int(self.lengths[place])
        if length == self.width:  # the window slides: every event gets another position
            self.items[place, :-1] = self.items[place, 1:].clone()
            self.times[place, :-1] = self.times[place, 1:].clone()
            self.settled[place] = 0
            length -= 1
        self.items[place, length], self.times[place, length] = item, time
        self.lengths[place] = length + 1

    def check_order(self, user: Hashable, time: int) -> None:
        """Whether a user's next event may be of this time.

        Raises:
            InputError: it lies before the last one.
        """
        last = self.last_time(user)
        if time < last:
            raise InputError(
                f"time: {time} lies before the last event of user {user} ({last}); events come "
                "oldest first"
            )

    def last_time(self, user: Hashable) -> int:
        """The time of a user's last event."""
        place = self._places[user]
        return int(self.times[place, self.lengths[place] - 1])

    def length(self, user: Hashable) -> int:
        """How many events of a user are kept; 0 for one of whom nothing is known."""
        return int(self.lengths[self._places[user]]) if user in self._places else 0

    def places(self, users: Sequence[Hashable]) -> torch.Tensor:
        """(B,) where these users' events are; they are the last ones to be forgotten now.

        Raises:
            InputError: nothing is known of one.
        """
        unknown = [user for user in users if user not in self._places]
        if unknown:
            raise InputError(
                f"nothing is known of the users {first_ten(unknown)}; give their events"
            )
        for user in users:
            self._places.move_to_end(user)
        return torch.tensor([self._places[user] for user in users])

    def histories(self, users: Sequence[Any], *, with_times: bool) -> Histories:
        """The stored events of these users."""
        places = self.places(users)
        inside = torch.arange(self.width) < self.lengths[places].unsqueeze(1)
        items, times = (some[places][inside].numpy() for some in (self.items, self.times))
        ends = self.lengths[places].cumsum(0).numpy()
        return Histories(list(users), items, times if with_times else None, ends)

    def _place(self, user: Hashable) -> int:
        if user in self._places:
            self._places.move_to_end(user)
            return self._places[user]
        place = len(self._places)
        if place == self.max_users:
            _, place = self._places.popitem(last=False)
            self.forgotten += 1
        self._places[user] = place
        self.lengths[place] = self.settled[place] = 0
        return place
