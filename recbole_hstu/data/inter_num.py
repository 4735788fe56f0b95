"""RecBole's k-core filter, by counting numbers: the same rows as its loop over tokens leaves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_hstu.data.files.token_codes import codes_of, count_ids

Legal = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


class Side(NamedTuple):
    """The users, or the items, of (E,) interactions.

    Attributes:
        codes: (E,) which of the tokens each interaction has.
        tokens: (V,) different tokens.
        legal: tells of numbers of interactions (V,) which are allowed; None if all are.
    """

    codes: NDArray[np.integer]
    tokens: pd.Index
    legal: Legal | None

    @classmethod
    def of(cls, column: pd.Series, legal: Legal | None) -> Side:
        return cls(*codes_of(column), legal)

    def left(self, stays: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(V,) how many of the interactions that stay each token has."""
        return count_ids(self.codes, len(self.tokens), stays)

    def banned(self, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(V,) which tokens have interactions, but an illegal number of them."""
        legal = np.True_ if self.legal is None else self.legal(counts)
        return (counts > 0) & ~legal


def keep_legal_numbers(dataset: Any) -> None:
    """RecBole's `user_inter_num_interval` and `item_inter_num_interval`, over its frames."""
    names, fields = ("user", "item"), (dataset.uid_field, dataset.iid_field)
    intervals = [
        dataset._parse_intervals_str(dataset.config[f"{name}_inter_num_interval"]) for name in names
    ]
    if not any(intervals):
        return
    inter, legal = dataset.inter_feat, dataset._within_intervals
    sides = [
        Side.of(inter[field], partial(legal, intervals=given) if given else None)
        for field, given in zip(fields, intervals, strict=True)
    ]
    stays, left = filter_by_number(*sides)
    if not stays.all():
        dataset.inter_feat = inter[stays]
    for name, field, given, numbers in zip(names, fields, intervals, left, strict=True):
        feat = getattr(dataset, f"{name}_feat")
        if feat is not None and given:
            number = feat[field].map(numbers).fillna(0)
            feat.drop(feat.index[(number < 0) | (number < given[0][1])], inplace=True)


def filter_by_number(*sides: Side) -> tuple[NDArray[np.bool_], list[pd.Series]]:
    """Leave out users and items with too few or too many interactions, until none has.

    Returns:
        (E,) which interactions stay, and of each side, by token, how many are left; -1 for a
        token that had an illegal number.
    """
    stays = np.ones(len(sides[0].codes), dtype=bool)
    out = [np.zeros(len(side.tokens), dtype=bool) for side in sides]
    while True:
        left = [side.left(stays) for side in sides]
        bans = [side.banned(counts) for side, counts in zip(sides, left, strict=True)]
        if not any(ban.any() for ban in bans):
            break
        for side, ban, gone in zip(sides, bans, out, strict=True):
            stays &= ~ban[side.codes]
            gone |= ban
    return stays, [
        pd.Series(np.where(gone, -1, counts), index=side.tokens)
        for side, gone, counts in zip(sides, out, left, strict=True)
    ]
