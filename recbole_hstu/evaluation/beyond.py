"""Beyond accuracy: what the recommended lists hold, and how often scores tie.

The formulas and names are those of RecBole's ItemCoverage, AveragePopularity, GiniIndex and
TailPercentage, which RecBole's own collector cannot feed for sequential models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def list_metrics(
    top_items: NDArray[np.int64],
    train_counts: NDArray[np.int64],
    topk: Sequence[int],
    *,
    tail_ratio: float = 0.1,
) -> dict[str, float]:
    """`itemcoverage@k`, `averagepopularity@k`, `giniindex@k` and `tailpercentage@k` for every k.

    As in RecBole the number of items counts the padding item. As in RecBole, too, the tail is
    taken from the items seen in training: those bought at most `tail_ratio` times if it is above
    1, else that share of them, rarest first (of one count the smaller id first), at least one.

    Args:
        top_items: `(users, K)` item ids, best first, K >= max(topk).
        train_counts: `(V,)` interactions in training by item id; id 0 is padding.
        tail_ratio: above 0.
    """
    users = len(top_items)
    tail = _tail(train_counts, tail_ratio)
    result: dict[str, float] = {}
    for k in topk:
        shown = np.bincount(top_items[:, :k].ravel(), minlength=len(train_counts))
        result[f"itemcoverage@{k}"] = np.count_nonzero(shown) / len(shown)
        result[f"averagepopularity@{k}"] = float(shown @ train_counts) / (users * k)
        result[f"giniindex@{k}"] = _gini(shown)
        result[f"tailpercentage@{k}"] = float(shown @ tail) / (users * k)
    return result


def tie_share(ties: NDArray[np.int64]) -> float:
    """The share of users `(users,)` whose target scores exactly what another candidate scores.

    Equal scores are ranked by item id: where many tie, the metrics say little of the model.
    """
    return float(np.mean(ties > 0))


def _gini(shown: NDArray[np.int64]) -> float:
    """0 where every item is shown equally often, near 1 where a few items take it all."""
    items = len(shown)
    weight = 2 * np.arange(1, items + 1) - items - 1
    return float(weight @ np.sort(shown)) / float(shown.sum()) / items


def _tail(train_counts: NDArray[np.int64], tail_ratio: float) -> NDArray[np.bool_]:
    seen = np.flatnonzero(train_counts)
    if tail_ratio > 1:
        chosen = seen[train_counts[seen] <= tail_ratio]
    else:
        rarest_first = seen[np.argsort(train_counts[seen], kind="stable")]
        chosen = rarest_first[: max(int(len(seen) * tail_ratio), 1)]
    tail = np.zeros(len(train_counts), dtype=bool)
    tail[chosen] = True
    return tail
