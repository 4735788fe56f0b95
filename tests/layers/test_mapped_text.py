"""Text vectors that stay in their file are those of a table, bit by bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hstu.layers.items import item_encoder
from recbole_hstu.layers.items.item_encoder import FusedEncoder
from recbole_hstu.layers.items.mapped_text import MappedText, to_length

K = 6


def table_and_mapped(rows, dtype=torch.float32, length=None):
    """The same items as a table and by their rows in a file; -1 has none."""
    rows = torch.tensor([-1, *rows])
    vectors = torch.randn(9, K, generator=torch.Generator().manual_seed(0)).to(dtype)
    table = vectors[rows.clamp(min=0)]
    table[rows < 0] = 0
    mapped = MappedText.of_file(vectors, rows)
    if length is None:
        return table, mapped
    return to_length(table, length), mapped.to_length(length)


row_lists = st.lists(st.integers(-1, 8), min_size=1, max_size=12)


@given(row_lists, st.data())
def test_any_rows_are_those_of_the_table(rows, data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16]))
    table, mapped = table_and_mapped(rows, dtype, data.draw(st.sampled_from([None, 3.0])))
    further = torch.full((2, K), 1 / 3)
    table = torch.cat([table, further.to(dtype)])
    mapped = mapped.with_items(further[:1]).with_items(further[1:])
    assert mapped.shape == table.shape
    assert mapped.dtype == table.dtype
    ids = torch.tensor(data.draw(st.lists(st.integers(0, len(table) - 1), max_size=6))).long()
    assert torch.equal(mapped[ids], table[ids])
    assert torch.equal(mapped[ids.view(1, -1)], table[ids.view(1, -1)])
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(table))] * 2)))
    assert torch.equal(mapped[start:stop], table[start:stop])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("fusion", ["sum", "gate", "text_only"])
def test_item_vectors_and_gradients_are_those_of_the_table(fusion, dtype, monkeypatch):
    """In parts of four items: two whole ones and a rest."""
    monkeypatch.setattr(item_encoder, "BLOCK_ITEMS", 2)
    monkeypatch.setattr(item_encoder, "_PART_BLOCKS", 2)
    found = []
    for text in table_and_mapped([8, 2, -1, 0, 5, 7, 4, 3, 6], dtype, length=2.0):
        torch.manual_seed(1)
        encoder = FusedEncoder(text=text, text_hash="", hidden_size=3, fusion=fusion)
        tables = [encoder()[0], encoder(torch.tensor([0, 3, 9]))[0]]
        sum(table.square().sum() for table in tables).backward()
        tables += [parameter.grad for parameter in encoder.parameters()]
        encoder.add_items(torch.full((1, K), 1 / 3), "neighbours")
        found.append([*tables, encoder()[0], encoder(torch.tensor([0, 10]))[0]])
    for expected, other in zip(*found, strict=True):
        assert torch.equal(expected, other)
