"""Candidates from cells of like vectors; scores as exact as without."""

import numpy as np
import pandas as pd
import pytest
from served import all_but_last, events, trained
from small_data import random_rows, write_inter

from recbole_hstu import Recommender
from recbole_hstu.support.errors import InputError

pytest.importorskip("faiss", reason="faiss is not installed")
from recbole_hstu.serving.approximate_index import ApproximateIndex

ROWS = random_rows(n_users=60, n_items=400)


@pytest.fixture
def rec():
    write_inter(ROWS)
    return Recommender.load(trained("HSTU")["checkpoint"])


def lists_of(rec, k=5):
    histories, targets = all_but_last(events(ROWS))
    return rec.recommend(histories, k=k, at=targets["time"])


def test_with_a_look_into_every_cell_the_lists_are_the_exact_ones(rec):
    exact = lists_of(rec)
    rec.index = ApproximateIndex(rec, probes=1000)
    pd.testing.assert_frame_equal(lists_of(rec), exact, atol=1e-6)


def test_with_fewer_looks_items_may_be_missed_and_scores_stay_exact(rec):
    exact = lists_of(rec)
    rec.index = ApproximateIndex(rec, probes=1)
    some = lists_of(rec)
    assert len(some) == len(exact)
    both = some.merge(exact, on=["user", "item"])
    assert 0.3 * len(exact) < len(both)
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-6)
    # One user's cells alone: fewer looks do miss items.
    history, at = history_of("u3")
    alone = rec.recommend([history], k=20, at=at)
    rec.index = None
    assert set(alone["item"]) != set(rec.recommend([history], k=20, at=at)["item"])


def history_of(user):
    histories, targets = all_but_last(events(ROWS))
    part = histories[histories["user"] == user]
    pairs = list(zip(part["item"], part["time"].tolist(), strict=True))
    return pairs, int(targets.loc[user, "time"])


@pytest.mark.parametrize("k", [5, 60])
def test_a_list_does_not_depend_on_the_others_of_its_batch(rec, k):
    """Of 60, some are found in the cells and some are computed exactly."""
    rec.index = ApproximateIndex(rec, probes=1)
    histories, targets = all_but_last(events(ROWS))
    parts = histories.groupby("user", sort=False)
    alone = [rec.recommend(part, k=k, at=int(targets.loc[user, "time"])) for user, part in parts]
    pd.testing.assert_frame_equal(lists_of(rec, k), pd.concat(alone, ignore_index=True), atol=1e-6)


def test_a_list_that_the_cells_cannot_fill_is_exact(rec):
    exact = lists_of(rec, k=300)
    rec.index = ApproximateIndex(rec, probes=1)
    pd.testing.assert_frame_equal(lists_of(rec, k=300), exact, atol=1e-6)


def test_items_left_out_do_not_make_a_list_exact(rec):
    rec.index = ApproximateIndex(rec, probes=1)
    history, at = history_of("u3")
    alone = rec.recommend([history], k=20, at=at)
    without = rec.recommend([history], k=18, at=at, exclude=alone["item"][:2].tolist())
    assert without["item"].tolist() == alone["item"].tolist()[2:]


def test_other_models_have_no_such_index(toy):
    with pytest.raises(InputError, match="SASRec compares no vectors"):
        ApproximateIndex(Recommender.load(trained("SASRec")["checkpoint"]))
