"""Segments of users and items, by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hstu.evaluation.metrics import mean_metrics
from recbole_hstu.evaluation.segments import (
    ITEM_SEGMENTS,
    USER_SEGMENTS,
    item_segments,
    metrics_by_segment,
    popularity_bounds,
    user_segments,
)


def test_users_by_the_whole_sequence():
    """GLoSS: n <= 5 is short, n > 13 is power, and n counts the target."""
    history = np.array([0, 4, 5, 12, 13, 200])
    names = [USER_SEGMENTS[i] for i in user_segments(history, 5, 13)]
    assert names == ["short", "short", "regular", "regular", "power", "power"]
    assert user_segments(history, 1, 5).tolist() == [0, 1, 2, 2, 2, 2]


def test_user_bounds_must_rise():
    with pytest.raises(ValueError, match="low < high"):
        user_segments(np.array([1]), 5, 5)


def test_items_by_hand():
    counts = np.array([0, 50, 20, 10, 10, 5, 3, 2, 0])  # 100 interactions; id 0 is padding
    bounds = popularity_bounds(counts, 0.5, 0.8)
    assert bounds == (50, 10)
    names = [ITEM_SEGMENTS[i][0] for i in item_segments(counts, bounds)]
    assert "".join(names) == "chmmmtttc"


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=30).filter(any),
    st.floats(0.05, 0.9),
    st.floats(0.01, 0.09),
)
def test_item_segments_hold_their_share_and_no_more_than_needed(counts, head, step):
    counts = np.array(counts)
    segments = item_segments(counts, popularity_bounds(counts, head, head + step))
    total = counts.sum()
    for last, share in ((0, head), (1, head + step)):
        inside = segments <= last
        held = counts[inside].sum()
        assert held >= share * total * (1 - 1e-12)
        rarest = counts[inside].min()
        assert held - counts[inside & (counts == rarest)].sum() < share * total
    assert ((segments == 3) == (counts == 0)).all()
    for count in set(counts.tolist()):  # one count, one segment
        assert len(set(segments[counts == count])) == 1


@pytest.mark.parametrize("bounds", [(0.9, 0.8), (0.5, 1.0)])
def test_popularity_without_meaning(bounds):
    with pytest.raises(ValueError, match="head < middle"):
        popularity_bounds(np.array([1]), *bounds)


def test_metrics_of_segments_add_up_to_the_whole():
    rng = np.random.default_rng(2)
    ranks, segment = rng.integers(1, 300, 500), rng.integers(0, 3, 500)
    parts = metrics_by_segment(ranks, segment, USER_SEGMENTS, ["hit@10", "mrr"])
    assert [p.name for p in parts] == list(USER_SEGMENTS)
    assert sum(p.users for p in parts) == 500
    whole = mean_metrics(ranks, ["hit@10", "mrr"])
    for name, value in whole.items():
        assert sum(p.metrics[name] * p.share for p in parts) == pytest.approx(value)
    assert parts[1].metrics["mrr"] == pytest.approx(np.mean(1 / ranks[segment == 1]))


def test_an_empty_segment_is_shown_without_metrics():
    parts = metrics_by_segment(np.array([3]), np.array([2]), USER_SEGMENTS, ["mrr"])
    assert [(p.users, p.metrics) for p in parts[:2]] == [(0, {}), (0, {})]
