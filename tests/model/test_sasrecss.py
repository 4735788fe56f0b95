"""SASRecSS: what holds whatever its weights, and its layer against plain arithmetic."""

import math

import pytest
import torch
from hstu_batches import make_batch, make_model
from small_data import small_config

from recbole_hstu.config.config import Config
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.model.sasrecss import SASRecSS, SoftmaxLayer
from recbole_hstu.support.errors import InputError


def test_attention_drops_weights_in_training_alone():
    layer = SoftmaxLayer(hidden_size=6, n_heads=2, inner_size=5, dropout=0.5).double()
    qkv = torch.randn(2, 4, 18, dtype=torch.double)
    kept = layer.eval().attend(qkv, None)
    assert torch.equal(layer.attend(qkv, None), kept)
    assert not torch.allclose(layer.train().attend(qkv, None), kept)


def test_times_are_not_read():
    model, batch = make_model(cls=SASRecSS, inner_size=24), make_batch([5, 9])
    later = {
        **batch,
        "timestamp_list": batch["timestamp_list"] * 3,
        "timestamp": batch["timestamp"] * 5,
    }
    assert torch.equal(model.full_sort_predict(batch), model.full_sort_predict(later))


def test_the_layer_by_its_formula():
    torch.manual_seed(0)
    layer = SoftmaxLayer(hidden_size=6, n_heads=2, inner_size=5, dropout=0.0).double()
    x = torch.randn(4, 6, dtype=torch.double)

    def norm(t):
        centred = t - t.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-8).sqrt()

    query = norm(x)
    w, b = layer.qkv.weight, layer.qkv.bias
    q, k, v = query @ w[:6].t() + b[:6], x @ w[6:12].t() + b[6:12], x @ w[12:].t() + b[12:]
    mixed = torch.zeros(4, 6, dtype=torch.double)
    for head in (slice(0, 3), slice(3, 6)):
        for j in range(4):
            scores = [q[j, head] @ k[i, head] / math.sqrt(3) for i in range(j + 1)]
            weights = torch.stack(scores).softmax(0)
            mixed[j, head] = weights @ v[: j + 1, head]
    y = norm(query + layer.output(mixed))
    expected = y + layer.outer(torch.relu(layer.inner(y)))
    found = layer(x, Packing(torch.tensor([4])), [None])
    torch.testing.assert_close(found, expected)


def test_the_papers_settings():
    config = Config("SASRecSS", "musical_instruments")
    expected = {"hidden_size": 64, "n_layers": 4, "n_heads": 4, "inner_size": 64}
    expected |= {"num_negatives": 512, "temperature": 0.05, "learner": "adamw", "epochs": 101}
    assert {key: config[key] for key in expected} == expected
    movielens = Config("SASRecSS", "ml-1m")
    expected = {"hidden_size": 50, "n_layers": 2, "n_heads": 1, "inner_size": 50}
    assert {key: movielens[key] for key in expected} == expected


def test_an_option_of_hstu_alone_is_refused():
    with pytest.raises(InputError, match="qk_size: SASRecSS has no such option; a head is hidden"):
        Config("SASRecSS", "ml-1m", config_dict={"qk_size": 8})
    with pytest.raises(InputError, match="n_heads: 3 must divide hidden_size: 16"):
        make_model(cls=SASRecSS, inner_size=24, n_heads=3)


def test_it_learns(toy):
    """The last item decides the next one: a few epochs find that out."""
    from small_data import write_inter

    from recbole_hstu.quick_start import run

    steps = [(f"u{u}", f"i{(u + 3 * t) % 24}", 100 * t) for u in range(48) for t in range(8)]
    write_inter(steps)
    config = small_config("SASRecSS")
    assert config["sequence_view"] == "user"
    options = {"protocol": "paper", "topk": [1], "epochs": 40, "train_batch_size": 16}
    options |= {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "num_negatives": 16}
    options |= {"input_dropout_prob": 0.0, "hidden_dropout_prob": 0.1, "learning_rate": 0.01}
    options |= {"valid_metric": "NDCG@1", "show_progress": False, "mask_seen": False}
    by_chance = 1 / 24
    assert run("SASRecSS", "toy", config_dict=options)["test_result"]["hit@1"] > 19 * by_chance
