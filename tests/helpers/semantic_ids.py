"""Semantic ids of made-up items, and vectors that have some."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from recbole_hstu.data.files.semantic_id_file import write_semantic_ids

WIDTHS = (1.0, 0.2, 0.04)  # of the levels of the hierarchy


def hierarchy(branches=4, items=6, seed=0):
    """Vectors (n, dim) of a tree with three levels, and the path (n, 3) of each; shuffled."""
    rng = np.random.default_rng(seed)
    paths = np.array([*itertools.product(range(branches), repeat=3)] * items)
    rng.shuffle(paths)
    parts = [np.eye(branches)[paths[:, level]] * width for level, width in enumerate(WIDTHS)]
    vectors = np.concatenate(parts, axis=1)
    return (vectors + rng.normal(size=vectors.shape) * 1e-4).astype(np.float32), paths


def write_ids(n_items=30, *, seed=0, folder="dataset/toy", name="toy", method="rkmeans"):
    """A semantic-id file of items i0, i1, ... with two levels of six codes and a further one."""
    codes = np.array([*itertools.product(range(6), range(6))])
    chosen = np.random.default_rng(seed).choice(len(codes), n_items, replace=False)
    path = Path(folder) / f"{name}.{method}.ids.safetensors"
    tokens = [f"i{item}" for item in range(n_items)]
    further = np.zeros((n_items, 1), dtype=int)
    write_semantic_ids(path, tokens, np.hstack([codes[chosen], further]), (6, 6, 1), {})
    return path
