"""Users who come back: their events are kept, and what HSTU computed from them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_hstu.layers.blocks.hstu_block import HSTULayer
from recbole_hstu.serving.cached.event_store import EVENT_BYTES, EventStore
from recbole_hstu.serving.cached.key_value_rows import KeyValueRows
from recbole_hstu.serving.histories import Histories
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.errors import InputError


class HistoryCache:
    """The events of users between their requests, in memory with a bound.

    With HSTU and HSTUText a request computes the row of the last event alone; see `KeyValueRows`.
    Every other model computes the whole history anew. Who was away longest is forgotten first.

    Args:
        recommender: of the model.
        max_bytes: the bound; it decides how many users there is room for.

    Attributes:
        bytes_a_user: what one takes, whatever the length of the history.

    Raises:
        InputError: there is no room for a single user.
    """

    def __init__(self, recommender: Recommender, max_bytes: int = 256 << 20):
        self.recommender = recommender
        model, width = recommender.saved.model, recommender.max_history
        has_rows = all(isinstance(layer, HSTULayer) for layer in getattr(model, "layers", [None]))
        has_rows = has_rows and model.reads_request_time  # else no row waits for a time
        has_rows = has_rows and not model.score_terms()
        has_rows = has_rows and recommender.device.type == "cpu"  # where they are kept
        self.bytes_a_user = KeyValueRows.bytes_a_user(model) if has_rows else EVENT_BYTES * width
        if max_bytes < self.bytes_a_user:
            raise InputError(
                f"max_bytes: {max_bytes:,} has no room for one user ({self.bytes_a_user:,} bytes)"
            )
        self.store = EventStore(width, max_bytes // self.bytes_a_user)
        scorer: Any = recommender.scorer
        self.rows = KeyValueRows(model, scorer.inputs, self.store) if has_rows else None

    def __contains__(self, user: Hashable) -> bool:
        return user in self.store

    def put(self, user: Hashable, history: Sequence[Any]) -> None:
        """A user's whole history of (item token, time), in the place of an earlier one.

        Raises:
            InputError: see `Recommender.recommend`.
        """
        given = self.recommender.read([history])
        self.store.put(user, given.items, given.times)

    def append(self, user: Hashable, item: Any, time: int | None = None) -> None:
        """One more event; a new user begins with it.

        Raises:
            InputError: an unknown item, no time where the model reads times, or one that lies
                before the user's last event.
        """
        self.extend(user, self.read_events(user, [item if time is None else (item, time)]))

    def read_events(
        self, user: Hashable, events: Sequence[Any], on_unknown: str = "raise"
    ) -> Histories:
        """More events of a user, of (item token, time), if `extend` can add all of them.

        Raises:
            InputError: see `append`.
        """
        given = self.recommender.read([events], on_unknown)
        if user in self.store and given.times is not None and len(given):
            self.store.check_order(user, int(given.times[0]))
        return given

    def extend(self, user: Hashable, given: Histories) -> None:
        """Add what `read_events` has read."""
        times = given.times
        if times is None:
            last = self.store.last_time(user) if user in self.store else 0
            times = np.full(len(given.items), last)
        for item, time in zip(given.items.tolist(), times.tolist(), strict=True):
            self.store.append(user, item, time)

    def recommend(
        self,
        users: Sequence[Hashable],
        k: int = 10,
        at: Any = None,
        exclude_seen: bool = True,
        candidates: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
    ) -> pd.DataFrame:
        """`Recommender.recommend` for kept users; `exclude_seen` leaves out their kept events.

        Raises:
            InputError: nothing is known of a user, and see `Recommender.recommend`.
        """
        given = self.histories(users)
        rec = self.recommender
        times = rec.request_times(at, given, users)
        return rec.table(given, times, k, exclude_seen, candidates, exclude, self.prepare)

    def histories(self, users: Sequence[Hashable]) -> Histories:
        """The kept events of these users.

        Raises:
            InputError: nobody is named, or nothing is known of one.
        """
        if not len(users):
            raise InputError("users: nobody is named")
        return self.store.histories(users, with_times=self.recommender.needs_time)

    def prepare(self, given: Histories, times: np.ndarray | None, part: slice) -> torch.Tensor:
        """What the scorer compares with the items, for some of the users."""
        if self.rows is None:
            return self.recommender.prepare(given, times, part)
        assert times is not None
        scorer: Any = self.recommender.scorer
        self.rows.table = scorer.inputs  # items may have come
        places = self.store.places(given.users[part])
        return self.rows.user_vectors(places, torch.from_numpy(times[part]))
