"""BERT4Rec on whole windows with masked events."""

import random

import pytest
import torch
from small_data import random_rows, small_options, write_inter

from recbole_hstu.config.config import Config
from recbole_hstu.data.loaders import create_dataset, make_loaders
from recbole_hstu.data.rows.cloze_loader import ClozeLoader, cloze_loader
from recbole_hstu.quick_start import run
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.preparation import build_model
from recbole_hstu.training.views.train_view import in_train_view

WIDTH = 5


def prepared(model="BERT4Rec", **options):
    write_inter(random_rows(n_users=12))
    options = {"MAX_ITEM_LIST_LENGTH": WIDTH, "train_view": "cloze", **options}
    config = Config(model, "toy", config_dict=small_options("SASRec", **options))
    train, _, _ = make_loaders(config, create_dataset(config))
    return config, train


def test_windows_end_with_their_last_target_and_nothing_else_is_masked():
    _, train = prepared(mask_ratio=0.5)
    loader = cloze_loader(train)
    (batch,) = loader
    histories = {}  # of every user, all that training may see
    for row in range(len(train._dataset)):
        user, item = (int(train._dataset.inter_feat[[row]][f][0]) for f in ("user_id", "item_id"))
        first = train._dataset.inter_feat[[row]]["item_id_list"][0, 0]
        histories.setdefault(user, [int(first)]).append(item)
    last = {}
    for user, items, masked, length, places, hidden in zip(
        *(batch[f] for f in ("user_id", "item_id_list", "Mask_item_id_list", "item_length")),
        *(batch[f] for f in ("MASK_INDEX", "Pos_item_id")),
        strict=True,
    ):
        history, items = histories[int(user)], items[:length].tolist()
        ends = [n for n in range(2, len(history) + 1) if history[max(0, n - WIDTH) : n] == items]
        assert ends
        last[int(user)] = max(*ends, last.get(int(user), 0))
        shown = masked[:length].tolist()
        token = train._dataset.item_num
        assert all(one in (token, other) for one, other in zip(shown, items, strict=True))
        for place, item in zip(places.tolist(), hidden.tolist(), strict=True):
            assert not place or (shown[place], items[place]) == (token, item)
    assert last == {user: len(history) for user, history in histories.items()}
    assert len(batch["user_id"]) > 12  # a later window of somebody


@pytest.fixture
def doubles():
    """BERT4Rec makes tensors of the default type within its loss."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("most", [1, 1 << 20])
def test_parts_have_the_gradients_of_the_batch(most):
    config, train = prepared(mask_ratio=0.5, ft_ratio=0.0, MAX_ITEM_LIST_LENGTH=16)
    network = build_model(config, train._dataset).double().eval()
    (batch,) = cloze_loader(train)

    def gradients(*weighted):
        network.zero_grad()
        for rows, weight in weighted:
            (network.calculate_loss(rows) * weight).backward()
        return [p.grad.clone() for p in network.parameters()]

    parts = list(batch.parts(most))
    assert len(parts) > 1
    assert min(part["item_id_list"].shape[1] for part, _ in parts) < 9
    assert min(part["MASK_INDEX"].shape[1] for part, _ in parts) < batch["MASK_INDEX"].shape[1]
    assert sum(weight for _, weight in parts) == pytest.approx(1.0, abs=1e-12)
    for one, other in zip(gradients(*parts), gradients((batch, 1.0)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_events_are_masked_anew_every_epoch():
    _, train = prepared(mask_ratio=0.5, ft_ratio=0.0)
    loader = cloze_loader(train)
    random.seed(0)  # RecBole masks by Python's generator
    (one,), (other,) = loader, loader
    assert not torch.equal(one["MASK_INDEX"].sort().values, other["MASK_INDEX"].sort().values)


def test_bad_input():
    _, train = prepared(mask_ratio=0.2, ft_ratio=0.0)
    train.config["mask_ratio"] = 0.0  # of five events one would be
    with pytest.raises(InputError, match=r"^mask_ratio: 0.0 masks no event of a batch; take a"):
        next(iter(cloze_loader(train)))
    config, train = prepared("SASRec")
    with pytest.raises(InputError, match=r"train_view: cloze is .* SASRec does not; leave it out"):
        in_train_view(config, train, None)


def test_a_training(toy, caplog):
    options = {"MAX_ITEM_LIST_LENGTH": WIDTH, "train_view": "cloze", "epochs": 2, "mask_ratio": 0.4}
    with caplog.at_level("INFO"):
        found = [
            run("BERT4Rec", "toy", None, small_options("BERT4Rec", **options), saved=False)
            for _ in "ab"
        ]
    one, other = (each["record"] for each in found)
    assert one.train_view == ClozeLoader.view == "cloze"
    assert any(said.startswith("train_view: cloze, ") for said in caplog.messages)
    assert one.history[-1].train_loss == other.history[-1].train_loss
    assert one.metrics == other.metrics
