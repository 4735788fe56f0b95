"""The k best of every row, against a stable sort of everything."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hstu.evaluation import top_k as module
from recbole_hstu.evaluation.top_k import top_k
from recbole_hstu.support.errors import InputError


def by_sorting(scores, k, barred):
    scores = scores.clone()
    scores[barred] = -torch.inf
    best, order = torch.sort(scores, dim=1, descending=True, stable=True)
    return best[:, :k], order[:, :k]


@settings(max_examples=150)
@given(data=st.data())
def test_blocks_equal_a_stable_sort(data):
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 90))
    k = data.draw(st.integers(1, columns))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    levels = data.draw(st.sampled_from([2, 5, 10**6]))  # few levels: many equal scores
    scores = torch.randint(levels, (rows, columns), generator=generator).float()
    n_barred = data.draw(st.integers(0, rows * columns // 2))
    pairs = torch.randperm(rows * columns, generator=generator)[:n_barred]
    barred = (pairs // columns, pairs % columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_SCORES", 16)
        patch.setattr(module, "LEAST_BLOCK", data.draw(st.integers(1, 20)))
        best, found = top_k(lambda a, b: scores[:, a:b].clone(), rows, columns, k, barred)
    expected, order = by_sorting(scores, k, barred)
    assert torch.equal(best, expected)
    real = expected > -torch.inf
    assert torch.equal(found[real], order[real])


def test_no_table_of_rows_and_catalogue_is_made():
    """256 rows and 200,000 items: a table of them would hold 51 million scores."""
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 4, generator=generator) for n in (256, 200_000))
    largest = 0

    def score(start, stop):
        nonlocal largest
        block = users @ items[start:stop].t()
        largest = max(largest, block.numel())
        return block

    best, found = top_k(score, 256, 200_000, 20)
    assert largest <= max(module.BLOCK_SCORES, 256 * module.LEAST_BLOCK)
    expected = (users[7] @ items.t()).topk(20)
    torch.testing.assert_close(best[7], expected.values)
    assert torch.equal(found[7], expected.indices)


def test_nan_is_refused():
    scores = torch.zeros(2, 5)
    scores[1, 3] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        top_k(lambda a, b: scores[:, a:b].clone(), 2, 5, 2)
