"""Negatives among all items, or among those that training knows."""

import math

import pytest
import torch
from small_data import random_rows, small_config, write_inter

from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.preparation import build_model


@pytest.fixture
def model(in_empty_folder):
    """Every user ends with two items of its own, which nobody has in training."""
    rows = random_rows(n_users=12)
    late = max(time for *_, time in rows)
    for user in {row[0] for row in rows}:
        rows += [(user, f"new{user}-{place}", late + place) for place in (1, 2)]
    write_inter(rows)

    def built(**options):
        config = small_config("HSTU", protocol="recbole", **options)
        train, *_ = make_loaders(config, load_dataset(config))
        return build_model(config, train._dataset), train._dataset

    return built


def test_unknown_items_have_no_id_vector_and_learn_none(model):
    made, data = model(negative_items="training")
    usual, _ = model()
    known = torch.zeros(data.item_num, dtype=torch.bool)
    known[data.training_events()["item_id"]] = known[0] = True
    ids, others = made.items.ids, usual.items.ids
    assert not ids[1:][~known[1:]].any()
    assert torch.equal(ids[1:][known[1:]], others[1:][known[1:]])
    history = torch.where(known)[0][1:13].view(3, 4)
    batch = {"item_id_list": history, "item_length": torch.full((3,), 4)}
    batch |= {"item_id": history[:, 0], "timestamp": torch.full((3,), 9)}
    batch["timestamp_list"] = torch.arange(4).expand(3, 4)
    made.calculate_loss(batch).backward()
    assert ids.grad[known][1:].any(dim=1).all()
    assert not ids.grad[~known].any()


@pytest.mark.parametrize("loss_type", ["sampled", "shared", "gbce"])
def test_only_items_of_the_training_are_drawn(model, loss_type):
    lengths, places = torch.full((8,), 40), torch.arange(8)
    drawn = {}
    for which in ("all", "training"):
        made, data = model(loss_type=loss_type, negative_items=which, num_negatives=2000)
        drawn[which] = set(made.draw_negatives(lengths, places).unique().tolist())
    known = set(data.training_events()["item_id"].tolist())
    assert drawn["training"] == known
    assert drawn["all"] == set(range(1, data.item_num)) > known
    assert len(drawn["all"] - known) == 24


def test_corrections_count_what_is_drawn_from(model):
    settings = {"negative_items": "training", "num_negatives": 3}
    made, data = model(logq_correction=True, **settings)
    n_known = len(data.training_events()["item_id"].unique())
    assert made.log_weight == pytest.approx(math.log(n_known / 3))
    sparse, _ = model(loss_type="gbce", gbce_t=0.0, **settings)
    whole, _ = model(loss_type="gbce", gbce_t=1.0, **settings)
    assert sparse.beta == 1
    assert whole.beta == pytest.approx(3 / (n_known - 1), rel=0.1)


def test_a_loss_that_draws_none_is_refused(model):
    with pytest.raises(InputError, match="negative_items: loss_type full takes all items"):
        model(loss_type="full", negative_items="training")
