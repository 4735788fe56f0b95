"""Events of one user at the same time: their order, and what it may give away.

Where many events have the same time, their order in the file decides which one is the last, and
may be a pattern that models learn: a file sorted by item within a user foretells the next item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from recbole_hstu.data.files.token_codes import blocks

_MANY, _EVEN, _CHANCE = 0.05, (0.45, 0.55), 1e-3


def in_hashed_order(frame: pd.DataFrame, user: str, item: str, time: str) -> pd.DataFrame:
    """The frame with the rows of one user and time sorted by a hash of user and item.

    These rows exchange places among themselves, all others stay where they are. The order depends
    on the tokens alone (SipHash with pandas' fixed key), not on the order in the file.

    Args:
        frame: interactions in the file's order.
        user, item: columns of tokens.
        time: an int64 column.
    """
    users = pd.factorize(frame[user])[0]
    times = frame[time].to_numpy()
    hashed = pd.util.hash_pandas_object(frame[[user, item]], index=False).to_numpy()
    rows = np.empty(len(frame), dtype=np.int64)
    rows[np.lexsort((times, users))] = np.lexsort((hashed, times, users))
    return frame.iloc[rows].reset_index(drop=True)


@dataclass(frozen=True)
class Ties:
    """How many events share their time with another event of their user, and in which order.

    Attributes:
        neighbours: pairs of events that follow each other in a user's history.
        tied: of these, how many have the same time.
        last: share of the users whose last two events have the same time.
        ascending: of the tied pairs of different items, how many ascend by item.
        descending: likewise.
    """

    neighbours: int
    tied: int
    last: float
    ascending: int
    descending: int

    @property
    def share(self) -> float:
        """The share of the neighbours that are tied."""
        return self.tied / max(self.neighbours, 1)

    @property
    def share_ascending(self) -> float:
        """About 0.5 where the order says nothing of the item, and where there are no such pairs."""
        pairs = self.ascending + self.descending
        return self.ascending / pairs if pairs else 0.5

    @property
    def pattern(self) -> bool:
        """Whether many are tied (5%) and their order speaks of the item: the ascending ones are
        outside 45 to 55%, more than chance explains (binomial test, p < 0.001)."""
        pairs = self.ascending + self.descending
        if self.share < _MANY or _EVEN[0] <= self.share_ascending <= _EVEN[1]:
            return False
        return bool(stats.binomtest(self.ascending, pairs).pvalue < _CHANCE)

    def __str__(self) -> str:
        if not self.tied:
            return "no neighbouring events of a user have the same time"
        return (
            f"{self.share:.1%} of neighbouring events of a user have the same time, and the last "
            f"two of {self.last:.1%} of the users; {self.share_ascending:.1%} of these pairs "
            "ascend by item (50% by chance)"
        )


def count_ties(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    times: NDArray[np.int64],
    order: NDArray[np.int64],
    places: NDArray[np.int64],
) -> Ties:
    """The ties among events `(E,)` in the file's order.

    Args:
        order: the events by user and time.
        places: (V,) of every item, the place in an order of items.
    """
    pairs = max(len(order) - 1, 0)
    same_user, tied = np.zeros(pairs, dtype=bool), np.zeros(pairs, dtype=bool)
    ascending = descending = 0
    for part in blocks(pairs):  # and the event after each
        some = order[part.start : part.stop + 1]
        of_user, at = users[some], times[some]
        same_user[part] = of_user[1:] == of_user[:-1]
        tied[part] = same_user[part] & (at[1:] == at[:-1])
        item = places[items[some]]
        ascending += int((item[1:] > item[:-1])[tied[part]].sum())
        descending += int((item[1:] < item[:-1])[tied[part]].sum())
    ends = np.flatnonzero(np.r_[~same_user, True]) if len(order) else np.zeros(0, np.int64)
    return Ties(
        neighbours=int(same_user.sum()),
        tied=int(tied.sum()),
        last=float(np.r_[False, tied][ends].mean()) if len(ends) else 0.0,
        ascending=ascending,
        descending=descending,
    )


def places_of_tokens(tokens: NDArray[np.str_]) -> NDArray[np.int64]:
    """`(V,)` the place of each token in their order: that of numbers if all are, else of text."""
    numbers = pd.to_numeric(pd.Series(tokens), errors="coerce")
    keys = tokens.astype(str) if numbers.isna().any() else numbers.to_numpy()
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
