"""The random generators of a process: their states kept and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_states(generators: dict[str, torch.Generator]) -> dict[str, Any]:
    """The state of every random generator that a training draws from, as plain values."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - RecBole draws from it
    return {
        "python": random.getstate(),
        "numpy": [str(kind), np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "generators": {name: generator.get_state() for name, generator in generators.items()},
    }


def restore_random_states(state: dict[str, Any], generators: dict[str, torch.Generator]) -> None:
    """Undo of `random_states`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0].cpu())
    for name, generator in generators.items():
        generator.set_state(state["generators"][name].cpu())


@contextmanager
def random_states_kept(generators: Mapping[str, torch.Generator] | None = None) -> Iterator[None]:
    """After the block Python's, numpy's and torch's own generators, and these, are as they were
    before it."""
    kept = dict(generators or {})
    before = random_states(kept)
    try:
        yield
    finally:
        restore_random_states(before, kept)
