"""What a method gives, and the further level that tells apart items with the same codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Quantised:
    """Codes of vectors, before items are told apart.

    Attributes:
        codes: (n, levels) whole numbers.
        tensors: what gives further vectors their codes.
        note: what the method has to say of its training, empty if nothing.
    """

    codes: np.ndarray
    tensors: Mapping[str, np.ndarray]
    note: str = ""


def told_apart(codes: np.ndarray) -> np.ndarray:
    """(n, levels + 1): the further code counts the items with the same codes, in file order."""
    _, group = np.unique(codes, axis=0, return_inverse=True)
    further = pd.Series(group.ravel()).groupby(group.ravel()).cumcount()
    return np.column_stack([codes, further])
