"""Residual k-means: every level clusters what the levels before it have left over.

Residuals are scaled to length 1 before they are clustered, so that every level sees directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_hstu.semantic_ids.quantised import Quantised

_TINY = 1e-5  # what float32 leaves over of a vector of length 1 that is its own centroid


def quantise(vectors: np.ndarray, options: Mapping[str, Any], seed: int) -> Quantised:
    """Codes of vectors (n, dim) by the options of `properties/ids/rkmeans.yaml`."""
    codebooks: list[np.ndarray] = []
    left = vectors
    for size in options["level_sizes"]:
        left = unit_length(left)
        codebooks.append(centroids(left, size, options["max_iterations"], seed))
        left = left - codebooks[-1][_nearest(left, codebooks[-1])]
    tensors = {f"codebook.{level}": book for level, book in enumerate(codebooks)}
    return Quantised(codes_by(tensors, vectors, options), tensors)


def codes_by(
    tensors: Mapping[str, np.ndarray], vectors: np.ndarray, options: Mapping[str, Any]
) -> np.ndarray:
    """(n, levels) codes of vectors (n, dim), which may be others than those of `quantise`: the
    nearest centroid of each level."""
    codes = []
    left = vectors
    for level in range(len(tensors)):
        book, left = tensors[f"codebook.{level}"], unit_length(left)
        codes.append(_nearest(left, book))
        left = left - book[codes[-1]]
    return np.stack(codes, axis=1)


def unit_length(rows: np.ndarray) -> np.ndarray:
    """Rows (n, dim) scaled to length 1, float32; next to nothing becomes zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > _TINY, rows / np.maximum(length, _TINY), 0.0).astype(np.float32)


def centroids(points: np.ndarray, size: int, max_iterations: int, seed: int) -> np.ndarray:
    """(size, dim) from a k-means++ start; where there are fewer distinct points, so many."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    distinct = len(np.unique(points, axis=0))
    clusters = KMeans(min(size, distinct), n_init=1, max_iter=max_iterations, random_state=seed)
    # One thread: sums in one order, so that the bits do not depend on who is faster.
    with threadpool_limits(1):
        return clusters.fit(points).cluster_centers_


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(points, centres)
