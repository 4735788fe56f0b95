"""Metrics from ranks, each of one relevant item a user, under RecBole's names.

With one relevant item RecBole's `recall@k` is `hit@k`, its `precision@k` that divided by k, and its
`map@k` is `mrr@k`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recbole_hstu.evaluation.ranks import MISSED

KINDS = ("hit", "recall", "precision", "ndcg", "mrr", "map")
"""Metrics of the first k of a list, without their `@k`."""

MRR_CAP = 2500
"""`mrr_capped`: ranks past this count as one more, missed targets too (HSTU's research code)."""


def user_metric(ranks: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """One metric for every user, `(users,)` in 0..1, from ranks `(users,)` counted from 1.

    Those of `KINDS` are RecBole's: `hit@k` and `recall@k` (1 within the first k, else 0),
    `precision@k` (1/k), `ndcg@k` (1/log2(rank+1)), `mrr@k` and `map@k` (1/rank). `mrr` is 1/rank
    over the whole ranking, 0 for a `MISSED` target; `mrr_capped` is the mean reciprocal rank of
    HSTU's research code, in which no target is worth less than 1/2501.

    Raises:
        ValueError: an unknown name, or a rank below 1.
    """
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or not np.issubdtype(ranks.dtype, np.integer) or (ranks < 1).any():
        raise ValueError("ranks must be whole numbers (users,), counted from 1")
    if name == "mrr":
        return np.where(ranks == MISSED, 0.0, 1.0 / ranks)
    if name == "mrr_capped":
        return 1.0 / np.minimum(ranks, MRR_CAP + 1)
    kind, k = parse_name(name)
    hit = ranks <= k
    if kind in ("hit", "recall", "precision"):
        return hit / (k if kind == "precision" else 1)
    gain = 1.0 / np.log2(ranks + 1.0) if kind == "ndcg" else 1.0 / ranks
    return np.where(hit, gain, 0.0)


def tested_as(name: str) -> str:
    """The metric whose test is that of `name`: with one relevant item some differ by a factor."""
    kind, at, k = name.partition("@")
    twin = {"recall": "hit", "precision": "hit", "map": "mrr"}.get(kind, kind)
    return f"{twin}{at}{k}"


def mean_metrics(ranks: NDArray[np.int64], names: Iterable[str]) -> dict[str, float]:
    """The mean over users of every named metric.

    Raises:
        ValueError: no users, an unknown name, or a rank below 1.
    """
    if len(ranks) == 0:
        raise ValueError("no ranks: a metric needs at least one user")
    return {name: float(user_metric(ranks, name).mean()) for name in names}


def metric_names(topk: Sequence[int]) -> list[str]:
    """`hit@k` and `ndcg@k` for every k, then `mrr`: the usual columns."""
    return [f"{kind}@{k}" for kind in ("hit", "ndcg") for k in topk] + ["mrr"]


def parse_name(name: str) -> tuple[str, int]:
    """`"ndcg@10"` -> `("ndcg", 10)`.

    Raises:
        ValueError: not one of `KINDS` with a whole k > 0.
    """
    kind, _, k = name.partition("@")
    if kind not in KINDS or not (k.isascii() and k.isdigit()) or int(k) < 1:
        raise ValueError(
            f"unknown metric {name!r}: use {'@k, '.join(KINDS)}@k (k > 0), mrr or mrr_capped"
        )
    return kind, int(k)
