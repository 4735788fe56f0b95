"""Ranks and lists from blocks of items against those from all scores at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import random_rows, small_config, small_options, write_inter

from recbole_hstu.data import evaluation_loaders
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.evaluation import top_k as sizes
from recbole_hstu.evaluation.ranks import target_ranks
from recbole_hstu.evaluation.score_blocks import ScoreBlocks
from recbole_hstu.quick_start import make_loaders, run
from recbole_hstu.support.errors import InputError


def drawn(data):
    rows, n_items = data.draw(st.integers(1, 150)), data.draw(st.integers(3, 90))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    # Small whole numbers: many scores are equal, and none is rounded.
    users, items = (
        torch.randint(-2, 3, (n, 3), generator=generator).float() for n in (rows, n_items)
    )
    targets = torch.randint(1, n_items, (rows,), generator=generator)
    n_seen = data.draw(st.integers(0, 2 * rows))
    seen = tuple(torch.randint(n, (n_seen,), generator=generator) for n in (rows, n_items))
    n_barred = data.draw(st.integers(0, n_items // 2))
    barred = torch.randperm(n_items, generator=generator)[:n_barred]
    return users, items, targets, seen, barred


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_blocks_equal_all_scores_at_once(data):
    users, items, targets, seen, barred = drawn(data)
    scores = users @ items.t()
    scores[:, 0] = -torch.inf
    scores[seen] = -torch.inf
    scores[:, barred] = -torch.inf
    k = data.draw(st.integers(0, min(5, len(items))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "BLOCK_SCORES", 16)
        patch.setattr(sizes, "LEAST_BLOCK", data.draw(st.integers(1, 20)))
        blocks = ScoreBlocks(users, items, seen=seen)
        blocks.barred = barred
        ranks, best = blocks.judged(targets, k)
    expected = target_ranks(scores, targets)
    assert torch.equal(ranks.rank, expected.rank)
    assert torch.equal(ranks.ties, expected.ties)
    ordered, order = torch.sort(scores, dim=1, descending=True, stable=True)
    assert torch.equal(best, order.masked_fill(ordered == -torch.inf, 0)[:, :k])


@pytest.mark.parametrize("n_users", [3, 65])
def test_copies_of_an_item_tie_in_small_batches_too(n_users):
    draw = torch.Generator().manual_seed(0)
    items = torch.randn(20_000, 64, generator=draw)
    items[200:] = items[torch.randint(1, 200, (len(items) - 200,), generator=draw)]
    users = torch.randn(n_users, 64, generator=draw)
    targets = torch.randint(1, 200, (n_users,), generator=draw)
    copies = (items[1:] == items[targets].unsqueeze(1)).all(-1).sum(1)
    assert torch.equal(ScoreBlocks(users, items).judged(targets, 5)[0].ties, copies - 1)


def test_a_nan_is_refused():
    items = torch.ones(40, 2)
    items[17, 0] = torch.nan
    with pytest.raises(InputError, match="scores are NaN"):
        ScoreBlocks(torch.ones(3, 2), items).judged(torch.tensor([1, 2, 3]), 5)


def test_large_catalogues_are_ranked_in_blocks_to_the_same_end(monkeypatch):
    write_inter(random_rows(n_users=12))
    more = {"mask_seen": True, "candidates": "training", "metrics": ["NDCG", "ItemCoverage"]}
    options = small_options(epochs=1, eval_batch_size=7, **more)
    whole = run("HSTU", "toy", config_dict=options)
    monkeypatch.setattr(evaluation_loaders, "_MAX_SCORES", 60)
    monkeypatch.setattr(sizes, "BLOCK_SCORES", 16)
    monkeypatch.setattr(sizes, "LEAST_BLOCK", 4)
    blocks = run("HSTU", "toy", config_dict=options)
    assert blocks["test_result"] == whole["test_result"]
    assert np.array_equal(blocks["ranks"].ranks, whole["ranks"].ranks)
    assert blocks["record"].beyond == whole["record"].beyond


def test_what_needs_all_scores_at_once_has_them(monkeypatch):
    write_inter(random_rows(n_users=12))
    monkeypatch.setattr(evaluation_loaders, "_MAX_SCORES", 60)
    found = {}
    for model, metrics in (("HSTU", ["NDCG"]), ("HSTU", ["NDCG", "GAUC"]), ("SASRec", ["NDCG"])):
        config = small_config(model, metrics=metrics, eval_batch_size=7)
        test = make_loaders(config, load_dataset(config))[2]
        found[model, len(metrics)] = (test.in_blocks, test.step)
    assert found == {("HSTU", 1): (True, 7), ("HSTU", 2): (False, 2), ("SASRec", 1): (False, 2)}
