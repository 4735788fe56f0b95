"""Columns of categories: numbered and sorted in blocks as pandas and numpy would at once."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.utils import FeatureType

from recbole_hstu.data.files import token_codes
from recbole_hstu.data.files.token_codes import blocks, count_ids, number_tokens
from recbole_hstu.data.rows import events
from recbole_hstu.data.rows.events import by_user_and_time


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Blocks of three rows, so that a few rows take several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_codes.blocks, "__defaults__", (3,))
        patch.setattr(events, "_EVENTS_AT_ONCE", 4)
        yield


ids = st.lists(st.integers(0, 6), max_size=30).map(lambda values: np.array(values, np.int32))


@given(ids)
def test_blocks_cover_the_rows(values):
    assert [k for rows in blocks(len(values)) for k in range(len(values))[rows]] == list(
        range(len(values))
    )
    kept = values % 2 == 0
    assert count_ids(values, 7).tolist() == np.bincount(values, minlength=7).tolist()
    assert count_ids(values, 7, kept).tolist() == np.bincount(values[kept], minlength=7).tolist()


@given(ids, st.data())
def test_the_order_is_that_of_a_sort(users, data):
    sizes = st.integers(-(2**62), 2**62) | st.integers(0, 2)
    times = np.array([data.draw(sizes) for _ in users], dtype=np.int64)
    order = by_user_and_time(users, times)
    assert order.tolist() == np.lexsort((times, users)).tolist()


@given(st.lists(st.sampled_from(["a", "b", "NA", "1", "01", None]), min_size=1, max_size=20))
def test_tokens_are_numbered_as_they_appear(tokens):
    """Whatever the categories' order, with tokens that do not occur and rows without one; a column
    of another file goes on with the numbers."""
    kind = pd.CategoricalDtype(["none", "01", "NA", "b", "a", "1"])
    inter = pd.DataFrame({"item": pd.Series(tokens, dtype=kind)})
    item = pd.DataFrame({"item": ["z", "1"], "like": [np.array(["b", "q"]), np.array(["z"])]})
    dataset = SimpleNamespace(field2id_token={})
    columns = [(inter, "item", FeatureType.TOKEN), (item, "item", FeatureType.TOKEN)]
    number_tokens(dataset, [*columns, (item, "like", FeatureType.TOKEN_SEQ)])
    names = dataset.field2id_token["item"]
    expected = list(dict.fromkeys([*(t for t in tokens if t), "z", "1", "b", "q"]))
    assert names.tolist() == ["[PAD]", *expected]
    assert [names[k] for k in inter["item"]] == [token or "[PAD]" for token in tokens]
    assert names[item["item"]].tolist() == ["z", "1"]
    assert [names[row].tolist() for row in item["like"]] == [["b", "q"], ["z"]]
    assert inter["item"].dtype == np.int32
