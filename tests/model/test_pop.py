"""Pop counts every interaction of the training, whatever the batches."""

from collections import Counter

import pytest
from small_data import random_rows, small_options

from recbole_hstu.quick_start import run


@pytest.mark.parametrize("size", [7, 2048])
def test_every_interaction_counts(toy, size):
    options = small_options("Pop", train_batch_size=size)
    trained = run("Pop", "toy", config_dict=options, with_model=True)["trained"]
    rows = random_rows()
    by_user = {}
    for user, item, _ in rows:
        by_user.setdefault(user, []).append(item)
    expected = Counter(item for items in by_user.values() for item in items[:-2])
    tokens = trained.dataset.field2id_token["item_id"]
    counts = trained.model.item_cnt.squeeze(1).tolist()
    assert {t: n for t, n in zip(tokens[1:], counts[1:], strict=True) if n} == expected
