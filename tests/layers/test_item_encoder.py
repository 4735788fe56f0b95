"""The table of item vectors against its formulas, in float64."""

import pytest
import torch

from recbole_hstu.layers.items import item_encoder
from recbole_hstu.layers.items.item_encoder import FusedEncoder

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


@pytest.mark.parametrize("fusion", ["sum", "gate", "text_only"])
def test_float16_text_is_widened_in_parts_to_the_same_table(fusion, monkeypatch):
    monkeypatch.setattr(item_encoder, "BLOCK_ITEMS", 4)
    monkeypatch.setattr(item_encoder, "_PART_BLOCKS", 2)
    half = torch.randn(27, 6).half()  # three parts of eight and three rows more
    found = []
    for text in (half, half.float()):
        torch.manual_seed(1)
        encoder = FusedEncoder(text=text, text_hash="", hidden_size=3, fusion=fusion)
        table, _ = encoder()
        table.square().sum().backward()
        encoder.add_items(torch.full((1, 6), 1 / 3), "neighbours")
        found.append((encoder, table, encoder(torch.tensor([0, 3, 27]))[0]))
    (narrow, *tables), (wide, *expected) = found
    assert narrow.text.dtype == torch.float16  # also with what was added
    assert torch.equal(narrow.text[27].float(), torch.full((6,), 1 / 3).half().float())
    assert torch.equal(tables[0], expected[0])
    torch.testing.assert_close(tables[1], expected[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        narrow.projection.weight.grad, wide.projection.weight.grad, rtol=1e-5, atol=1e-6
    )
