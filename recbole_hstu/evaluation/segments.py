"""Metrics by kind of user and kind of target item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_hstu.evaluation.metrics import mean_metrics

USER_SEGMENTS = ("short", "regular", "power")
ITEM_SEGMENTS = ("head", "middle", "tail", "cold")


@dataclass(frozen=True)
class Segment:
    """The users of one segment, their share of all users, and their mean metrics.

    An empty segment has no metrics.
    """

    name: str
    users: int
    share: float
    metrics: dict[str, float]


class PopularityBounds(NamedTuple):
    """The smallest training count of a head item, and of a middle item."""

    head: int
    middle: int


def user_segments(history_length: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """The place in `USER_SEGMENTS` of every user `(users,)`, from the events before the target.

    GLoSS (4.2.3, appendix C): with n the length of the user's whole sequence, short is n <= low,
    regular low < n <= high, power n > high. n counts the target (`history_length + 1`): only so
    does a third of the users of their 5-core data, where nobody has fewer than 5 events, have
    n <= 5. Their `high` is 13 for Toys and Sports and 14 for Beauty, about a tenth of the users.

    Raises:
        ValueError: not 0 < low < high.
    """
    if not 0 < low < high:
        raise ValueError(f"user segments need 0 < low < high, not low={low}, high={high}")
    return np.searchsorted([low, high], np.asarray(history_length) + 1, side="left")


def popularity_bounds(
    train_counts: NDArray[np.int64], head: float, middle: float
) -> PopularityBounds:
    """Where head and middle begin, from the training counts `(items,)`, not all of them 0.

    The items most bought that together hold the share `head` of all interactions are the head,
    those that bring it to `middle` are the middle, other items seen in training are the tail.
    Items of one count stand together, in the better segment.

    Raises:
        ValueError: not 0 < head < middle < 1.
    """
    if not 0 < head < middle < 1:
        raise ValueError(f"need 0 < head < middle < 1, not head={head}, middle={middle}")
    falling = np.sort(np.asarray(train_counts))[::-1]
    held = np.cumsum(falling)
    place = np.searchsorted(held, np.array([head, middle]) * held[-1], side="left")
    return PopularityBounds(int(falling[place[0]]), int(falling[place[1]]))


def item_segments(counts: NDArray[np.int64], bounds: PopularityBounds) -> NDArray[np.int64]:
    """The place in `ITEM_SEGMENTS` of items with these training counts; 0 is cold.

    Takes the counts of all items, or those of the targets `(users,)` as a rank file keeps them.
    """
    counts = np.asarray(counts)
    conditions = [counts >= bounds.head, counts >= bounds.middle, counts > 0]
    return np.select(conditions, [0, 1, 2], default=3)


def metrics_by_segment(
    ranks: NDArray[np.int64],
    segment: NDArray[np.int64],
    segment_names: Sequence[str],
    metric_names: Sequence[str],
) -> list[Segment]:
    """Every segment's size and mean metrics, in the order of `segment_names`.

    Args:
        ranks: `(users,)`, from 1; there is a user.
        segment: `(users,)`, places in `segment_names`.

    Raises:
        ValueError: an unknown metric.
    """
    result = []
    for place, name in enumerate(segment_names):
        chosen = ranks[segment == place]
        metrics = mean_metrics(chosen, metric_names) if len(chosen) else {}
        result.append(Segment(name, len(chosen), len(chosen) / len(ranks), metrics))
    return result
