"""Losses over a table of item vectors that is computed once a step. Knows no RecBole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from recbole_hstu.layers.picked_products import PickedProducts, SparseProducts, blocks

# The logit of a sampled negative that is its own positive: far below any, finite in half precision.
MASKED = -5e4
# Log-probabilities below this count as this much in gradients: 1e-35.
LEAST_LOG = -80.0
# A vector that is shorter keeps its length in this unit, since it has no direction to speak of.
LEAST_NORM = 1e-6
# One product of `sparse`, or of `gather`, costs about as much as this many of a matrix product.
DENSE_COLUMNS = {"sparse": 6, "gather": 64}


def sampled_softmax(
    queries: torch.Tensor,
    table: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    *,
    temperature: float,
    positive_table: torch.Tensor | None = None,
    log_weight: float = 0.0,
    added: torch.Tensor | None = None,
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
        log_weight: added to every negative's logit, see `log_correction`.
        added: (T, 1 + R) to the logits of the positive and the negatives, if anything.
        impl: how the products with the negatives are made, same loss and gradients: `dense`
            multiplies with the whole table, block by block, and picks; `sparse` computes what is
            picked alone (CPU, float32 or 64); `gather` copies the vectors. `auto`: `choose_impl`.
    """
    logits = sampled_logits(queries, table, positives, negatives, temperature, positive_table, impl)
    return _first_of(logits, log_weight, added)


def sampled_logits(
    queries, table, positives, negatives, temperature, positive_table, impl
) -> torch.Tensor:
    """(T, 1 + R) similarities / temperature: the positive's, and the negatives', `MASKED` where one
    is its own positive. The arguments are those of `sampled_softmax`."""
    table = table.to(queries.dtype)  # under autocast the two may differ
    queries = queries / temperature
    if impl == "auto":
        impl = choose_impl(table, negatives.shape[1])
    if impl not in ("dense", "sparse", "gather"):
        raise ValueError(f"impl={impl!r}: expected auto, dense, sparse or gather")
    index = torch.cat([positives.unsqueeze(1), negatives], dim=1)
    if impl == "gather":
        with torch.autocast(queries.device.type, enabled=False):  # as the others compute
            logits = torch.bmm(table[index], queries.unsqueeze(-1)).squeeze(-1)
    else:
        products = PickedProducts if impl == "dense" else SparseProducts
        logits = products.apply(queries, table, index)
    if positive_table is not None:
        positive = (queries * positive_table[positives]).sum(-1, keepdim=True)
        logits = torch.cat([positive, logits[:, 1:]], dim=1)
    return _without_hits(logits, positives, negatives)


def choose_impl(table: torch.Tensor, n_negatives: int) -> str:
    """The cheapest `impl` of `sampled_softmax` for a (V, D) table and R negatives a query."""
    columns = len(table) / n_negatives
    if table.device.type == "cpu" and table.dtype in (torch.float32, torch.float64):
        return "dense" if columns <= DENSE_COLUMNS["sparse"] else "sparse"
    return "dense" if columns <= DENSE_COLUMNS["gather"] else "gather"


def shared_softmax(
    queries: torch.Tensor,
    table: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    *,
    temperature: float,
    positive_table: torch.Tensor | None = None,
    log_weight: float = 0.0,
    added: torch.Tensor | None = None,
) -> torch.Tensor:
    """`sampled_softmax` with one draw of R negatives for all T queries: a plain matrix product.

    Args:
        negatives: (R,) int64; masked out where one equals a query's positive.
        queries, table, positives, temperature, positive_table, log_weight, added: as there.
    """
    table = table.to(queries.dtype)
    queries = queries / temperature
    own = table if positive_table is None else positive_table
    positive = (queries * own[positives]).sum(-1, keepdim=True)
    logits = torch.cat([positive, queries @ table[negatives].t()], dim=1)  # (T, 1 + R)
    return _first_of(_without_hits(logits, positives, negatives), log_weight, added)


@dataclass(frozen=True)
class WeighedFeatures:
    """Features of T queries and the items 1 .. V - 1, whose weighted sum `full_softmax` adds to the
    logits.

    Attributes:
        weights: (W,).
        of: a slice of n queries -> W features, each (n, V - 1). No gradient goes through them.
    """

    weights: torch.Tensor
    of: Callable[[slice], list[torch.Tensor]]


def full_softmax(
    queries: torch.Tensor,
    table: torch.Tensor,
    positives: torch.Tensor,
    *,
    temperature: float,
    positive_table: torch.Tensor | None = None,
    added: WeighedFeatures | None = None,
) -> torch.Tensor:
    """Cross-entropy over the catalogue: -log softmax over rows 1..V-1 of the table, row 0 being
    padding. Memory is bounded by a block of logits and their features, not by T x V.

    Args:
        queries, table, positives, temperature, positive_table: as in `sampled_softmax`.
        added: to the logits, if anything.
    """
    table = table.to(queries.dtype)
    queries = queries / temperature
    own = table if positive_table is None else positive_table
    positive = (queries * own[positives]).sum(-1)
    weights, features = queries.new_zeros(0), None
    if added is not None:
        weights, features = added.weights.to(queries.dtype), added.of
    given = (queries, table[1:], positives - 1, positive, weights, features)
    return CatalogueCrossEntropy.apply(*given) / len(queries)


def log_correction(n_items: int, n_negatives: int) -> float:
    """log((V - 1) / R): R negatives drawn uniformly from V - 1 real items, hits of the positive
    masked out, then stand for all items but the positive (logQ; Bengio and Senecal 2008; Yi et
    al., RecSys 2019)."""
    return math.log((n_items - 1) / n_negatives)


def _without_hits(logits, positives, negatives) -> torch.Tensor:
    """(T, 1 + R) logits, `MASKED` where a negative (T, R) or (R,) is its own positive (T,)."""
    return logits.masked_fill(F.pad(negatives == positives.unsqueeze(1), (1, 0)), MASKED)


def _first_of(logits, log_weight: float, added: torch.Tensor | None) -> torch.Tensor:
    """Mean cross-entropy of the first of (T, 1 + R) logits against the others."""
    if added is not None:
        logits = logits + added
    if log_weight:  # the same as adding it to every other logit
        logits = torch.cat([logits[:, :1] - log_weight, logits[:, 1:]], dim=1)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


class CatalogueCrossEntropy(torch.autograd.Function):
    """Sum over t of -log softmax(logits_t) at y_t, with logits_tv = <q_t, table_v> + <w, f_tv>,
    but p_t for the product with the positive.

    The logits of a block of queries exist once: they become probabilities and then gradients, all
    in the forward pass, since the backward pass would have to compute them anew.

    Shapes: queries (T, D), table (V, D), positives y (T,) int64, their products p (T,), weights w
    (W,) and their features f, see `WeighedFeatures`; without any W is 0 -> ().
    """

    @staticmethod
    def forward(ctx, queries, table, positives, positive_products, weights, features):
        grad_queries, grad_table = torch.empty_like(queries), torch.zeros_like(table)
        log_likelihood = torch.empty_like(positive_products)
        grad_weights = torch.zeros_like(weights)
        for part, block in blocks(queries, table, held=1 + len(weights)):
            own = positives[part].unsqueeze(1)
            weighed = [f.to(block.dtype) for f in features(part)] if len(weights) else []
            torch.mm(queries[part], table.t(), out=block)
            block.scatter_(1, own, positive_products[part].unsqueeze(1))
            for feature, weight in zip(weighed, weights, strict=True):
                block.addcmul_(feature, weight)
            torch.log_softmax(block, dim=1, out=block)
            log_likelihood[part] = block.gather(1, own).squeeze(1)
            # Where exp() would underflow to denormal numbers the products below crawl.
            block.clamp_(min=LEAST_LOG).exp_()
            for feature, grad in zip(weighed, grad_weights, strict=True):
                grad += torch.dot(feature.flatten(), block.flatten()) - feature.gather(1, own).sum()
            block.scatter_(1, own, 0)
            torch.mm(block, table, out=grad_queries[part])
            grad_table.addmm_(block.t(), queries[part])
        ctx.save_for_backward(grad_queries, grad_table, log_likelihood.exp() - 1, grad_weights)
        return -log_likelihood.sum()

    @staticmethod
    def backward(ctx, grad):
        grad_queries, grad_table, grad_positive, grad_weights = ctx.saved_tensors
        own = (grad * grad_queries, grad * grad_table, None, grad * grad_positive)
        return (*own, grad * grad_weights, None)


def l2_normalise(x: torch.Tensor) -> torch.Tensor:
    """x / max(||x||, `LEAST_NORM`) along the last axis."""
    return _Normalise.apply(x)


class _Normalise(torch.autograd.Function):
    """y = x / max(||x||, e), whose gradient (g - y <g, y>) / ||x|| is put together in half the
    passes over a table that automatic differentiation takes."""

    @staticmethod
    def forward(ctx, x):
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.clamp(min=LEAST_NORM).reciprocal()
        y = x * scale
        ctx.save_for_backward(y, scale, norm >= LEAST_NORM)
        return y

    @staticmethod
    def backward(ctx, grad):
        y, scale, is_norm = ctx.saved_tensors
        along = (grad * y).sum(-1, keepdim=True) * is_norm
        return torch.addcmul(grad, y, along, value=-1).mul_(scale)
