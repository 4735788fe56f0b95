"""Generalised binary cross-entropy: BCE for many negatives, without overconfidence.

gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling
(Petrov and Macdonald, RecSys 2023), https://arxiv.org/abs/2308.07192.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from recbole_hstu.layers.losses import sampled_logits


def gbce(
    queries: torch.Tensor,
    table: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    *,
    beta: float,
    temperature: float,
    positive_table: torch.Tensor | None = None,
    impl: str = "auto",
) -> torch.Tensor:
    """Mean over queries and their 1 + R items of the binary cross-entropy, the positive's weighted
    with beta: -(beta * log sigmoid(s+) + sum over negatives of log(1 - sigmoid(s-))) / (1 + R).

    Args:
        beta: see `gbce_beta`; 1 is plain BCE.
        queries, table, positives, negatives, temperature, positive_table, impl: as in
            `losses.sampled_softmax`; a negative that equals its own positive counts nothing.
    """
    logits = sampled_logits(queries, table, positives, negatives, temperature, positive_table, impl)
    positive, negative = F.softplus(-logits[:, 0]), F.softplus(logits[:, 1:])
    return (beta * positive.sum() + negative.sum()) / logits.numel()


def gbce_beta(n_items: int, n_negatives: int, t: float) -> float:
    """The power of the positive's probability, alpha * (t * (1 - 1 / alpha) + 1 / alpha), where
    alpha = R / (|I| - 1) is the share of the other items that is drawn (the paper, section 5).

    Args:
        n_items: V = |I| + 1, padding included.
        n_negatives: R.
        t: 0 leaves the scores as overconfident as BCE makes them, 1 calibrates them.
    """
    alpha = n_negatives / (n_items - 2)
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)
