"""Columns of interactions against plain pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_converters import ids, interactions
from dataset_converters.gathering import Fields, gather
from dataset_converters.interactions import Interactions, checked_row
from dataset_converters.ordering import stable_order
from dataset_converters.reading.chunks import chunk_of_records
from dataset_converters.reading.clocks import whole_numbers
from dataset_converters.reading.lines import Tally

NAMES = ("user", "item", "rating", "time")

names = st.sampled_from(["u1", "u10", "u2", "\u00e9", "NA"])
times = st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)
rows = st.lists(st.tuples(names, names, st.floats(-5, 5), times), min_size=1, max_size=40)


class Numbers:
    of_column = staticmethod(whole_numbers)


def gathered(rows, limit=None, size=7) -> Interactions:
    """The rows as read from a file in chunks of `size`."""
    records = [dict(zip(NAMES, row, strict=True)) for row in rows]
    parts = [records[start : start + size] for start in range(0, len(records), size)]
    chunks = (chunk_of_records(part, NAMES, range(len(part)), {}) for part in parts)
    fields = Fields(
        "user", "item", "time", "rating", Numbers(), lambda r: checked_row(*map(r.get, NAMES))
    )
    return gather(chunks, fields, Tally(Path("x.csv"), 1.0), limit)


def rows_of(data):
    users, items = data.users.to_pylist(), data.items.to_pylist()
    names = [users[code] for code in data.user], [items[code] for code in data.item]
    return list(zip(*names, data.rating.tolist(), data.time.tolist(), strict=True))


def sorted_data(rows) -> Interactions:
    data = gathered(rows)
    data.sort_by_time()
    return data


def frame(rows):
    return pd.DataFrame(rows, columns=["user", "item", "rating", "time"])


def ordered(rows):
    return sorted(rows, key=lambda row: (row[0], row[3]))  # stable


@given(rows)
def test_sorted_by_user_and_time_ties_in_file_order(rows):
    assert rows_of(sorted_data(rows)) == ordered(rows)


@given(rows, st.sampled_from(["first", "last"]))
def test_blocks_of_users_do_not_matter(rows, keep):
    whole = sorted_data(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interactions, "_BLOCK", 2)
        data = sorted_data(rows)
        assert rows_of(data) == rows_of(whole)
        assert np.array_equal(data.repeats(keep), whole.repeats(keep))
        assert data.counts() == whole.counts()


@given(rows)
def test_ids_are_numbered_alike_however_often_they_are_looked_up(rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_WAITING", 0)
        data = gathered(rows)
    assert rows_of(data) == rows
    assert data.users.to_pylist() == list(dict.fromkeys(row[0] for row in rows))


keys = st.integers(0, 3) | st.integers(0, 2**64 - 1)


@given(st.lists(keys, max_size=30))
def test_order_by_whole_numbers(values):
    order = stable_order(np.array(values, np.uint64))
    assert order.tolist() == sorted(range(len(values)), key=values.__getitem__)


@given(rows, st.integers(1, 50))
def test_a_limit_takes_the_first_rows(rows, limit):
    assert rows_of(gathered(rows, limit)) == rows[:limit]


@given(rows, st.sampled_from(["first", "last"]))
def test_repeated_pairs_as_pandas_sees_them(rows, keep):
    repeated = sorted_data(rows).repeats(keep)
    wanted = frame(ordered(rows)).duplicated(["user", "item"], keep=keep)
    assert np.array_equal(repeated, wanted.to_numpy())


@given(rows, st.integers(0, 4), st.integers(0, 4))
def test_core_by_peeling_one_at_a_time(rows, users, items):
    left = list(rows)
    while True:
        table = frame(left)
        per_user, per_item = table.user.value_counts(), table.item.value_counts()
        bad = [r for r in left if per_user[r[0]] < users or per_item[r[1]] < items]
        if not bad:
            break
        left.remove(bad[0])
    data = gathered(rows)
    assert data.drop_to_core(users, items) == len(rows) - len(left)
    assert rows_of(data) == left


def test_core_goes_on_until_it_is_stable():
    """A chain: each user has two items, the next user shares one; peeling runs to its end."""
    chain = [(f"u{n}", f"i{m}", 1.0, 0) for n in range(9) for m in (n, n + 1)]
    ring = [("v1", "j1", 1.0, 0), ("v1", "j2", 1.0, 0), ("v2", "j1", 1.0, 0), ("v2", "j2", 1.0, 0)]
    data = gathered(chain + ring)
    assert data.drop_to_core(2, 2) == len(chain)
    assert rows_of(data) == ring


def test_description():
    rows = [("b", "x", 1.0, 5), ("a", "x", 1.0, 7), ("b", "y", 1.0, 5), ("b", "x", 1.0, 9)]
    data = sorted_data(rows)
    assert data.counts() == {"users": 2, "items": 2, "interactions": 4}
    facts = data.describe()
    assert facts["ties"] == 1
    assert facts["length"] == {"min": 1, "median": 2.0, "mean": 2.0, "max": 3}
    assert facts["time"] == {"first": 5, "last": 9}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("", "i", 1.0, 1), "user id"),
        (("u", "a\tb", 1.0, 1), "item id"),
        (("u", None, 1.0, 1), "item id"),
        (("u", "i", "nan", 1), "rating"),
        (("[PAD]", "i", 1.0, 1), "user id '\\[PAD\\]' is RecBole's name for no user"),
        (("u", "i", "five", 1), "rating 'five' is no number"),
        (("u", "i", "1_000", 1), "rating '1_000' is no number"),
        (("u", "i", None, 1), "rating None is no number"),
        (("u", "i", 1.0, 2**63), "64 bits"),
    ],
)
def test_rows_that_cannot_be_written(row, reason):
    with pytest.raises(ValueError, match=reason):
        checked_row(*row)
