"""eSASRec, gSASRec, SASRecSS: what holds whatever their weights, and LiGR by plain torch."""

import pytest
import torch
from golden_model import check_company_and_padding
from hstu_batches import WIDTH, make_batch, make_model, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recbole_hstu.config.config import Config
from recbole_hstu.layers.blocks.ligr_block import LiGRLayer
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.blocks.softmax_block import SoftmaxLayer, same_row_mask
from recbole_hstu.model.esasrec import eSASRec
from recbole_hstu.model.gsasrec import gSASRec
from recbole_hstu.model.sasrecss import SASRecSS
from recbole_hstu.support.errors import InputError

MODELS = [eSASRec, gSASRec, SASRecSS]


def recipe(cls, **changes):
    options = {"inner_size": 24, "item_l2_norm": False, "temperature": 1.0}
    if cls is gSASRec:
        options |= {"loss_type": "gbce", "gbce_t": 0.75}
    return make_model(cls=cls, **options, **changes)


@pytest.mark.parametrize("cls", MODELS)
@given(st.lists(st.integers(1, WIDTH), min_size=1, max_size=12), st.integers(0, 99))
@settings(max_examples=8)
def test_scores_do_not_depend_on_company_or_padding(cls, lengths, seed):
    check_company_and_padding(recipe(cls), make_batch(lengths, seed))


@pytest.mark.parametrize("position", range(WIDTH - 1))
@pytest.mark.parametrize("cls", MODELS)
def test_nothing_depends_on_the_future(cls, position):
    model, batch = recipe(cls), make_batch([WIDTH])
    before, _ = model.forward(batch, model.items()[0])
    changed = {k: v.clone() for k, v in batch.items()}
    changed["item_id_list"][0, position + 1 :] = 7
    changed["timestamp_list"] *= 3  # times are not read
    after, _ = model.forward(changed, model.items()[0])
    assert torch.equal(before[: position + 1], after[: position + 1])
    assert not torch.allclose(before[position + 1 :], after[position + 1 :])


def test_the_ligr_layer_is_made_of_torchs_own_parts():
    """Two rows in one line, and `nn.MultiheadAttention` for each of them alone."""
    torch.manual_seed(0)
    layer = LiGRLayer(hidden_size=6, n_heads=2, inner_size=5, dropout=0.3).double().eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    attention = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.double)
    attention.in_proj_weight, attention.in_proj_bias = layer.qkv.weight, layer.qkv.bias
    attention.out_proj.weight, attention.out_proj.bias = layer.output.weight, layer.output.bias
    packing = Packing(torch.tensor([3, 4]))
    x = torch.randn(8, 6, dtype=torch.double)  # rows of 4 and 3 in two lines of 4
    masks = [
        same_row_mask(rows.squeeze(-1))
        for rows in packing.lines(packing.pad(packing.row.unsqueeze(-1)))
    ]
    found = packing.unpad(layer(packing.pad(x[:7]), packing, masks)).split([3, 4])
    for row, of_row in zip(x[:7].split([3, 4]), found, strict=True):
        normed = layer.attention_norm(row).unsqueeze(0)
        hidden = torch.ones(len(row), len(row), dtype=torch.bool).triu(1)
        mixed = attention(normed, normed, normed, attn_mask=hidden)[0][0]
        y = row + torch.sigmoid(layer.attention_gate(row)) * mixed
        gate, value = (layer.inner_norm(y) @ w.t() for w in layer.inner.weight.chunk(2))
        fed = layer.outer(gate * torch.sigmoid(gate) * value)
        torch.testing.assert_close(of_row, y + torch.sigmoid(layer.inner_gate(y)) * fed)


def shares_kept(layer, mixed):
    """What training adds over what evaluation adds, where the second is not 0."""
    outer, x = layer.outer.weight.clone(), torch.randn(50, 6, dtype=torch.double)
    layer.outer.weight.zero_()
    start = layer.eval().finish(x, torch.zeros_like(x))  # without what is added
    layer.outer.weight.copy_(outer)
    added = layer.finish(x, mixed) - start
    return ((layer.train().finish(x, mixed) - start) / added)[added.abs() > 1e-9]


@pytest.mark.parametrize("layer", [LiGRLayer, SoftmaxLayer])
@torch.no_grad()
def test_two_dropouts_of_the_feed_forward_network(layer):
    """Each number passes both by a chance of 1/4, and is then four times as large."""
    torch.manual_seed(0)
    layer = layer(hidden_size=6, n_heads=2, inner_size=6, dropout=0.5).double()
    nn.init.eye_(layer.outer.weight)
    if layer.outer.bias is not None:
        layer.outer.bias.zero_()
    kept = shares_kept(layer, torch.zeros(50, 6, dtype=torch.double))
    assert set(kept.round(decimals=6).tolist()) == {0.0, 4.0}
    assert (kept > 0).double().mean().item() == pytest.approx(1 / 4, abs=0.1)


@torch.no_grad()
def test_dropout_of_what_ligr_attends_to():
    torch.manual_seed(0)
    layer = LiGRLayer(hidden_size=6, n_heads=2, inner_size=6, dropout=0.5).double()
    layer.outer.weight.zero_()
    kept = shares_kept(layer, torch.randn(50, 6, dtype=torch.double))
    assert set(kept.round(decimals=6).tolist()) == {0.0, 2.0}


def test_an_output_of_gsasrec_is_normalised_with_weights():
    model = recipe(gSASRec)
    model.norm.weight.data.fill_(2.0)
    model.norm.bias.data.fill_(1.0)
    hidden = model.user_vectors(make_batch([5, 9]), model.items()[0])
    torch.testing.assert_close(hidden.mean(-1), torch.ones(2, dtype=torch.double))
    torch.testing.assert_close(hidden.std(-1, unbiased=False), torch.full((2,), 2.0).double())


@pytest.mark.parametrize("cls", MODELS)
def test_the_loss_is_of_every_position_and_has_all_gradients(cls):
    model, batch = recipe(cls), make_batch([3])
    with torch.no_grad():
        model.items.ids.normal_(std=0.1)
    loss, *gradients = outcome(model, batch)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    earlier = {k: v.clone() for k, v in batch.items()}
    earlier["item_id_list"][0, 1] = 1 + earlier["item_id_list"][0, 1] % 60  # a target, too
    assert outcome(model, earlier)[0] != loss


def test_the_published_settings():
    amazon = Config("eSASRec", "musical_instruments")
    expected = {"hidden_size": 256, "n_layers": 1, "n_heads": 1, "num_negatives": 256}
    expected |= {"loss_type": "sampled", "temperature": 1.0, "item_l2_norm": False}
    expected |= {"hidden_dropout_prob": 0.2, "learning_rate": 0.001, "epochs": 200}
    expected |= {"stopping_step": 50}
    assert {key: amazon[key] for key in expected} == expected
    movielens = Config("eSASRec", "ml-1m")
    expected |= {"hidden_size": 64, "n_layers": 2, "hidden_dropout_prob": 0.1, "epochs": 100}
    assert {key: movielens[key] for key in expected} == expected
    binary = Config("gSASRec", "ml-1m")
    expected = {"loss_type": "gbce", "num_negatives": 256, "gbce_t": 0.75}
    assert {key: binary[key] for key in expected} == expected


@pytest.mark.parametrize("layer", [LiGRLayer, SoftmaxLayer])
def test_heads_must_divide_the_width(layer):
    with pytest.raises(InputError, match="n_heads: 3 must divide hidden_size: 16"):
        layer(hidden_size=16, n_heads=3, inner_size=4, dropout=0.0)


def test_a_correction_of_gbce_is_refused():
    with pytest.raises(InputError, match="logq_correction: loss_type gbce has no softmax"):
        recipe(gSASRec, logq_correction=True)
