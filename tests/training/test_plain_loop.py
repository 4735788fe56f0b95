"""A training is a plain loop over its batches: losses, clipping, steps, autocast."""

import pytest
import torch
from small_data import small_options, weights
from torch.nn.utils import clip_grad_norm_

from recbole_hstu import quick_start
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.quick_start import run
from recbole_hstu.training.divergence import has_finite_weights
from recbole_hstu.training.preparation import build_model


def test_a_training_is_a_plain_loop(toy):
    options = small_options(epochs=2, eval_step=0, train_batch_size=1, learning_rate=0.01)
    options |= {"clip_grad_norm": {"max_norm": 0.5}, "weight_decay": 0.1}
    options |= dict.fromkeys(("input_dropout_prob", "hidden_dropout_prob"), 0.0)
    result = run("HSTU", "toy", config_dict=options)
    config = quick_start.Config("HSTU", "toy", config_dict=options)
    train, *_ = quick_start.make_loaders(config, load_dataset(config))
    model = build_model(config, train._dataset).train()
    plain = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1, "fused": True}
    optimizer, losses = torch.optim.AdamW(model.parameters(), **plain), []
    for epoch in range(2):
        losses.append(0.0)
        for step, batch in enumerate(train):  # 40, more than losses are read at once
            model.draws.at(epoch, step)
            optimizer.zero_grad()
            loss = model.calculate_loss(batch)
            loss.backward()
            clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses[-1] += loss.item()
    assert [e.train_loss for e in result["record"].history] == pytest.approx(losses, rel=1e-4)
    for name, value in weights(result["checkpoint"]).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_no_checkpoint(number):
    layer = torch.nn.Linear(2, 2)
    assert has_finite_weights(layer)
    torch.nn.init.constant_(layer.bias[:1], number)
    assert not has_finite_weights(layer)


def test_a_run_is_under_autocast_if_it_is_asked_for(toy, monkeypatch):
    honest, seen = HSTU.calculate_loss, []
    monkeypatch.setattr(
        HSTU,
        "calculate_loss",
        lambda self, rows: seen.append(torch.is_autocast_enabled("cpu")) or honest(self, rows),
    )
    for enabled in (False, True):
        run("HSTU", "toy", config_dict=small_options(epochs=1, enable_amp=enabled), saved=False)
    assert seen == [False, True]
