"""Losses over a table of item vectors that is computed once a step. Knows no RecBole."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# A sampled negative that is its own positive: far below any similarity, finite in half precision.
MASKED = -5e4
# A gathered vector costs about as much as this many columns of a matrix product (benchmarks).
DENSE_COLUMNS_PER_NEGATIVE = 64
# Products held at once. On a CPU about 4 MB of float32, used up while they are in the cache.
_CHUNK_PRODUCTS = {"cpu": 1 << 20, "cuda": 1 << 26}


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
            table, block by block, and picks; same loss and gradients. `auto` takes `dense` while
            the table has at most `DENSE_COLUMNS_PER_NEGATIVE` rows a negative.
    """
    table = table.to(queries.dtype)  # under autocast the two may differ
    if impl == "auto":
        dense = len(table) <= DENSE_COLUMNS_PER_NEGATIVE * negatives.shape[1]
        impl = "dense" if dense else "gather"
    if impl == "dense":
        index = torch.cat([positives.unsqueeze(1), negatives], dim=1)
        similarities = PickedProducts.apply(queries, table, index)  # (T, 1 + R)
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


class PickedProducts(torch.autograd.Function):
    """(queries @ table.T).gather(1, index) without the (T, V) matrix: block by block, forward and
    backward, so that memory stays bounded.

    Shapes: queries (T, D), table (V, D), index (T, K) int64 -> (T, K).
    """

    @staticmethod
    def forward(ctx, queries, table, index):
        ctx.save_for_backward(queries, table, index)
        picked = queries.new_empty(index.shape)
        for part, block in _blocks(queries, table):
            torch.mm(queries[part], table.t(), out=block)
            torch.gather(block, 1, index[part], out=picked[part])
        return picked

    @staticmethod
    def backward(ctx, grad):
        queries, table, index = ctx.saved_tensors
        grad_queries, grad_table = torch.empty_like(queries), torch.zeros_like(table)
        for part, block in _blocks(queries, table):
            block.zero_().scatter_add_(1, index[part], grad[part])
            torch.mm(block, table, out=grad_queries[part])
            grad_table.addmm_(block.t(), queries[part])
        return grad_queries, grad_table, None


def _blocks(queries: torch.Tensor, table: torch.Tensor):
    """Slices of the queries, and a buffer (rows of the slice, V) that all of them share."""
    rows = max(64, _CHUNK_PRODUCTS.get(table.device.type, 1 << 26) // len(table))
    buffer = queries.new_empty(min(rows, len(queries)), len(table))
    for start in range(0, len(queries), rows):
        part = slice(start, min(start + rows, len(queries)))
        yield part, buffer[: part.stop - start]


def l2_normalise(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """x / max(||x||, eps) along the last axis."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=eps)
