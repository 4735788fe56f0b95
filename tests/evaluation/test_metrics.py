"""Metrics against their definitions, and against RecBole's own classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.evaluator import metrics as recbole_metrics
from recbole.evaluator.collector import DataStruct

from recbole_hstu.evaluation.metrics import mean_metrics, metric_names, user_metric
from recbole_hstu.evaluation.ranks import MISSED

RANK = st.one_of(st.integers(1, 30), st.integers(2490, 2510), st.just(MISSED))


@given(st.lists(RANK, min_size=1, max_size=20), st.integers(1, 2600))
def test_by_definition(ranks, k):
    array = np.array(ranks, dtype=np.int64)
    expected = {
        f"hit@{k}": [float(r <= k) for r in ranks],
        f"ndcg@{k}": [1 / math.log2(r + 1) if r <= k else 0.0 for r in ranks],
        f"mrr@{k}": [1 / r if r <= k else 0.0 for r in ranks],
        "mrr": [0.0 if r == MISSED else 1 / r for r in ranks],
        "mrr_capped": [1 / r if r <= 2500 else 1 / 2501 for r in ranks],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(user_metric(array, name), values, rtol=1e-12)
        assert mean_metrics(array, [name])[name] == pytest.approx(sum(values) / len(values))


def test_equal_to_recbole(monkeypatch):
    monkeypatch.setattr(np, "float", float, raising=False)  # RecBole's metrics still name it
    ranks = np.random.default_rng(5).integers(1, 40, 200)
    topk = [1, 5, 10, 20]
    config = {"topk": topk, "metric_decimal_place": 12}
    struct = DataStruct()
    positions = torch.arange(1, 21)[None, :] == torch.from_numpy(ranks)[:, None]
    struct.set("rec.topk", torch.cat([positions.int(), torch.ones(200, 1, dtype=torch.int)], 1))
    for kind in ("Hit", "NDCG", "MRR", "Recall", "Precision", "MAP"):
        theirs = getattr(recbole_metrics, kind)(config).calculate_metric(struct)
        ours = mean_metrics(ranks, [f"{kind.lower()}@{k}" for k in topk])
        assert list(theirs.values()) == pytest.approx(list(ours.values()), abs=1e-11)


def test_missed_is_worth_nothing():
    missed = np.array([MISSED])
    assert set(mean_metrics(missed, [*metric_names([1, 10, 10**9]), "mrr@50"]).values()) == {0.0}


@pytest.mark.parametrize(
    "name", ["hit@0", "hit@-1", "hit", "mrr@", "hr@10", "ndcg@1.5", "hit@²", ""]
)
def test_unknown_names(name):
    with pytest.raises(ValueError, match="unknown metric"):
        user_metric(np.array([1]), name)


@pytest.mark.parametrize("ranks", [np.array([0]), np.array([1.0]), np.array([[1]])])
def test_ranks_count_from_one(ranks):
    with pytest.raises(ValueError, match="counted from 1"):
        user_metric(ranks, "mrr")


def test_nobody_has_no_mean():
    with pytest.raises(ValueError, match="at least one user"):
        mean_metrics(np.array([], dtype=np.int64), ["mrr"])
