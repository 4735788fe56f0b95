"""Loaders without lists of row numbers: every epoch in the order that RecBole's would have."""

import numpy as np
import pytest
from small_data import random_rows, small_config, write_inter

from recbole_hstu.data import loaders
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.data.rows import row_numbers


def epochs(**options):
    """The users of every batch of three epochs, of which the second one is broken off."""
    config = small_config("SASRec", train_batch_size=16, prepared="never", **options)
    train, _, test = make_loaders(config, create_dataset(config))
    first = [list(batch["user_id"]) for batch in train]
    broken_off = next(iter(train))["user_id"].tolist()
    third = [batch["timestamp"].tolist() for batch in train]
    return (first, broken_off, third, [batch[3].tolist() for batch in test]), (train, test)


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"worker": 1}])
def test_the_order_is_recboles(options, monkeypatch):
    write_inter(random_rows(n_users=12))
    ours, made = epochs(**options)
    assert all(isinstance(vars(loader)["dataset"], range) for loader in made)
    monkeypatch.setattr(loaders, "without_lists", lambda loader: loader)
    assert ours == epochs(**options)[0]


def test_an_order_is_read_in_blocks():
    """More rows than one block holds, each once."""
    import torch

    rows = list(row_numbers.Shuffled(10_000, torch.Generator().manual_seed(1)))
    again = torch.utils.data.RandomSampler(
        range(10_000), generator=torch.Generator().manual_seed(1)
    )
    assert rows == list(again)
    assert np.unique(rows).size == 10_000
