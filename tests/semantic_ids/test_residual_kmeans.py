"""Residual k-means finds a hierarchy that is there."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from semantic_ids import hierarchy

from recbole_hstu.semantic_ids.residual_kmeans import codes_by, quantise

OPTIONS = {"level_sizes": [4, 4, 4], "max_iterations": 50}


def names(prefixes):
    """Each distinct row by the place where it first stands, whatever the codes are called."""
    seen: dict[tuple[int, ...], int] = {}
    return [seen.setdefault(tuple(row), len(seen)) for row in prefixes.tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_a_hierarchy_is_found_level_by_level(seed):
    vectors, paths = hierarchy(seed=seed)
    codes = quantise(vectors * 7, OPTIONS, seed).codes  # ids are about directions
    for level in (1, 2, 3):
        assert names(codes[:, :level]) == names(paths[:, :level])


def test_a_seed_fixes_the_codes_and_further_vectors_find_theirs():
    vectors, paths = hierarchy(branches=3)
    options = {**OPTIONS, "level_sizes": [3, 3, 3]}
    made, again = quantise(vectors, options, 5), quantise(vectors, options, 5)
    np.testing.assert_array_equal(made.codes, again.codes)
    assert all((book == again.tensors[name]).all() for name, book in made.tensors.items())
    others, their_paths = hierarchy(branches=3, seed=9)
    code_of = dict(zip(map(tuple, paths.tolist()), made.codes.tolist(), strict=True))
    expected = [code_of[tuple(path)] for path in their_paths.tolist()]
    assert codes_by(made.tensors, others, options).tolist() == expected


def test_fewer_distinct_vectors_than_codes():
    """Nothing is left over at the second level, and rounding is no direction."""
    vectors = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = quantise(np.repeat(vectors, 5, axis=0), {**OPTIONS, "level_sizes": [8, 8]}, 0).codes
    assert len(set(codes[:, 0].tolist())) == 3
    assert set(codes[:, 1].tolist()) == {0}
