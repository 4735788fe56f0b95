"""The interactions of one data set in columns: filter, order, describe."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from dataset_converters.errors import ConversionError
from dataset_converters.reading.clean_text import is_clean_token

_YEAR_S = 31_536_000
_MANY_ROWS, _FEW_TIMES = 200, 20
_INT64_MAX = 2**63 - 1
_BLOCK = 1 << 20  # rows

Row = tuple[str, str, float, int]


@dataclass(frozen=True)
class Interactions:
    """Parallel columns, one entry an interaction, in the source's order until `sorted_by_time`.

    `user` and `item` (N,) int32 index into the tokens `users` and `items`; `rating` (N,) float64;
    `time` (N,) int64 in the source's own unit. Tokens may be there without any interaction.
    """

    users: list[str]
    items: list[str]
    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Interactions:
        """These rows only: a mask or indices."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            rating=self.rating[rows],
            time=self.time[rows],
        )

    def of_items(self, known: Collection[str]) -> Interactions:
        """Only the interactions with the items of `known`."""
        keep = np.fromiter((item in known for item in self.items), bool, len(self.items))
        return self.take(keep[self.item])

    def sorted_by_time(self) -> Interactions:
        """By user token, then time; ties keep the source's order."""
        rank = np.empty(len(self.users), np.int64)
        rank[sorted(range(len(self.users)), key=self.users.__getitem__)] = np.arange(rank.size)
        least = int(self.time.min()) if len(self) else 0
        span = int(self.time.max()) - least + 1 if len(self) else 1
        if len(self.users) * span > _INT64_MAX:
            return self.take(np.lexsort((self.time, rank[self.user])))
        rank *= span  # user and time in one number: sorted in a third of the time
        keys = rank[self.user]
        keys += self.time - np.int64(least)
        return self.take(np.argsort(keys, kind="stable"))

    def repeats(self, keep: str) -> np.ndarray:
        """Mask of the interactions that repeat a (user, item) pair; rows must be sorted by time.

        `keep` is "first" or "last": the one interaction of each pair that is not marked.
        """
        mask = np.ones(len(self), bool)
        starts = np.flatnonzero(np.diff(self.user, prepend=-1))  # a user's rows stand together
        cuts = np.unique(np.searchsorted(starts, np.arange(0, len(self), _BLOCK)))
        cuts = starts[cuts[cuts < len(starts)]]
        for start, stop in pairwise((*cuts.tolist(), len(self))):
            pairs = self.user[start:stop].astype(np.int64) * max(len(self.items), 1)
            pairs += self.item[start:stop]
            seen = pairs[::-1] if keep == "last" else pairs
            first = np.unique(seen, return_index=True)[1]
            mask[stop - 1 - first if keep == "last" else start + first] = False
        return mask

    def core(self, users: int, items: int) -> Interactions:
        """Users with at least `users`, items with at least `items` interactions, until stable."""
        kept = self
        while True:
            enough = (np.bincount(kept.user, minlength=len(kept.users)) >= users)[kept.user]
            enough &= (np.bincount(kept.item, minlength=len(kept.items)) >= items)[kept.item]
            if enough.all():
                return kept
            kept = kept.take(enough)

    def item_tokens(self) -> set[str]:
        """The items that have an interaction."""
        return {self.items[code] for code in np.flatnonzero(np.bincount(self.item))}

    def user_tokens(self) -> set[str]:
        """The users that have an interaction."""
        return {self.users[code] for code in np.flatnonzero(np.bincount(self.user))}

    def counts(self) -> dict[str, int]:
        """Users and items that have an interaction, and the interactions."""
        return {
            "users": int(np.count_nonzero(np.bincount(self.user))),
            "items": int(np.count_nonzero(np.bincount(self.item))),
            "interactions": len(self),
        }

    def describe(self) -> dict[str, object]:
        """Lengths, ties and the span of time, of rows sorted by time.

        A tie is an interaction at the same time as the same user's one before.
        """
        lengths = np.bincount(self.user)
        lengths = lengths[lengths > 0]
        ties = (self.user[1:] == self.user[:-1]) & (self.time[1:] == self.time[:-1])
        return {
            "length": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths)),
                "mean": round(float(lengths.mean()), 4),
                "max": int(lengths.max()),
            },
            "time": {"first": int(self.time.min()), "last": int(self.time.max())},
            "ties": int(ties.sum()),
        }


def doubtful_times(time: np.ndarray) -> str | None:
    """What looks wrong with the times (N,) int64 of all interactions, None if nothing does.

    A column of star ratings, or of counts, is easily named in place of that of the times.
    """
    least, most = int(time.min()), int(time.max())
    if least > -_YEAR_S and most < _YEAR_S:
        what = f"all times lie between {least} and {most}, which is in or near 1970"
    elif len(time) >= _MANY_ROWS and len(np.unique(time[:_BLOCK])) <= _FEW_TIMES >= (
        different := len(np.unique(time))
    ):
        what = f"{len(time):,} interactions have only {different} different times"
    else:
        return None
    return f"{what}; is the column of the times (--time) the right one?"


def checked_row(user: object, item: object, rating: object, time: int) -> Row:
    """A row whose ids can stand in an atomic file and whose numbers fit.

    Raises:
        ValueError: an id is no string, is empty or holds a control character; a rating is not
            finite; a time is outside int64.
    """
    for name, token in (("user", user), ("item", item)):
        if not isinstance(token, str) or not is_clean_token(token):
            raise ValueError(f"{name} id {token!r:.60} is empty or cannot stand in a line")
    number = float(rating)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"rating {rating!r:.60} is not a finite number")
    if not -_INT64_MAX - 1 <= time <= _INT64_MAX:
        raise ValueError(f"time {time} does not fit 64 bits")
    return user, item, number, time  # type: ignore[return-value]


def require_rows(data: Interactions, after: str) -> None:
    """Raise ConversionError if no interaction is left."""
    if not len(data):
        raise ConversionError(f"no interaction is left after {after}")
