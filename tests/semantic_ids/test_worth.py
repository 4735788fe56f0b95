"""Collisions, use, entropy and purity of codes made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hstu.semantic_ids.quantised import told_apart
from recbole_hstu.semantic_ids.worth import worth

CODES = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1], [1, 1], [0, 1]])
KINDS = ["a", "b", "a", "b", "b", "b", None, "a"]


def test_by_hand():
    found = worth(CODES, (4, 2), KINDS, seed=0)
    assert (found.items, found.colliding, found.largest) == (8, 7, 3)
    first, second = found.levels
    assert (first.used, first.size, first.entropy) == (2, 4, 1.0)
    assert first.purity == pytest.approx((3 + 3) / 7)  # a a b a, b b b
    assert second.purity == pytest.approx((1 + 2 + 1 + 2) / 7)
    assert 0.4 < first.purity_by_chance <= 1
    assert "7 of them (87.50%)" in found.summary and "up to 3 alike" in found.summary
    headings, rows, _ = found.table()
    assert rows[0] == ["1", "2 of 4", "1.00 of 2.00", "0.857", rows[0][4]]
    assert len(headings) == len(rows[1])


def test_without_categories_there_is_no_purity():
    for categories in (None, [None] * len(CODES)):
        levels = worth(CODES, (4, 2), categories, seed=0).levels
        assert [level.purity for level in levels] == [None, None]


codes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


@given(codes)
def test_items_are_told_apart_by_as_few_codes_as_possible(rows):
    apart = told_apart(np.array(rows))
    assert len({tuple(row) for row in apart.tolist()}) == len(rows)
    np.testing.assert_array_equal(apart[:, :2], rows)
    assert apart[:, 2].max() + 1 == max(rows.count(row) for row in rows)
    first = {}
    for row, further in zip(rows, apart[:, 2], strict=True):
        assert further == first.get(row, 0)  # in file order
        first[row] = first.get(row, 0) + 1
