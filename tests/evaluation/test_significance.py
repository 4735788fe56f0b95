"""Paired tests over users, several seeds, and the correction for many comparisons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recbole_hstu.evaluation.ranks import MISSED
from recbole_hstu.evaluation.significance import holm, paired_test, paired_tests_against_best
from recbole_hstu.records.rank_file import RankFile
from recbole_hstu.support.errors import InputError


def rank_file(ranks, users=None):
    count = len(ranks)
    users = [f"u{i}" for i in range(count)] if users is None else users
    zero = np.zeros(count, dtype=np.int64)
    return RankFile(np.array(users), np.asarray(ranks, dtype=np.int64), zero, zero, zero)


@pytest.mark.parametrize("shift", [0, 2, 4])
def test_agrees_with_a_randomisation_test(shift):
    rng = np.random.default_rng(3)
    a, b = 1 / rng.integers(1, 60 - shift, 400), 1 / rng.integers(1, 60, 400)
    difference, low, high, p = paired_test(a, b)
    flipped = (rng.choice([-1.0, 1.0], (20_000, 400)) * (a - b)).mean(axis=1)
    assert p == pytest.approx(np.mean(np.abs(flipped) >= abs(a.mean() - b.mean())), abs=0.015)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert low < difference < high
    assert (low > 0 or high < 0) == (p < 0.05)


def test_p_is_uniform_when_nothing_differs():
    """Under the null one test in twenty is below 0.05: no more, no fewer."""
    rng = np.random.default_rng(11)
    p = [paired_test(*(1 / rng.integers(1, 50, (2, 300))))[3] for _ in range(2000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_nothing_to_test():
    same = np.array([0.1, 0.5, 0.0])
    assert paired_test(same, same) == (0.0, 0.0, 0.0, 1.0)
    assert paired_test(same, same + 1e-16)[3] == 1.0


def test_the_interval_is_students():
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 12))
    difference, low, high, _ = paired_test(a, b)
    half = stats.t.ppf(0.975, 11) * (a - b).std(ddof=1) / 12**0.5
    assert (low, high) == pytest.approx((difference - half, difference + half))


def test_a_model_counts_with_the_mean_of_its_seeds():
    same, better = rank_file([2, 2, 4, 1]), rank_file([1, 2, 2, 1])
    tests = paired_tests_against_best({"A": [same, better], "B": [same]}, ["B"], ["mrr"])
    assert tests["A", "mrr"].difference == pytest.approx((0.5 + 0 + 0.25 + 0) / 4 / 2)


def test_holm_by_hand():
    # 0.01*4, then max(0.04, 0.02*3), then max(0.06, 0.03*2), then 0.5
    assert holm([0.03, 0.01, 0.5, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@pytest.fixture
def runs():
    """Four models over 2,000 users; "good" beats every baseline, "twin" equals the better one."""
    rng = np.random.default_rng(4)
    weak, strong = rng.integers(1, 200, 2000), rng.integers(1, 90, 2000)
    good = np.maximum(1, strong - rng.integers(0, 30, 2000))
    good[:20] = MISSED
    return {
        "weak": [rank_file(weak)],
        "strong": [rank_file(strong), rank_file(np.roll(strong, 1))],
        "good": [rank_file(good), rank_file(np.roll(good, 1))],
        "twin": [rank_file(np.roll(strong, 1)), rank_file(strong)],
    }


def test_against_the_best_baseline(runs):
    tests = paired_tests_against_best(runs, ["weak", "strong"], ["hit@10", "mrr"])
    assert set(tests) == {(m, k) for m in ("good", "twin") for k in ("hit@10", "mrr")}
    assert {t.reference for t in tests.values()} == {"strong"}
    assert tests["good", "hit@10"].adjusted < 0.001 < 0.9 < tests["twin", "mrr"].adjusted
    single = [t.p for t in tests.values()]
    assert [t.adjusted for t in tests.values()] == pytest.approx(holm(single).tolist())


def test_a_p_that_could_go_either_way_is_corrected_for_all_comparisons(runs):
    strong = runs["strong"][0].ranks
    near = strong.copy()
    near[np.flatnonzero(strong > 10)[:5]] = 1  # five hits more
    near = {"strong": [rank_file(strong)], "near": [rank_file(near)], "twin": runs["twin"][:1]}
    tests = paired_tests_against_best(near, ["strong"], ["hit@10", "mrr"])
    p = tests["near", "hit@10"].p
    assert 0.01 < p < 0.05
    assert tests["near", "hit@10"].adjusted > 2 * p
    single = [test.p for test in tests.values()]
    assert [test.adjusted for test in tests.values()] == pytest.approx(holm(single).tolist())


def test_users_are_matched_by_token_not_by_place(runs):
    expected = paired_tests_against_best(runs, ["strong"], ["mrr"])
    order = np.random.default_rng(8).permutation(2000)
    runs["good"] = [rank_file(file.ranks[order], users=file.users[order]) for file in runs["good"]]
    got = paired_tests_against_best(runs, ["strong"], ["mrr"])
    for key, test in expected.items():
        assert (got[key].low, got[key].high) == pytest.approx((test.low, test.high))


def test_other_users_are_refused(runs):
    ranks = runs["good"][1].ranks
    runs["good"][1] = rank_file(ranks, users=["stranger", *(f"u{i}" for i in range(1, 2000))])
    with pytest.raises(InputError, match=r"2 differ, such as stranger, u0"):
        paired_tests_against_best(runs, ["strong"], ["mrr"])


@pytest.mark.parametrize("column", ["history_length", "target_count"])
def test_other_events_of_the_same_users_are_refused_whatever_their_order(column):
    one = rank_file([1, 2, 3, 4])
    turned = rank_file([4, 3, 2, 1], users=["u3", "u2", "u1", "u0"])
    assert paired_tests_against_best({"A": [one], "B": [turned]}, ["A"], ["mrr"])
    other = replace(turned, **{column: np.array([0, 7, 0, 0])})
    with pytest.raises(InputError, match=r"B and A were not tested on the same events .* u2\)"):
        paired_tests_against_best({"A": [one], "B": [other]}, ["A"], ["mrr"])
