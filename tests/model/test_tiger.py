"""TIGER: a tiny T5, whose beam and scores must be those of its loss."""

import pytest
import torch
from hstu_batches import make_batch
from toy_ids import retriever

from recbole_hstu.model.tiger import TIGER

LENGTHS = [12, 3, 1]
TINY = {"n_layers": 1, "head_size": 8, "inner_size": 16, "dropout_prob": 0.1}


@pytest.fixture(scope="module")
def model():
    return retriever(TIGER, **TINY)


def test_scores_are_the_losses_of_the_items_and_no_company_or_padding_changes_them(model):
    batch = make_batch(LENGTHS)
    scores = model.full_sort_predict(batch)
    assert (scores[:, 0] == -torch.inf).all()
    for item in (1, 17, 60):
        loss = model.losses({**batch, "item_id": torch.full((3,), item)})
        torch.testing.assert_close(scores[:, item], -loss)
    alone = {key: value[1:2] for key, value in batch.items()}
    torch.testing.assert_close(model.full_sort_predict(alone)[0], scores[1])
    assert scores[:, 1:].exp().sum(1).lt(1).all()  # some codes lead to no item


@pytest.mark.parametrize("cached", [1 << 25, 1])
def test_a_beam_as_wide_as_the_catalogue_is_exact(model, monkeypatch, cached):
    monkeypatch.setattr("recbole_hstu.model.tiger.MAX_CACHED", cached)
    batch = make_batch(LENGTHS)
    users = model.users(batch)
    scores = model.exact_scores(users)
    found, item = model.beam(users, 60)
    assert item.sort(1).values.tolist() == [list(range(1, 61))] * 3
    torch.testing.assert_close(found, scores.gather(1, item))


def test_the_loss_reaches_all_weights_and_reads_the_order_of_the_codes(model):
    batch = make_batch(LENGTHS)
    loss = model.calculate_loss(batch)
    torch.testing.assert_close(loss, -model.predict(batch).mean())
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    swapped = {**batch, "item_id_list": batch["item_id_list"].clone()}
    swapped["item_id_list"][0, :2] = batch["item_id_list"][0, [1, 0]]
    assert model.predict(swapped)[0] != model.predict(batch)[0]
