"""One checkpoint as the service uses it: batches of requests in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

from recbole_hstu.evaluation.top_k import Pairs, together
from recbole_hstu.service.item_titles import ItemTitles
from recbole_hstu.service.messages import MAX_LISTED, AddEvents, Explain, Recommend
from recbole_hstu.serving.allowed_items import AllowedItems
from recbole_hstu.serving.cached.history_cache import HistoryCache
from recbole_hstu.serving.histories import Histories, joined, of_users_alone
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.errors import InputError, first_ten
from recbole_hstu.support.time_unit import unit_name

Row = dict[str, Any]
Outcome = Row | InputError


@dataclass
class _Asked:
    """One request, read: its users, the times of their requests, what may be recommended."""

    given: Histories
    times: np.ndarray | None
    is_kept: bool
    places: list[int]
    request: Recommend
    allowed: AllowedItems


class ServedModel:
    """A model, the histories of its users, the titles of its items.

    `recommend` takes the requests of a batch, and gives the answer or the `InputError` of each:
    what one of them has wrong costs the others nothing. What computes may not run beside another
    (see `Batcher`).

    Args:
        name: by which clients choose it.
        cache_bytes: for histories of users.
    """

    def __init__(self, name: str, rec: Recommender, titles: ItemTitles, cache_bytes: int):
        self.name, self.rec, self.titles = name, rec, titles
        self.cache = HistoryCache(rec, cache_bytes)
        times = rec.saved.times
        self.time_unit = unit_name(times[-1]) if times else None

    def described(self) -> Row:
        """`Model`."""
        config = self.rec.saved.config
        return {
            "name": self.name,
            "kind": config["model"],
            "dataset": config["dataset"],
            "items": self.rec.scorer.n_items - 1,
            "max_history": self.rec.max_history,
            "needs_time": self.rec.needs_time,
            "time_unit": self.time_unit,
            "bytes_a_user": self.cache.bytes_a_user,
        }

    def search(self, query: str, limit: int) -> list[Row]:
        """`Found` items."""
        ids = self.titles.search(query, limit)
        return [{"item": self.rec.items[id], "title": self.titles[id]} for id in ids]

    def knows(self, item: str) -> bool:
        """Whether it is one of the items."""
        return item in self.rec.items and item != self.rec.items[0]

    def recommend(self, requests: Sequence[Recommend]) -> list[Outcome]:
        """`Recommended` of each request; its errors are those of `Recommender.recommend`."""
        read = [_tried(self._read, request) for request in requests]
        answers: list[Any] = [
            {"lists": [[] for _ in _users_of(one.request)], "unknown": one.given.unknown}
            if isinstance(one, _Asked)
            else one
            for one in read
        ]
        asked = [(number, one) for number, one in enumerate(read) if isinstance(one, _Asked)]
        numbered = sorted(asked, key=lambda pair: self._group(pair[1]))
        for _, group in groupby(numbered, key=lambda pair: self._group(pair[1])):
            numbers, some = zip(*group, strict=True)
            rows = self._rows(some)
            for number, one in zip(numbers, some, strict=True):
                for place in one.places:
                    answers[number]["lists"][place] = next(rows)
        return answers

    def _group(self, asked: _Asked) -> tuple[bool, int, bool, int]:
        """Requests of one group are computed together; those with candidates each alone. What an
        index finds depends on k."""
        alone = 0 if asked.allowed.columns is None else id(asked)
        k = 0 if self.rec.index is None else asked.request.k
        return asked.is_kept, alone, asked.times is None, k

    def _read(self, request: Recommend) -> _Asked:
        if (request.histories is None) == (request.users is None):
            raise InputError("give histories or users, one of them")
        n_users = len(_users_of(request))
        if request.k * n_users > MAX_LISTED:
            raise InputError(
                f"k: {request.k} items for {n_users} users are more than the {MAX_LISTED:,} that "
                "an answer may hold; ask for fewer users at once"
            )
        rec = self.rec
        given = (
            rec.read(request.histories, request.on_unknown)
            if request.histories is not None
            else self._kept(request.users or [])
        )
        everybody = range(n_users)
        is_kept = request.users is not None
        times = rec.request_times(request.at, given, request.users or everybody)
        allowed = rec.allowed(request.candidates, request.exclude, by_row=True)
        allowed.check_k(request.k)
        places = list(everybody) if is_kept else given.users
        return _Asked(given, times, is_kept, places, request, allowed)

    def _kept(self, users: Sequence[str]) -> Histories:
        if self.rec.saved.is_sequential:
            return self.cache.histories(users)
        known = ([user] for user in users)  # by name; the events are only left out of the list
        return joined(
            [self.cache.histories(u) if u[0] in self.cache else of_users_alone(u) for u in known]
        )

    def _rows(self, asked: Sequence[_Asked]) -> Iterator[list[Row]]:
        """The list of every user of these requests, which are of one `_group`."""
        given = joined([one.given for one in asked])
        times = None
        if asked[0].times is not None:
            times = np.concatenate([one.times for one in asked])
        k = max(one.request.k for one in asked)
        wanted = [one.request.k for one in asked for _ in range(len(one.given))]
        barred = self._barred(asked)
        for part in self.rec.parts(len(given)):
            with torch.inference_mode():
                prepared = self._prepare(given, times, part, asked[0].is_kept)
                here = (barred[0] >= part.start) & (barred[0] < part.stop)
                pairs = barred[0][here] - part.start, barred[1][here]
                best, ids = self.rec.best(prepared, k, pairs, asked[0].allowed.columns)
            for row, scores, found in zip(
                range(part.start, part.stop), best.tolist(), ids.tolist(), strict=True
            ):
                yield self._named(scores[: wanted[row]], found[: wanted[row]])

    def _prepare(self, given: Histories, times, part: slice, is_kept: bool) -> torch.Tensor:
        if is_kept and self.rec.saved.is_sequential:
            return self.cache.prepare(given, times, part)
        return self.rec.prepare(given, times, part)

    def _barred(self, asked: Sequence[_Asked]) -> Pairs:
        """(row, item id) that no list may hold."""
        pairs, start = [], 0
        for one in asked:
            users = len(one.given)
            seen = [one.given.seen(0, users)] if one.request.exclude_seen else []
            row, item = together(one.allowed.barred(users), *seen)
            pairs.append((row + start, item))
            start += users
        return together(*pairs)

    def _named(self, scores: Sequence[float], ids: Sequence[int]) -> list[Row]:
        return [
            {"item": self.rec.items[id], "title": self.titles[id], "score": score}
            for score, id in zip(scores, ids, strict=True)
            if score > -np.inf
        ]

    def similar(self, item: str, k: int) -> Row:
        """`Similar`; its errors are those of `Recommender.similar_items`."""
        table = self.rec.similar_items(item, k)
        ids = self.rec.items.get_indexer(table["item"]).tolist()
        return {"items": self._named(table["score"].tolist(), ids)}

    def explain(self, request: Explain) -> Row:
        """`Contributions`: every event is left out once, the time of the request stays; its errors
        are those of `Recommender.scores`."""
        self.rec.read([request.history], request.on_unknown)  # its errors
        known = [
            place
            for place, event in enumerate(request.history)
            if self.knows(event if isinstance(event, str) else event[0])
        ]
        contributions: list[list[float] | None] = [None] * len(request.history)
        events = [request.history[place] for place in known]
        if len(events) > 1:
            for place, of_items in zip(known, self._shares(events, request), strict=True):
                contributions[place] = of_items
        elif events:
            self.rec.scores(events, request.items, request.at)  # its errors
        else:
            self.rec.ids(request.items)
        return {"contributions": contributions}

    def _shares(self, events: list[Any], request: Explain) -> list[list[float]]:
        """Every item's score with each of these events minus its score without."""
        rec = self.rec
        without = [events[:left] + events[left + 1 :] for left in range(len(events))]
        given = rec.read([events, *without])
        times = rec.request_times(request.at, given, given.users)
        ids = torch.from_numpy(rec.ids(request.items)).to(rec.device)
        found = []
        with torch.inference_mode():
            for part in rec.parts(len(given)):
                found.append(rec.scorer.scores(rec.prepare(given, times, part), ids))
        scores = torch.cat(found)
        unscored = ~scores.isfinite().all(0)
        if unscored.any():  # beams reach a part of the items
            lacking = [
                item for item, no in zip(request.items, unscored.tolist(), strict=True) if no
            ]
            raise InputError(f"items: the model gives no score to {first_ten(lacking)}")
        return (scores[:1] - scores[1:]).tolist()


def add_events(models: Sequence[ServedModel], request: AddEvents) -> Row:
    """`Added`; every model keeps the events, or none does.

    Raises:
        InputError: one of the models cannot take them.
    """
    user = request.user
    read = [_events(model, request, len(models) > 1) for model in models]
    for model, given in zip(models, read, strict=True):
        model.cache.extend(user, given)
    added = [
        {
            "model": model.name,
            "added": len(given.items),
            "unknown": given.unknown,
            "kept": model.cache.store.length(user),
        }
        for model, given in zip(models, read, strict=True)
    ]
    return {"user": user, "models": added}


def _events(model: ServedModel, request: AddEvents, is_named: bool) -> Histories:
    try:
        return model.cache.read_events(request.user, request.events, request.on_unknown)
    except InputError as error:
        if is_named:
            raise InputError(f"model {model.name}: {error}") from error
        raise


def _tried(answer: Callable[[Recommend], _Asked], request: Recommend) -> _Asked | InputError:
    try:
        return answer(request)
    except InputError as error:
        return error


def _users_of(request: Recommend) -> Sequence[Any]:
    return request.users if request.users is not None else request.histories or []
