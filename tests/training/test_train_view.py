"""RecBole's causal models on windows: the very gradients of prefixes, or prefixes."""

import numpy as np
import pytest
import torch
from small_data import random_rows, small_options, write_inter

from recbole_hstu.config.config import Config
from recbole_hstu.config.model_registry import find_model
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.data.rows.window_loader import WindowLoader, window_loader
from recbole_hstu.quick_start import run
from recbole_hstu.training.preparation import build_model
from recbole_hstu.training.views.train_view import (
    in_train_view,
    learn_at_every_position,
    reason_against,
)

SASRec = find_model("SASRec")  # an import of RecBole's would switch anomaly detection on for all
BPR = {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
PAIRS = [("SASRec", {}), ("GRU4Rec", {}), ("SASRec", BPR), ("GRU4Rec", BPR)]


def prepared(model, width, **options):
    """The loader of prefixes, and a model without dropout in float64."""
    write_inter(random_rows(n_users=12))
    options = {"MAX_ITEM_LIST_LENGTH": width, "train_batch_size": 1000, **options}
    config = Config(model, "toy", config_dict=small_options("SASRec", **options))
    train, _, _ = make_loaders(config, create_dataset(config))
    network = build_model(config, train._dataset)
    return config, train, network.double().eval()


def gradients(model, *weighted):
    """Of the sum of the weighted losses of some batches."""
    model.zero_grad()
    for batch, weight in weighted:
        (model.calculate_loss(batch) * weight).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-10, rtol=1e-10, msg=name)


@pytest.mark.parametrize(("model", "options"), PAIRS)
def test_gradients_are_those_of_recboles_rows(model, options):
    """Every prefix of every user, as RecBole lays them out, against one pass over each user."""
    _, train, network = prepared(model, 16, **options)
    learn_at_every_position(network)
    windows = window_loader(train)
    (batch,) = windows
    assert len(batch["item_length"]) == 12  # a window a user
    rows = train._dataset[np.arange(len(train._dataset))]
    if options:  # the negatives of the windows, at the same targets
        drawn = dict(zip(batch["timestamp"].tolist(), batch["neg_item_id"], strict=True))
        rows["neg_item_id"] = torch.stack([drawn[time] for time in rows["timestamp"].tolist()])
    whole = gradients(network, (rows, 1.0))
    assert max(float(value.abs().max()) for value in whole.values()) > 1e-3
    assert_equal(gradients(network, (batch, 1.0)), whole)
    assert_equal(gradients(network, *batch.parts(40)), whole)


@pytest.mark.parametrize(("model", "options"), PAIRS)
def test_later_windows_shorten_histories_and_nothing_else(model, options):
    _, train, network = prepared(model, 4, **options)
    learn_at_every_position(network)
    (batch,) = window_loader(train)
    assert len(batch["item_length"]) > 12
    rows = batch.prefixes("item_length")
    assert_equal(gradients(network, (batch, 1.0)), gradients(network, (rows, 1.0)))


class TwoSided(SASRec):
    def get_attention_mask(self, item_seq, bidirectional=False):
        return super().get_attention_mask(item_seq, bidirectional=True)


class LateLook(SASRec):
    """Looks at the whole history by a gate that is shut when the training begins."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.gate = torch.nn.Parameter(torch.zeros(1))

    def forward(self, item_seq, item_seq_len):
        taken = self.item_embedding(item_seq).sum(1)
        picked = super().forward(item_seq, item_seq_len)
        return picked + self.gate * taken.mean(0)


class SelfAbove(SASRec):
    """An event attends to itself the more, the wider its row is."""

    def get_attention_mask(self, item_seq, bidirectional=False):
        width = item_seq.shape[1]
        return super().get_attention_mask(item_seq, bidirectional) + width * torch.eye(width)


class Total(SASRec):
    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction) * len(interaction[self.POS_ITEM_ID])


class Normalised(SASRec):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.norm = torch.nn.BatchNorm1d(2)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (TwoSided, "its states differ (by "),
        (LateLook, "its losses differ (by "),
        (SelfAbove, "its states depend on the width of a window (by "),
        (Total, "its loss is no mean over targets (by "),
        (Normalised, "it normalises by batch"),
        ("NARM", "its loss reads more than the state after the last event (RuntimeError: "),
        ("FPMC", "its loss reads more than the state"),
        ("BERT4Rec", "transform: mask_itemseq changes every history"),
    ],
)
def test_what_is_not_proved_is_trained_on_prefixes(model, reason, caplog):
    config, train, network = prepared(model, 8)
    network.float().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    with caplog.at_level("INFO"):
        assert in_train_view(config, train, network) is train
    assert f"train_view: prefix, since windows do not fit: {reason}" in caplog.messages[-1]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert network.training
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert str(np.random.get_state()) == drawn[1]  # noqa: NPY002


def test_targets_at_the_end_of_a_window_are_proof_enough():
    """A first batch with the last window of a user, whose targets all stand at its end."""
    _, train, network = prepared("SASRec", 16)
    windows = window_loader(train)
    (batch,) = windows
    late = batch[torch.nonzero(batch.place >= batch.place.max() - 1).squeeze(1)]
    assert reason_against(network, late) is None


def test_windows_of_one_target_prove_nothing():
    """NARM reads more than the last state, which one target a window does not show."""
    _, train, network = prepared("NARM", 16)
    windows = window_loader(train)
    (batch,) = windows
    alone = batch[torch.nonzero(batch.place == 0).squeeze(1)]
    assert reason_against(network, alone) == "no window has two targets"
    numbers = list(range(len(windows._counts)))
    counts = [int(windows._counts[n]) for n in windows.by_targets(numbers)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_what_is_proved_says_so(caplog):
    config, train, network = prepared("GRU4Rec", 4)
    with caplog.at_level("INFO"):
        windows = in_train_view(config, train, network.float())
    assert isinstance(windows, WindowLoader)
    sizes = f"{len(train._dataset)} targets in {len(windows._dataset)} windows"
    assert caplog.messages[-1] == f"train_view: window, {sizes} of up to 4 events"
    config["train_view"] = "prefix"
    assert in_train_view(config, train, network) is train


def test_the_proof_draws_nothing_from_the_order_of_the_training():
    config, train, network = prepared("SASRec", 6)
    order, others = window_loader(train).generator.get_state(), torch.get_rng_state()
    windows = in_train_view(config, train, network.float())
    assert isinstance(windows, WindowLoader)
    assert torch.equal(windows.generator.get_state(), order)
    assert torch.equal(torch.get_rng_state(), others)


def test_the_record_says_how_a_model_was_trained(toy):
    views = {}
    for model, options in (
        *(("SASRec", {}), ("SASRec", {"train_view": "prefix"}), ("NARM", {})),
        *(("NARM", {"train_view": "prefix"}), ("HSTU", {"windows": "all"}), ("BPR", {})),
    ):
        found = run(model, "toy", None, small_options(model, epochs=1, **options), saved=False)
        views[model, options.get("train_view")] = found["record"]
    seen = [record.train_view for record in views.values()]
    assert seen == ["window", "prefix", "prefix", "prefix", "user", "interaction"]
    # Who falls back trains as RecBole does, to the last bit.
    fallen, asked = views["NARM", None], views["NARM", "prefix"]
    assert fallen.history[0].train_loss == asked.history[0].train_loss
    assert fallen.metrics == asked.metrics


def test_steps_go_part_by_part_where_the_catalogue_is_large(toy, monkeypatch):
    """The gradients of the parts are tested above; here that a training takes them."""
    sizes = []
    options = small_options("SASRec", hidden_dropout_prob=0.0, attn_dropout_prob=0.0, epochs=1)
    whole = run("SASRec", "toy", None, options, saved=False)["record"].history[0]
    monkeypatch.setattr("recbole_hstu.data.rows.window_loader._MOST_SCORES", 1)
    honest = SASRec.calculate_loss
    monkeypatch.setattr(
        SASRec,
        "calculate_loss",
        lambda self, batch: sizes.append(len(batch)) or honest(self, batch),
    )
    parts = run("SASRec", "toy", None, options, saved=False)["record"].history[0]
    assert parts.train_loss == pytest.approx(whole.train_loss, rel=1e-6)
    assert sum(sizes[-5:]) == 261  # all targets, in one step
    assert max(sizes[-5:]) < 64 + 8
