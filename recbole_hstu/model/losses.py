"""Losses over a table of item vectors that is computed once a step. Knows no RecBole."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# A sampled negative that is its own positive: far below any similarity, finite in half precision.
MASKED = -5e4
# A gathered vector costs about as much as this many columns of a matrix product (benchmarks).
DENSE_COLUMNS_PER_NEGATIVE = 64


def sampled_softmax(
    queries: torch.Tensor,
    table: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    *,
    temperature: float,
    positive_table: torch.Tensor | None = None,
    impl: str = "auto",
) -> torch.Tensor:
    """Mean of -log softmax([<q, pos>, <q, neg_1>, ..., <q, neg_R>] / temperature)[0].

    Args:
        queries: (T, D).
        table: (V, D) item vectors, normalised by the caller if they are to be.
        positives: (T,) int64 rows of the table.
        negatives: (T, R) int64; one that equals its own positive is masked out.
        temperature: divisor of the similarities.
        positive_table: (V, D) vectors of the positives, where they are not the table's.
        impl: `gather` fetches the vectors of the R negatives, `dense` multiplies with the whole
            table and picks; same loss and gradients. `auto` takes `dense` while the table has at
            most `DENSE_COLUMNS_PER_NEGATIVE` rows a negative.
    """
    if impl == "auto":
        dense = len(table) <= DENSE_COLUMNS_PER_NEGATIVE * negatives.shape[1]
        impl = "dense" if dense else "gather"
    if impl == "dense":
        index = torch.cat([positives.unsqueeze(1), negatives], dim=1)
        similarities = (queries @ table.t()).gather(1, index)  # (T, 1 + R)
    elif impl == "gather":
        positive = (queries * table[positives]).sum(-1, keepdim=True)
        negative = torch.bmm(table[negatives], queries.unsqueeze(-1)).squeeze(-1)
        similarities = torch.cat([positive, negative], dim=1)
    else:
        raise ValueError(f"impl={impl!r}: expected auto, dense or gather")
    if positive_table is not None:
        positive = (queries * positive_table[positives]).sum(-1, keepdim=True)
        similarities = torch.cat([positive, similarities[:, 1:]], dim=1)
    accidental = F.pad(negatives == positives.unsqueeze(1), (1, 0))
    logits = similarities.masked_fill(accidental, MASKED) / temperature
    return F.cross_entropy(logits, torch.zeros_like(positives))


def l2_normalise(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """x / max(||x||, eps) along the last axis."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=eps)
