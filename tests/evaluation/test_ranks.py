"""Ranks against a brute-force computation, and against the published research code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hstu.evaluation import ranks as ranks_module
from recbole_hstu.evaluation.metrics import user_metric
from recbole_hstu.evaluation.ranks import MISSED, target_ranks
from recbole_hstu.support.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden"


def brute_force(scores, targets, seen):
    """One user at a time, with lists and sets; nothing shared with the code under test."""
    result = []
    for row, target in enumerate(targets):
        hidden = {item for r, item in seen if r == row}
        candidates = {
            item: score
            for item, score in enumerate(scores[row])
            if item != 0 and item not in hidden and score != -float("inf")
        }
        if target not in candidates:
            result.append((MISSED, 0))
            continue
        own = candidates.pop(target)
        order = sorted({**candidates, target: own}.items(), key=lambda c: (-c[1], c[0]))
        ties = sum(score == own for score in candidates.values())
        result.append((1 + order.index((target, own)), ties))
    return result


@st.composite
def cases(draw):
    rows, width = draw(st.integers(1, 5)), draw(st.integers(2, 12))
    # Few distinct values make ties; -inf is RecBole's mask.
    value = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 0.5000001, 3.0, -float("inf")])
    scores = draw(
        st.lists(st.lists(value, min_size=width, max_size=width), min_size=rows, max_size=rows)
    )
    targets = draw(st.lists(st.integers(1, width - 1), min_size=rows, max_size=rows))
    pair = st.tuples(st.integers(0, rows - 1), st.integers(0, width - 1))
    return scores, targets, draw(st.lists(pair, max_size=20))


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(1, 40))
def test_equal_to_brute_force(case, chunk):
    scores, targets, seen = case
    tensor = torch.tensor(scores)
    for row, item in seen:
        tensor[row, item] = -torch.inf
    before = tensor.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ranks_module._CHUNK_SCORES, "cpu", chunk)
        got = target_ranks(tensor, torch.tensor(targets))
    expected = brute_force(scores, targets, seen)
    assert list(zip(got.rank.tolist(), got.ties.tolist(), strict=True)) == expected
    assert torch.equal(tensor, before)


@pytest.mark.parametrize("unit", ["sec", "ms"])
@pytest.mark.parametrize("name", ["tiny_id_rand", "tiny_text_rand"])
def test_equal_to_the_research_code(name, unit):
    """60 items; the reference looks at the best 40 only and gives 41 to all others."""
    with np.load(GOLDEN / f"{name}.npz") as golden:
        stored = {k: golden[f"{unit}/eval/{k}"] for k in ("scores", "past_ids", "ranks")}
        targets = torch.from_numpy(golden[f"{unit}/eval/target_ids"])[:, 0]
        reference = {
            metric: golden[f"{unit}/eval/metrics/{metric}"]
            for metric in ("hr@1", "hr@10", "ndcg@1", "ndcg@10", "mrr")
        }
    scores = torch.nn.functional.pad(torch.from_numpy(stored["scores"]), (1, 0), value=9.0)
    past = torch.from_numpy(stored["past_ids"])
    ranks = target_ranks(scores.scatter(1, past, -torch.inf), targets).rank.numpy()
    assert ranks[7] == MISSED  # its target is in its history
    assert (ranks == MISSED).sum() == (past == targets[:, None]).any(1).sum()
    np.testing.assert_array_equal(np.minimum(ranks, 41), stored["ranks"])
    for metric, expected in reference.items():
        if metric != "mrr":
            got = user_metric(ranks, metric.replace("hr", "hit"))
            np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(1 / np.minimum(ranks, 41), reference["mrr"], rtol=1e-6)


def test_scores_alone_in_a_batch_give_the_same_rank():
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(7, 3000, generator=generator)
    targets = torch.randint(1, 3000, (7,), generator=generator)
    together = target_ranks(scores, targets).rank
    alone = [target_ranks(scores[i : i + 1], targets[i : i + 1]).rank.item() for i in range(7)]
    assert together.tolist() == alone
    order = scores[:, 1:].argsort(dim=1, descending=True) + 1
    assert together.tolist() == ((order == targets[:, None]).nonzero()[:, 1] + 1).tolist()


@pytest.mark.parametrize("place", [(0, 3), (2, 1), (2, 4)])
def test_nan_is_an_error_and_never_rank_one(place):
    scores = torch.zeros(3, 5)
    scores[place] = torch.nan
    with pytest.raises(InputError, match=rf"NaN \(first in row {place[0]} "):
        target_ranks(scores, torch.tensor([3, 3, 1]))


def test_nan_in_the_padding_column_is_nobodys_score():
    scores = torch.tensor([[torch.nan, 1.0, 2.0]])
    assert target_ranks(scores, torch.tensor([1])).rank.tolist() == [2]


def test_half_precision_and_padding_with_the_best_score():
    scores = torch.tensor([[9.0, 1.0, 2.0, 2.0]], dtype=torch.bfloat16)
    assert target_ranks(scores, torch.tensor([3])) == (torch.tensor([2]), torch.tensor([1]))


@pytest.mark.parametrize(
    ("scores", "targets"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 1])),
        (torch.zeros(2, 4), torch.tensor([1, 4])),
        (torch.zeros(2, 4), torch.tensor([1])),
        (torch.zeros(2, 4, dtype=torch.int64), torch.tensor([1, 1])),
    ],
)
def test_what_does_not_fit_is_refused(scores, targets):
    with pytest.raises(ValueError, match="must"):
        target_ranks(scores, targets)


def test_ranks_are_exact_past_what_float32_can_count():
    scores = torch.ones(1, (1 << 24) + 3)
    scores[0, 1] = 0
    assert target_ranks(scores, torch.tensor([1])).rank.tolist() == [(1 << 24) + 2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_ranks_of_other_types_of_scores(dtype):
    scores = torch.tensor([[9.0, 0.5, 0.25, 0.5, 0.75]], dtype=dtype).expand(2, -1)
    found = target_ranks(scores, torch.tensor([3, 2]))
    assert found.rank.tolist() == [3, 4]
    assert found.ties.tolist() == [1, 0]
