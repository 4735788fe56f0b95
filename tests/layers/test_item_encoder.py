"""The table of item vectors against its formulas, in float64."""

import pytest
import torch

from recbole_hstu.layers import item_encoder
from recbole_hstu.layers.item_encoder import FusedEncoder

D, WIDTH = 3, 5


def table_and_gradients(encoder, table):
    weights = torch.arange(table.numel(), dtype=table.dtype).view_as(table).cos()
    return [table, *torch.autograd.grad((table * weights).sum(), encoder.parameters())]


@pytest.mark.parametrize("n_items", [3, 8, 11])  # below a block, two whole ones, a rest
@pytest.mark.parametrize("fusion", ["sum", "gate", "text_only"])
def test_fused_table_and_its_gradients(n_items, fusion, monkeypatch):
    monkeypatch.setattr(item_encoder, "BLOCK_ITEMS", 4)
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(n_items, WIDTH, generator=generator, dtype=torch.double)
    encoder = FusedEncoder(text=text, text_hash="", hidden_size=D, fusion=fusion).double()
    plain = text @ encoder.projection.weight.t() + encoder.projection.bias
    if fusion == "sum":
        plain = encoder.ids + plain
    if fusion == "gate":
        plain = encoder.gate * encoder.ids + (1 - encoder.gate) * plain
    torch.testing.assert_close(
        table_and_gradients(encoder, encoder()[0]), table_and_gradients(encoder, plain)
    )


def test_product_with_the_text_stays_in_float32_under_autocast():
    encoder = FusedEncoder(text=torch.randn(5, WIDTH), text_hash="", hidden_size=D)
    with torch.autocast("cpu", torch.bfloat16):
        table = encoder()[0]
    assert table.dtype == torch.float32
    assert torch.equal(table, encoder()[0])
