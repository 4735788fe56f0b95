"""The events of a data set's users, for who asks by a user's token."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_hstu.data.files.atomic_file import form_of, read_atomic
from recbole_hstu.data.ties import in_hashed_order
from recbole_hstu.serving.checks import check_columns_there, check_token_columns
from recbole_hstu.serving.times import refuse_other_unit, whole_numbers
from recbole_hstu.support.errors import InputError, first_ten

logger = logging.getLogger(__name__)


def read_events(config: Any, dataset: str | Path | pd.DataFrame | None = None) -> pd.DataFrame:
    """All events as a table user, item, time: by time, equal times in the order that the training
    had (`tie_order`), and without the repeats that it left out (`rm_dup_inter`).

    Args:
        config: of the checkpoint; it names the fields and the recorded place.
        dataset: a folder of atomic files, an `.inter` file, or a table user, item and perhaps time,
            whose equal times and repeats stay as they are; the recorded place by default.

    Raises:
        InputError: nothing there, no users or items, or a time that is no whole number.
    """
    if isinstance(dataset, pd.DataFrame):
        return _by_time(_checked(dataset, "dataset"))
    path = Path(dataset if dataset is not None else config["data_path"])
    if path.suffix != ".inter":
        path = path / f"{config['dataset']}.inter"
    if not path.is_file():
        raise InputError(
            f"{path} is not there; name the folder of the data set's atomic files "
            "(--dataset=FOLDER), or give histories"
        )
    time = config["TIME_FIELD"]
    names = {config["USER_ID_FIELD"]: "user", config["ITEM_ID_FIELD"]: "item", time: "time"}
    table = read_atomic(path, fields=names, time_field=time, **form_of(config))
    table = _checked(table.rename(columns=names), str(path))
    if config["tie_order"] == "hash" and "time" in table:
        table = in_hashed_order(table, "user", "item", "time")
    table = _by_time(table)
    if config["rm_dup_inter"] is not None:
        table = table.drop_duplicates(["user", "item"], keep=config["rm_dup_inter"])
    if config["val_interval"]:
        logger.warning("%s: val_interval is not applied to these histories", path)
    return table


def _checked(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows that have a user and an item, as training takes them: tokens as texts, times as
    int64; `where` begins an error's line."""
    check_columns_there(table, where, "a table with the columns user, item, time")
    check_token_columns(table, where)
    whole = table.dropna(subset=["user", "item"]).astype({"user": str, "item": str})
    if len(whole) < len(table):
        lost = len(table) - len(whole)
        logger.warning("%s: %d events without a user or an item are left out", where, lost)
    if "time" in whole:
        whole["time"] = whole_numbers(whole["time"].to_numpy(), f"{where}: time ")
    return whole


def with_further(events: pd.DataFrame, further: pd.DataFrame, whose: str) -> pd.DataFrame:
    """Two tables user, item and perhaps time in one: by time, equal times as they come.

    Args:
        events: of `read_events`, or of `Recommender.add_events` before.
        further: events of `Recommender.add_events`.
        whose: the other events, as a message calls them.

    Raises:
        InputError: one of the tables has times and the other none, or they are of another unit.
    """
    has_times = "time" in further
    if ("time" in events) != has_times:
        raise InputError(
            f"new events: they have {'times' if has_times else 'no times'}, unlike {whose}; load "
            f"the model anew and give them {'none' if has_times else 'a column time'}"
        )
    if has_times and len(events) and len(further):
        newest, others = int(further["time"].max()), int(events["time"].max())
        refuse_other_unit(newest, others, what="new events: time ", whose=whose)
    return _by_time(pd.concat([events, further], ignore_index=True))


class EventsOfUsers:
    """The events of a data set, to be asked for by the user's token.

    Args:
        events: of `read_events`.
        further: such a table of events since then, of these users and of others.
        kept_repeats: with `further`, which event of a user with an item stays: `first` or `last`;
            all where None (`rm_dup_inter`).

    Attributes:
        users: the tokens of all.
        new_users: of those who have an event in `further` alone.

    Raises:
        InputError: see `with_further`.
    """

    def __init__(
        self,
        events: pd.DataFrame,
        further: pd.DataFrame | None = None,
        kept_repeats: str | None = None,
    ):
        self.new_users = pd.Index([], dtype=object)
        if further is not None:
            others = further["user"].unique()
            self.new_users = pd.Index(others, dtype=object).difference(events["user"], sort=False)
            events = with_further(events, further, "the data set's events")
            if kept_repeats is not None:
                events = events.drop_duplicates(["user", "item"], keep=kept_repeats)
        codes, users = pd.factorize(events["user"])
        self.users = pd.Index(users, dtype=object)
        self._events = events.iloc[np.argsort(codes, kind="stable")].reset_index(drop=True)
        self._counts = np.bincount(codes, minlength=len(users))
        self._ends = self._counts.cumsum()

    def of(self, users: Sequence[Any]) -> pd.DataFrame:
        """Their events, in the order in which they are named; see `places` for errors."""
        found = self.places(users)
        counts = self._counts[found]
        first = np.repeat(self._ends[found] - counts.cumsum(), counts)
        return self._events.iloc[first + np.arange(len(first))]

    def places(self, users: Sequence[Any]) -> np.ndarray:
        """(n,) where they stand in `users`.

        Raises:
            InputError: nobody is named, one twice, or one who has no event.
        """
        wanted = pd.Index([str(user) for user in users], dtype=object)
        if not wanted.is_unique:
            raise InputError(f"users twice: {first_ten(wanted[wanted.duplicated()].unique())}")
        if not len(wanted):
            raise InputError("users: nobody is named")
        found = self.users.get_indexer(wanted)
        lacking = wanted[found < 0]
        if len(lacking):
            raise InputError(
                f"{len(lacking):,} users have no event in the data set: {first_ten(lacking)}"
            )
        return found


def _by_time(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("time", kind="stable") if "time" in table else table
