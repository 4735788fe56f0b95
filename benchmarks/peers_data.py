"""What benchmarks/peers.py gives every library: one file, split, list of candidates and judge.

A user's last event is the test event and the one before it the validation event, where at least
two events are left to train on; equal times stand in the order of the file. Candidates are the
items of the training windows, a user's last `history` + 1 training events, which are what these
libraries train on. Items of the history are masked.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_hstu.data.files.atomic_file import read_atomic
from recbole_hstu.evaluation.metrics import mean_metrics
from recbole_hstu.evaluation.ranks import MISSED

METRICS = ("hit@10", "ndcg@10", "hit@50", "ndcg@50")
_NAMES = {"user_id": "user", "item_id": "item", "timestamp": "time"}


class Question(NamedTuple):
    """Whom to ask about: `histories` and `targets` (user, item, time), a target a user."""

    histories: pd.DataFrame
    targets: pd.DataFrame

    @property
    def asked(self) -> pd.DataFrame:
        """The targets of the users who have a history: user, item, time of the request."""
        return self.targets[self.targets["user"].isin(self.histories["user"].unique())]

    def metrics(self, lists: pd.DataFrame) -> dict[str, float]:
        """From lists of 50 (user, item, rank from 1); a target that is in none is missed."""
        found = self.targets.merge(lists[["user", "item", "rank"]], on=["user", "item"], how="left")
        rank = found["rank"].fillna(0).to_numpy(dtype=np.int64)
        return mean_metrics(np.where(rank == 0, MISSED, rank), METRICS)


class Split(NamedTuple):
    """Training events (user, item, time) by time, candidates, and whom to ask about."""

    train: pd.DataFrame
    candidates: np.ndarray
    valid: Question
    test: Question


def clocks() -> np.ndarray:
    """(2,) seconds: by the wall, and of the processor, which other work lengthens less."""
    return np.array([time.perf_counter(), time.process_time()])


def write_first_users(file: Path, copy: Path, users: int) -> None:
    """Copy an atomic file with the events of the users that come first in it."""
    kept: set[str] = set()
    with file.open(encoding="utf-8") as lines, copy.open("w", encoding="utf-8") as out:
        header = next(lines)
        out.write(header)
        column = header.rstrip("\n").split("\t").index("user_id:token")
        for line in lines:
            user = line.rstrip("\n").split("\t")[column]
            if len(kept) < users or user in kept:
                kept.add(user)
                out.write(line)


def read_split(file: Path, history: int) -> Split:
    """The split of an atomic file whose fields have RecBole's usual names."""
    events = read_atomic(file, fields=_NAMES, time_field="timestamp").rename(columns=_NAMES)
    events = events[list(_NAMES.values())].sort_values("time", kind="stable")
    of_user = events.groupby("user", sort=False)["item"]
    length, from_end = of_user.transform("size"), of_user.cumcount(ascending=False)
    is_test, is_valid = (from_end == 0) & (length >= 3), (from_end == 1) & (length >= 4)
    is_train = ~(is_test | is_valid) & (length >= 2)
    windows = events[is_train].groupby("user", sort=False).tail(history + 1)
    candidates = windows["item"].unique()
    known = events["item"].isin(candidates)
    return Split(
        events[is_train],
        candidates,
        valid=Question(events[is_train & known], events[is_valid]),
        test=Question(events[~is_test & known], events[is_test]),
    )
