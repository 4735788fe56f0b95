"""`Recommender`: a trained model, used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_hstu.evaluation.top_k import Pairs, together, top_k
from recbole_hstu.serving.allowed_items import AllowedItems, allowed_items
from recbole_hstu.serving.batches import Batches
from recbole_hstu.serving.checks import token_list
from recbole_hstu.serving.events_of_users import EventsOfUsers, read_events
from recbole_hstu.serving.histories import Histories, of_users_alone, read_histories, users_of
from recbole_hstu.serving.long_table import long_table
from recbole_hstu.serving.new_events import add_events
from recbole_hstu.serving.new_items import add_items
from recbole_hstu.serving.request_times import request_times
from recbole_hstu.serving.saved_model import SavedModel, load_model
from recbole_hstu.serving.scorers import index_of, most_alike, scorer_of
from recbole_hstu.support.commands.command_options import true_or_false
from recbole_hstu.support.errors import InputError, first_ten


class Recommender:
    """Recommendations of a trained model, for users it has seen and for new ones.

    Made by `Recommender.load`. Scores are those of the model; equal ones stand in the order of
    the items' ids, as the evaluation has them.

    Attributes:
        saved: the model, its configuration and its tokens.
        items: item tokens in the order of the ids, the padding first.
        needs_time: whether the model reads the times of events.
        needs_request_time: whether it reads that of the request.
        new_events: of named users (`add_events`), by tokens: user, item, perhaps time; or None.
        index: what finds candidates, such as `ApproximateIndex` or `Beam`; None for exact lists.
    """

    def __init__(self, saved: SavedModel):
        self.saved = saved
        self.needs_time: bool = getattr(saved.model, "reads_times", False)
        reads_request_time = getattr(saved.model, "reads_request_time", True)
        self.needs_request_time: bool = self.needs_time and reads_request_time
        self.max_history: int = saved.max_history
        self.device = saved.config["device"]
        self.batch = Batches(saved)
        self.new_events: pd.DataFrame | None = None
        self._take_up_items()
        self.index: Any = index_of(self.scorer)

    def _take_up_items(self) -> None:
        self.items = pd.Index(self.saved.item_tokens, dtype=object)
        with torch.inference_mode():
            self.scorer = scorer_of(self.saved)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        dataset: str | Path | None = None,
        text_features_file: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> Recommender:
        """The model of a checkpoint; see `load_model` for arguments and errors."""
        given = {"dataset": dataset, "text_features_file": text_features_file}
        return cls(load_model(checkpoint, device=device, **given))

    def recommend(
        self,
        histories: Any,
        k: int = 10,
        at: Any = None,
        exclude_seen: bool = True,
        candidates: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
        on_unknown: str = "raise",
    ) -> pd.DataFrame:
        """The k best items for every user, as a long table user, item, score, rank (from 1).

        Args:
            histories: a list of lists of (item token, time), or a long table with the columns user,
                item, time; events oldest first. The model sees the last `max_history` of each.
            k: items a user; a user with fewer candidates gets fewer rows.
            at: the time of the request, in the unit of the events: one, one a user, or a mapping
                from user to time. HSTU needs it.
            exclude_seen: leave out all items of the user's history.
            candidates: only these items.
            exclude: none of these items.
            on_unknown: what to do with events of unknown items: raise, warn or ignore.

        Raises:
            InputError: bad input; the message says where.
        """
        given = self.read(histories, on_unknown)
        times = self.request_times(at, given, users_of(histories))
        return self.table(given, times, k, exclude_seen, candidates, exclude)

    def recommend_users(
        self,
        tokens: Sequence[Any],
        dataset: str | Path | pd.DataFrame | None = None,
        k: int = 10,
        at: Any = None,
        exclude_seen: bool = True,
        candidates: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
        on_unknown: str = "raise",
    ) -> pd.DataFrame:
        """`recommend` for users of a data set, by their tokens, with the events of `add_events`.

        Args:
            tokens: of the users, each once.
            dataset: where their events are: a folder of atomic files, an `.inter` file, or a long
                table; by default the place that the checkpoint recorded. A model that knows users
                by name needs none with `exclude_seen=False`.
            Others, and errors: as for `recommend`.
        """
        tokens = token_list(tokens, "users")
        if not self.saved.is_sequential and not exclude_seen and dataset is None:
            given = of_users_alone(tokens)
        else:
            given = self.read(self.events_of_users(dataset).of(tokens), on_unknown)
        times = self.request_times(at, given, [str(token) for token in tokens])
        return self.table(given, times, k, exclude_seen, candidates, exclude)

    def events_of_users(self, dataset: str | Path | pd.DataFrame | None = None) -> EventsOfUsers:
        """Of a data set and of `add_events`; see `read_events` for arguments and errors."""
        events = read_events(self.saved.config, dataset)
        return EventsOfUsers(events, self.new_events, self.saved.config["rm_dup_inter"])

    def similar_items(self, item: Any, k: int = 10) -> pd.DataFrame:
        """The k items whose vectors are most like this item's (cosine): item, score, rank.

        Raises:
            InputError: an unknown item, a k out of range, a model without a vector an item.
        """
        id = int(self.ids([item])[0])
        with torch.inference_mode():
            best, ids = most_alike(self.scorer.vectors(), id, k)
        found = {"item": self.items[ids.cpu().numpy()], "score": best.cpu()}
        return pd.DataFrame({**found, "rank": np.arange(1, k + 1)})

    def scores(self, history: Any, items: Sequence[Any], at: Any = None) -> np.ndarray:
        """(n,) float32: what the model gives each of these items after one user's history.

        Raises:
            InputError: bad input; the message says where.
        """
        given = self.read(history if isinstance(history, pd.DataFrame) else [history])
        if len(given) != 1:
            raise InputError(f"scores: one history at a time, not {len(given)}")
        ids = torch.from_numpy(self.ids(items)).to(self.device)
        with torch.inference_mode():
            batch = self.batch(given, self.request_times(at, given, given.users), 0, 1)
            return self.scorer.scores(self.scorer.prepare(batch), ids)[0].cpu().numpy()

    def add_items(self, items: Any, stand_in: str = "neighbours") -> None:
        """Items that no training has seen, from now on to be recommended and to stand in
        histories; see `new_items.add_items` for arguments and errors."""
        add_items(self.saved, items, stand_in)
        self._take_up_items()
        if self.index is not None:
            self.index.take_up(self.scorer)

    def add_events(self, events: Any, on_unknown: str = "raise") -> None:
        """What any users did since the training, in the form of histories: counted by models with
        `recent_days`, and those of a table in the histories of `recommend_users`. `on_unknown` is
        that of `recommend`; see `new_events.add_events` for errors."""
        given = self.read(events, on_unknown)
        self.new_events = add_events(self.saved, given, self.items, self.new_events)

    def read(self, histories: Any, on_unknown: str = "raise") -> Histories:
        """Check histories and find their items; see `read_histories`."""
        return read_histories(
            histories,
            self.items,
            needs_time=self.needs_time,
            on_unknown=on_unknown,
            known_times=self.saved.times,
        )

    def request_times(self, at: Any, given: Histories, users: Sequence[Any]) -> np.ndarray | None:
        """(B,) the times of the requests; see `request_times.request_times`, also for errors."""
        needed_by = self.saved.config["model"] if self.needs_request_time else None
        return request_times(at, given, users, needed_by, self.saved.times)

    def ids(self, tokens: Sequence[Any]) -> np.ndarray:
        """(n,) int64 ids of item tokens.

        Raises:
            InputError: one is unknown, or there is none.
        """
        tokens = token_list(tokens, "items")
        if not tokens:
            raise InputError("items: the list is empty; name an item or more")
        found = self.items.get_indexer(pd.Index([str(token) for token in tokens], dtype=object))
        unknown = [token for token, id in zip(tokens, found, strict=True) if id < 1]
        if unknown:
            raise InputError(f"items that the model does not know: {first_ten(unknown)}")
        return found.astype(np.int64)

    def allowed(
        self, candidates: Any = None, exclude: Any = None, by_row: bool = False
    ) -> AllowedItems:
        """What these arguments of `recommend` leave; see `allowed_items`, also for errors. With an
        index, which knows the whole catalogue alone, `by_row` always holds."""
        by_row = by_row or self.index is not None
        return allowed_items(self.scorer.n_items - 1, self.ids, candidates, exclude, by_row)

    def lists(
        self,
        given: Histories,
        times: np.ndarray | None,
        k: int,
        *,
        exclude_seen: bool = True,
        allowed: AllowedItems | None = None,
        prepare: Callable[..., torch.Tensor] | None = None,
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Batch by batch: the users, scores (B, k) and ids (B, k); -inf where there is no item.
        `prepare` stands in for the method of this name.

        Raises:
            InputError: a k out of range, a user that the model does not know.
        """
        allowed = allowed or self.allowed()
        allowed.check_k(k)
        is_left_out = true_or_false(exclude_seen, "exclude_seen")
        for part in self.parts(len(given)):
            with torch.inference_mode():
                prepared = (prepare or self.prepare)(given, times, part)
                barred = allowed.barred(part.stop - part.start)
                if is_left_out:
                    barred = together(barred, given.seen(part.start, part.stop))
                best, ids = self.best(prepared, k, barred, allowed.columns)
            yield part, best, ids

    def parts(self, n_users: int) -> Iterator[slice]:
        """Users that are scored at once, of so many."""
        for start in range(0, n_users, self.scorer.rows_at_once):
            yield slice(start, min(start + self.scorer.rows_at_once, n_users))

    def prepare(self, given: Histories, times: np.ndarray | None, part: slice) -> torch.Tensor:
        """What the scorer compares with the items, for some of the users."""
        return self.scorer.prepare(self.batch(given, times, part.start, part.stop))

    def best(
        self,
        prepared: torch.Tensor,
        k: int,
        barred: Pairs | None,
        columns: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (B, k) and item ids (B, k) of prepared rows, without the barred (row, id)."""
        if columns is None and self.index is not None:
            return self.index.best(self, prepared, k, barred)
        row, column = barred if barred is not None else (torch.empty(0, dtype=torch.int64),) * 2
        row, column = row.to(self.device), column.to(self.device) - 1
        score: Callable[[int, int], torch.Tensor]
        if columns is None:
            n_columns = self.scorer.n_items - 1

            def score(start: int, stop: int) -> torch.Tensor:
                return self.scorer.scores(prepared, slice(start + 1, stop + 1))

        else:
            columns, n_columns = columns.to(self.device), len(columns)
            place = torch.searchsorted(columns, column + 1).clamp(max=n_columns - 1)
            there = columns[place] == column + 1
            row, column = row[there], place[there]

            def score(start: int, stop: int) -> torch.Tensor:
                return self.scorer.scores(prepared, columns[start:stop])

        best, found = top_k(score, len(prepared), n_columns, k, (row, column))
        return best, found + 1 if columns is None else columns[found]

    def table(
        self, given, times, k, exclude_seen, candidates, exclude, prepare=None
    ) -> pd.DataFrame:
        """`lists` for arguments of `recommend`, as one long table."""
        options = {"exclude_seen": exclude_seen, "allowed": self.allowed(candidates, exclude)}
        lists = self.lists(given, times, k, **options, prepare=prepare)
        tables = [long_table(self.items, given.users[part], *best) for part, *best in lists]
        empty = torch.empty(0, k)
        tables = tables or [long_table(self.items, given.users[:0], empty, empty.long())]
        return pd.concat(tables, ignore_index=True)
