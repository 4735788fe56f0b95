"""BERT4Rec on whole windows with masked events."""

import random

import pytest
import torch
from small_data import random_rows, small_options, write_inter

from recbole_hstu.config.config import Config
from recbole_hstu.config.model_registry import find_model
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.data.rows.cloze_loader import ClozeLoader, cloze_loader
from recbole_hstu.quick_start import run
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.preparation import build_model
from recbole_hstu.training.views.train_view import in_train_view

BERT4Rec = find_model("BERT4Rec")
WIDTH = 5
BPR = {"loss_type": "BPR"}
DYNAMIC = {
    **BPR,
    "train_neg_sample_args": {
        "distribution": "uniform",
        "sample_num": 1,
        "dynamic": True,
        "candidate_num": 2,
    },
}


def prepared(model="BERT4Rec", **options):
    write_inter(random_rows(n_users=12))
    options = {"MAX_ITEM_LIST_LENGTH": WIDTH, "train_view": "cloze", **options}
    config = Config(model, "toy", config_dict=small_options("SASRec", **options))
    train, _, _ = make_loaders(config, create_dataset(config))
    return config, train


def histories(train):
    """user -> all items that training may see, in order."""
    found = {}
    rows = train._dataset.inter_feat
    for user, item, items in zip(
        rows["user_id"], rows["item_id"], rows["item_id_list"], strict=True
    ):
        found.setdefault(int(user), [int(items[0])]).append(int(item))
    return found


def test_windows_hold_every_target_and_end_with_their_last():
    _, train = prepared(mask_ratio=0.5)
    (batch,) = cloze_loader(train)
    known = histories(train)
    can_be_masked = {user: set() for user in known}
    for user, items, length in zip(
        *(batch[field] for field in ("user_id", "item_id_list", "item_length")), strict=True
    ):
        history, items = known[int(user)], items[:length].tolist()
        ends = [n for n in range(2, len(history) + 1) if history[max(0, n - WIDTH) : n] == items]
        assert ends
        can_be_masked[int(user)] |= set(range(ends[0] - len(items) + 1, ends[0]))
    for user, history in known.items():
        assert can_be_masked[user] == set(range(1, len(history)))
    assert len(batch["user_id"]) > 12  # a later window of somebody
    assert "item_id" not in batch  # no row names its answer


def test_what_is_masked_is_hidden():
    _, train = prepared(mask_ratio=0.5)
    (batch,) = cloze_loader(train)
    token = train._dataset.item_num
    for items, shown, places, hidden in zip(
        *(batch[field] for field in ("item_id_list", "Mask_item_id_list")),
        *(batch[field] for field in ("MASK_INDEX", "Pos_item_id")),
        strict=True,
    ):
        assert set(shown[shown != items].tolist()) <= {token}
        for place, item in zip(places.tolist(), hidden.tolist(), strict=True):
            assert not place or (int(shown[place]), int(items[place])) == (token, item)


@pytest.fixture
def doubles():
    """BERT4Rec makes tensors of the default type within its loss."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(
    ("most", "options"),
    [(1, {"ft_ratio": 0.0}), (1 << 20, {"ft_ratio": 0.0, **BPR}), (1 << 20, {"ft_ratio": 1.0})],
)
def test_parts_have_the_gradients_of_the_batch(most, options):
    config, train = prepared(mask_ratio=0.5, MAX_ITEM_LIST_LENGTH=16, **options)
    network = build_model(config, train._dataset).double().eval()
    (batch,) = cloze_loader(train)

    def gradients(*weighted):
        network.zero_grad()
        for rows, weight in weighted:
            (network.calculate_loss(rows) * weight).backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

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

    def places():
        (batch,) = loader
        rows = zip(batch["user_id"].tolist(), batch["item_id_list"], strict=True)
        windows = [(user, *items.tolist()) for user, items in rows]
        return dict(zip(windows, batch["MASK_INDEX"].tolist(), strict=True))

    one, other = places(), places()
    assert one.keys() == other.keys()
    assert one != other


class TwoLosses(BERT4Rec):
    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction), torch.zeros(())


class Total(BERT4Rec):
    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction) * len(interaction)


class NextItem(BERT4Rec):
    """Would find its answer among the events it is given."""

    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction) + 0 * interaction["item_id"].sum()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("SASRec", {}, r"train_view: cloze is for .*, and SASRec does not; leave it out"),
        ("BERT4Rec", {"mask_ratio": 0.1}, r"mask_ratio: 0.1 of MAX_ITEM_LIST_LENGTH 5 is no event"),
        (TwoLosses, {}, r"train_view: cloze does not fit: its loss has several parts"),
        (Total, {}, r"train_view: cloze does not fit: its loss is no mean over masked events \(by"),
        (NextItem, {}, r"train_view: cloze does not fit: .* masked events \(KeyError: .*item_id"),
        ("BERT4Rec", DYNAMIC, r"train_view: cloze does not fit: train_neg_sample_args: dynamic"),
    ],
)
def test_what_does_not_fit_is_told_before_the_first_step(model, options, message):
    config, train = prepared(model, **options)
    network = build_model(config, train._dataset)
    drawn = random.getstate()
    with pytest.raises(InputError, match=message):
        in_train_view(config, train, network)
    assert random.getstate() == drawn


def test_a_training(toy, caplog):
    options = {"MAX_ITEM_LIST_LENGTH": WIDTH, "train_view": "cloze", "epochs": 2}
    options = small_options("BERT4Rec", mask_ratio=0.4, **options)
    with caplog.at_level("INFO"):
        one, other = (run("BERT4Rec", "toy", None, options, saved=False)["record"] for _ in "ab")
    assert one.train_view == ClozeLoader.view == "cloze"
    assert any(said.startswith("train_view: cloze, ") for said in caplog.messages)
    assert any(said.startswith("ft_ratio: in 50% of the steps") for said in caplog.messages)
    assert one.history[-1].train_loss == other.history[-1].train_loss
    assert one.metrics == other.metrics
