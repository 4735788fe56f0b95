"""Ids of items that came after the others, by what an earlier semantic-id file was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hstu.data.files.semantic_id_file import codes_by_token, read_quantiser
from recbole_hstu.semantic_ids import residual_kmeans, rqvae
from recbole_hstu.support.errors import InputError

# The modules of the methods, each with its `quantise` and `codes_by`.
MODULES = {"rkmeans": residual_kmeans, "rqvae": rqvae}
_MOVED = 0.01  # share of the items that may have another nearest code by rounding


def with_options_of(path: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options, with the method and the options that a semantic-id file was made with.

    Raises:
        InputError: no such file, one without a quantiser, or other options are given.
    """
    tensors, made = read_quantiser(path)
    if not tensors or made.get("method") not in MODULES:
        raise InputError(
            f"--quantiser={path}: holds codes, but nothing that gives further items theirs; name a "
            "file of recbole-hstu ids"
        )
    own = {"method": made["method"], **made["options"]}
    for key, value in own.items():
        if given.get(key, value) != value:
            raise InputError(f"--quantiser={path}: was made with {key} {value}; leave --{key} out")
    return {**given, **own}


def further_ids(path: str | Path, tokens: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """Ids (n, levels) of items with vectors (n, dim): those that a file has keep theirs, others get
    the nearest codes, and of the last level the next one that is free.

    Raises:
        InputError: the vectors are not of the kind that the file was made from.
    """
    kept = codes_by_token(path)
    tensors, made = read_quantiser(path)
    nearest = None
    if made["text_features"]["width"] == vectors.shape[1]:
        nearest = MODULES[made["method"]].codes_by(tensors, vectors, made["options"])
    if nearest is None or _moved(tokens, nearest, kept) > _MOVED:
        raise InputError(
            f"--quantiser={path}: its items have other codes by these vectors, which are of "
            f"another encoder or another fit than {made['text_features']['file']}; encode further "
            "items as the others were"
        )
    free: dict[tuple[int, ...], int] = {}
    for *codes, last in kept.values():
        free[tuple(codes)] = max(free.get(tuple(codes), 0), last + 1)
    ids = []
    for token, codes in zip(tokens, nearest.tolist(), strict=True):
        if token not in kept:
            last = free.get(tuple(codes), 0)
            free[tuple(codes)] = last + 1
        ids.append(kept.get(token) or [*codes, last])
    return np.array(ids)


def _moved(tokens: Sequence[str], nearest: np.ndarray, kept: Mapping[str, list[int]]) -> float:
    """Share of a file's items whose nearest codes are others than theirs; 1 if there is none."""
    pairs = [
        (codes, kept[token][:-1])
        for token, codes in zip(tokens, nearest.tolist(), strict=True)
        if token in kept
    ]
    return sum(now != before for now, before in pairs) / len(pairs) if pairs else 1.0
