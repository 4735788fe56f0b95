"""Products of vectors with some rows of a table, memory bounded. Knows no RecBole."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix

# Said once a process by torch; what is used of it is tested.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

# Columns of a sparse product that are worth a thread: 64 bytes, what a processor reads at once.
LEAST_COLUMNS = 16
# Products held at once. On a CPU about 4 MB of float32, used up while they are in the cache.
CHUNK_PRODUCTS = {"cpu": 1 << 20, "cuda": 1 << 26}


class PickedProducts(torch.autograd.Function):
    """(queries @ table.T).gather(1, index) without the (T, V) matrix: block by block, forward and
    backward, so that memory stays bounded.

    Shapes: queries (T, D), table (V, D), index (T, K) int64 -> (T, K).
    """

    @staticmethod
    def forward(ctx, queries, table, index):
        ctx.save_for_backward(queries, table, index)
        picked = queries.new_empty(index.shape)
        for part, block in blocks(queries, table):
            torch.mm(queries[part], table.t(), out=block)
            torch.gather(block, 1, index[part], out=picked[part])
        return picked

    @staticmethod
    def backward(ctx, grad):
        queries, table, index = ctx.saved_tensors
        grad_queries, grad_table = torch.empty_like(queries), torch.zeros_like(table)
        for part, block in blocks(queries, table):
            block.zero_().scatter_add_(1, index[part], grad[part])
            torch.mm(block, table, out=grad_queries[part])
            grad_table.addmm_(block.t(), queries[part])
        return grad_queries, grad_table, None


class SparseProducts(torch.autograd.Function):
    """`PickedProducts` without the other products: a sparse matrix of what is picked, on a CPU.

    torch multiplies along its rows in parallel; what it would copy and sort to multiply along the
    columns, scipy adds up as it stands, every thread a few columns of the result.
    """

    @staticmethod
    def forward(ctx, queries, table, index):
        if index.numel() < 1 << 31:
            index = index.int()  # which both libraries take as it is
        ctx.save_for_backward(queries, table, index)
        pattern = _rows_of(index, queries.new_zeros(index.shape), len(table))
        picked = torch.sparse.sampled_addmm(pattern, queries, table.t(), beta=0.0)
        return picked.values().view_as(index)

    @staticmethod
    def backward(ctx, grad):
        queries, table, index = ctx.saved_tensors
        grad = grad.contiguous()
        rows = _rows_of(index, grad, len(table))
        parts = (rows.values(), rows.col_indices(), rows.crow_indices())
        columns = csr_matrix(tuple(p.numpy() for p in parts), shape=rows.shape).T
        with torch.autocast("cpu", enabled=False):  # sparse products know no bfloat16
            return rows @ table, torch.from_numpy(_product(columns, queries.numpy())), None


def _product(matrix: csc_matrix, right: np.ndarray) -> np.ndarray:
    """matrix @ right, (V, T) and (T, D), on as many threads as torch may use."""
    n_parts = min(torch.get_num_threads(), right.shape[1] // LEAST_COLUMNS)
    if n_parts <= 1:
        return matrix @ right
    out = np.empty((matrix.shape[0], right.shape[1]), right.dtype)

    def fill(columns: np.ndarray, own: np.ndarray) -> None:
        own[:] = matrix @ columns

    with ThreadPoolExecutor(n_parts) as pool:
        parts = (np.array_split(whole, n_parts, axis=1) for whole in (right, out))
        list(pool.map(fill, *parts))
    return out


def _rows_of(index: torch.Tensor, values: torch.Tensor, width: int) -> torch.Tensor:
    """(T, width) sparse matrix with `values` (T, K) in the columns `index` (T, K)."""
    start = torch.arange(0, index.numel() + 1, index.shape[1], dtype=index.dtype)
    return torch.sparse_csr_tensor(
        start, index.flatten(), values.flatten(), (len(index), width), check_invariants=False
    )


def blocks(queries: torch.Tensor, table: torch.Tensor, held: int = 1):
    """Slices of the queries, and a buffer (rows of the slice, V) that all of them share.

    Args:
        held: how many such buffers exist at once.
    """
    rows = max(64, CHUNK_PRODUCTS.get(table.device.type, 1 << 26) // (held * len(table)))
    buffer = queries.new_empty(min(rows, len(queries)), len(table))
    for start in range(0, len(queries), rows):
        part = slice(start, min(start + rows, len(queries)))
        yield part, buffer[: part.stop - start]
