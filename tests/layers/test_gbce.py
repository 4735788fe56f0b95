"""gBCE against binary cross-entropy and the paper's formula, in float64."""

import pytest
import torch
import torch.nn.functional as F

from recbole_hstu.layers.gbce import gbce, gbce_beta

T, V, D, R = 20, 40, 6, 5


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    queries, table = (
        torch.randn(n, D, dtype=torch.double, generator=generator, requires_grad=True)
        for n in (T, V)
    )
    positives = torch.randint(1, V, (T,), generator=generator)
    negatives = torch.randint(1, V, (T, R), generator=generator)
    negatives[negatives == positives.unsqueeze(1)] = 0
    return queries, table, positives, negatives


@pytest.mark.parametrize("impl", ["dense", "sparse", "gather"])
def test_without_calibration_it_is_binary_cross_entropy(drawn, impl):
    queries, table, positives, negatives = drawn
    beta = gbce_beta(V, R, t=0.0)
    assert beta == 1
    loss = gbce(*drawn, beta=beta, temperature=0.5, impl=impl)
    index = torch.cat([positives.unsqueeze(1), negatives], dim=1)
    logits = (table[index] @ queries.unsqueeze(-1)).squeeze(-1) / 0.5
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    plain = F.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(loss, plain)
    found, expected = (torch.autograd.grad(x, (queries, table)) for x in (loss, plain))
    torch.testing.assert_close(found, expected)


def test_the_papers_formula_by_hand(drawn):
    queries, table, positives, negatives = drawn
    alpha = 5 / 38  # of the 38 items that are not the positive
    beta = alpha * (0.75 * (1 - 1 / alpha) + 1 / alpha)
    assert gbce_beta(V, R, t=0.75) == pytest.approx(beta)
    assert gbce_beta(V, R, t=1.0) == pytest.approx(alpha)
    total = 0.0
    for query, positive, others in zip(queries, positives, negatives, strict=True):
        total -= torch.log(torch.sigmoid(query @ table[positive]) ** beta)
        for other in others:
            total -= torch.log(1 - torch.sigmoid(query @ table[other]))
    loss = gbce(*drawn, beta=beta, temperature=1.0)
    torch.testing.assert_close(loss, total / (T * (R + 1)))


def test_gradients_with_a_table_of_positives(drawn):
    queries, table, positives, negatives = drawn
    own = torch.randn(V, D, dtype=torch.double, requires_grad=True)

    def loss(q, t, p):
        settings = {"beta": 0.3, "temperature": 0.7, "positive_table": p}
        return gbce(q, t, positives, negatives, **settings)

    assert torch.autograd.gradcheck(loss, (queries, table, own), fast_mode=True)


def test_a_negative_that_is_its_positive_counts_nothing(drawn):
    queries, table, positives, negatives = drawn
    hits = torch.cat([negatives, positives.unsqueeze(1)], dim=1)
    with_hits = gbce(queries, table, positives, hits, beta=0.3, temperature=1.0)
    without = gbce(*drawn, beta=0.3, temperature=1.0)
    torch.testing.assert_close(with_hits * (R + 2), without * (R + 1))
