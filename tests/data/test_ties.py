"""Events of one user at the same time: hashed order, and the statistics of a file's order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import small_config, small_options, write_inter

from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.ties import count_ties, in_hashed_order, places_of_tokens
from recbole_hstu.studies.compare import compare_models
from recbole_hstu.support.errors import InputError

FIELDS = ["user_id", "item_id", "timestamp"]

events = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "7"]),
        st.sampled_from([f"i{k}" for k in range(12)]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
    unique=True,
)


def hashed(rows):
    frame = pd.DataFrame(rows, columns=FIELDS)
    return list(in_hashed_order(frame, *FIELDS).itertuples(index=False, name=None))


@given(events, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_hashed_order_is_no_matter_of_the_files_order(rows, random):
    """Rows of one user and time exchange places, others stay; any file gives the same histories."""
    found = hashed(rows)
    assert [row[::2] for row in found] == [row[::2] for row in rows]
    assert sorted(found) == sorted(rows)
    places = {}
    for place, (user, _, time) in enumerate(rows):
        places.setdefault((user, time), []).append(place)
    exchanged = list(rows)
    for group in places.values():
        for place, source in zip(group, random.sample(group, len(group)), strict=True):
            exchanged[place] = rows[source]
    assert hashed(exchanged) == found
    shuffled = random.sample(rows, len(rows))
    in_time = [sorted(hashed(some), key=lambda row: row[::2]) for some in (rows, shuffled)]
    assert in_time[0] == in_time[1]


def sorted_rows(users=60, n=12):
    """Every user's events at one time, their items ascending."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(users):
        rows += [(f"u{user}", item, 7) for item in np.sort(rng.choice(99, n, replace=False))]
    return rows


def test_data_sets_of_exchanged_rows_are_equal_to_the_last_tensor():
    rows, found = sorted_rows(), []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        at = [rng.permutation(12) + 12 * user for user in range(60)]
        write_inter([rows[place] for place in np.concatenate(at)])
        data = create_dataset(small_config("HSTU", tie_order="hash"))
        batch = data.build()[2][np.arange(60)]
        found.append((list(data.field2id_token["item_id"]), batch))
    assert found[0][0] == found[1][0]
    for field, values in found[0][1].interaction.items():
        assert torch.equal(values, found[1][1][field]), field


def test_a_files_pattern_is_told_and_gone_when_hashed(caplog):
    write_inter(sorted_rows())
    said = {}
    for order in ("file", "hash"):
        caplog.clear()
        data = create_dataset(small_config("HSTU", tie_order=order))
        said[order] = (
            str(data),
            [r.getMessage() for r in caplog.records if r.levelname == "WARNING"],
        )
        assert data.ties.share == data.ties.last == 1.0
    shown, warned = said["file"]
    expected = (
        "100.0% of neighbouring events of a user have the same time, and the last two of 100.0% of "
        "the users; 100.0% of these pairs ascend by item (50% by chance)"
    )
    assert f"Ties: {expected}" in shown
    assert warned == [
        f"toy.inter: {expected}: models may learn the order of the file; compare with "
        "--tie_order=hash"
    ]
    assert said["hash"][1] == []
    assert 0.4 < data.ties.share_ascending < 0.6


def ties_of(users, items, times, places=None):
    order = np.lexsort((times, users))
    return count_ties(users, items, times, order, np.arange(1000) if places is None else places)


def test_ties_by_hand():
    users = np.array([1, 1, 2, 1, 2, 3, 1])
    items = np.array([5, 4, 9, 6, 9, 1, 8])
    times = np.array([0, 3, 1, 3, 1, 4, 2])
    ties = ties_of(users, items, times)  # 1: 5 8 (4 6); 2: (9 9); 3: 1
    assert (ties.neighbours, ties.tied, ties.ascending, ties.descending) == (4, 2, 1, 0)
    assert ties.last == pytest.approx(2 / 3)
    assert not ties.pattern  # one pair may be chance
    again = ties_of(np.ones(3), np.ones(3, int), np.ones(3))  # one item alone ties with itself
    assert (again.tied, again.share_ascending, again.pattern) == (2, 0.5, False)
    none = ties_of(users, items, np.arange(7))
    assert str(none) == "no neighbouring events of a user have the same time"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_pattern_needs_many_ties_and_more_than_chance(sign):
    users, items = np.repeat(np.arange(500), 2), np.arange(1000)
    falling_or_rising = np.arange(1000) * sign
    assert ties_of(users, items, np.zeros(1000, np.int64), falling_or_rising).pattern
    few = np.arange(1000)
    few[:30] = 0
    assert not ties_of(users, items, few, falling_or_rising).pattern
    even = np.random.default_rng(0).permutation(1000)
    assert not ties_of(users, even, np.zeros(1000, np.int64)).pattern


def test_items_are_ordered_as_numbers_or_as_text():
    assert places_of_tokens(np.array(["10", "9", "100"])).tolist() == [1, 0, 2]
    assert places_of_tokens(np.array(["10", "9", "b100"])).tolist() == [0, 1, 2]


def test_a_study_shows_both_orders():
    write_inter(sorted_rows(users=20))
    text = "Pop:\nPop (ties hashed): {model: Pop, options: {tie_order: hash}}\n"
    Path("rows.yaml").write_text(text)
    table, failed = compare_models([], "toy", (), {**small_options("Pop"), "compare": "rows.yaml"})
    assert not failed
    assert "Pop (ties hashed)" in table


def test_a_table_of_one_model_in_each_order_is_refused(toy):
    Path("rows.yaml").write_text("Pop:\nBPR: {options: {tie_order: hash}}\n")
    with pytest.raises(InputError, match="give every model a row in each order, or all"):
        compare_models([], "toy", (), {**small_options("Pop"), "compare": "rows.yaml"})
