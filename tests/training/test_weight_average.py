"""The average of the weights: what it is, that it is what validates, and that it is resumed."""

import pytest
import torch
from served import trained

from recbole_hstu.quick_start import evaluate, run
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.weight_average import average_weights, averaged, take_average


def test_the_average_is_that_of_every_step_and_leaves_the_weights_alone():
    weights = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    average_weights(optimizer, 0.5)
    expected = None
    for n in range(1, 15):
        weights[0].grad = torch.randn(3)  # the other one is never used
        optimizer.step()
        now = weights[0].detach().clone()
        left = min(0.5, (n + 1) / (n + 10))
        expected = now if expected is None else left * expected + (1 - left) * now
    with averaged(optimizer):
        torch.testing.assert_close(weights[0].detach(), expected)
        assert torch.equal(weights[1].detach(), torch.ones(2))
    assert torch.equal(weights[0].detach(), now) and not torch.equal(expected, now)
    take_average(optimizer)
    torch.testing.assert_close(weights[0].detach(), expected)


def test_what_validates_is_kept_and_tested_and_a_resumed_training_is_the_same(toy):
    options = {"weight_average": 0.9, "learning_rate": 0.05, "stopping_step": 10}
    whole = trained("HSTU", epochs=4, **options)
    assert evaluate(whole["checkpoint"])["valid_result"] == whole["best_valid_result"]
    assert evaluate(whole["checkpoint"])["test_result"] == whole["test_result"]
    assert (
        trained("HSTU", epochs=4, **{**options, "weight_average": None})["best_valid_result"]
        != (whole["best_valid_result"])
    )
    part = trained("HSTU", epochs=2, **options)
    last = part["checkpoint"].with_suffix(".last.pth")
    resumed = run(config_dict={"resume": str(last), "epochs": 4})
    assert resumed["test_result"] == whole["test_result"]
    of = [e.valid for e in resumed["record"].history]
    assert of == [e.valid for e in whole["record"].history]


def test_without_validation_the_last_average_counts(toy):
    result = trained("HSTU", protocol="paper", weight_average=0.9, learning_rate=0.05)
    assert evaluate(result["checkpoint"])["test_result"] == result["test_result"]
    last = torch.load(result["checkpoint"].with_suffix(".last.pth"), weights_only=True)
    kept = torch.load(result["checkpoint"], weights_only=True)
    averages = [state["average"] for state in last["optimizer"]["state"].values()]
    some = kept["state_dict"]["items.ids"]
    assert any(a.shape == some.shape and torch.equal(a, some) for a in averages)
    assert not torch.equal(some, last["state_dict"]["items.ids"])


def test_learners_without_steps_are_refused(toy):
    with pytest.raises(InputError, match="weight_average: HSTU has learner: sgd; it takes adam"):
        trained("HSTU", weight_average=0.9, learner="sgd")
    with pytest.raises(InputError, match="weight_average: RecVAE has a training of its own"):
        trained("RecVAE", weight_average=0.9)
