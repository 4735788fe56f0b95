"""What the lists hold: equal to RecBole's own classes, fed by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.evaluator import metrics as recbole_metrics
from recbole.evaluator.collector import DataStruct

from recbole_hstu.evaluation.beyond import list_metrics, tie_share

TOPK = [1, 2, 4]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.1, 0.35, 1.0, 2, 3]))
def test_equal_to_recbole(seed, tail_ratio):
    rng = np.random.default_rng(seed)
    items = int(rng.integers(5, 30))
    top = np.array([rng.permutation(np.arange(1, items))[:4] for _ in range(rng.integers(1, 9))])
    counts = rng.integers(0, 5, items)
    counts[0], counts[1] = 0, 1
    struct = DataStruct()
    struct.set("rec.items", torch.from_numpy(top))
    struct.set("data.num_items", items)
    struct.set("data.count_items", Counter({i: int(n) for i, n in enumerate(counts) if n}))
    config = {"topk": TOPK, "metric_decimal_place": 12, "tail_ratio": tail_ratio}
    theirs = {}
    for name in ("ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage"):
        theirs |= getattr(recbole_metrics, name)(config).calculate_metric(struct)
    ours = list_metrics(top, counts, TOPK, tail_ratio=tail_ratio)
    assert ours == pytest.approx(theirs, abs=1e-11)


def test_extremes():
    counts = np.array([0, 7, 7, 7, 7])
    same_for_all = list_metrics(np.full((100, 1), 2), counts, [1])
    assert same_for_all["giniindex@1"] == pytest.approx(4 / 5)
    assert same_for_all["itemcoverage@1"] == pytest.approx(1 / 5)
    assert same_for_all["averagepopularity@1"] == 7


def test_share_of_ties():
    assert tie_share(np.array([0, 3, 0, 1])) == 0.5
