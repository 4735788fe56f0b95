"""What codes are worth: collisions, use and entropy of a level, purity of the prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Level:
    """One level of the codes.

    Attributes:
        size: codes that it has.
        used: codes that an item has.
        entropy: of its codes over the items, in bits; at most log2(size).
        purity: share of the items that have the most frequent category among those with the same
            codes up to this level; None without categories.
        purity_by_chance: the same with the categories dealt out at random.
    """

    size: int
    used: int
    entropy: float
    purity: float | None
    purity_by_chance: float | None


@dataclass(frozen=True)
class Worth:
    """Of the codes of all items, before they are told apart.

    Attributes:
        items: how many.
        colliding: items that share all their codes with another.
        largest: items of the largest such group, 1 if there is none.
    """

    items: int
    colliding: int
    largest: int
    levels: list[Level]

    @property
    def summary(self) -> str:
        """Items and collisions in a line."""
        share = self.colliding / self.items
        return (
            f"{self.items:,} items, {self.colliding:,} of them ({share:.2%}) with the codes of "
            f"another one, up to {self.largest:,} alike; a further code tells these apart"
        )

    def table(self) -> tuple[list[str], list[list[str]], str]:
        """Headings, rows and alignment."""
        rows = [
            [
                str(number),
                f"{level.used:,} of {level.size:,}",
                f"{level.entropy:.2f} of {np.log2(level.size):.2f}",
                *("" if value is None else f"{value:.3f}" for value in _purities(level)),
            ]
            for number, level in enumerate(self.levels, start=1)
        ]
        headings = ["level", "codes used", "entropy, bits", "prefix purity", "by chance"]
        return headings, rows, "rrrrr"


def worth(
    codes: np.ndarray, level_sizes: Sequence[int], categories: Sequence[Any] | None, seed: int
) -> Worth:
    """Measure codes (n, levels).

    Args:
        categories: of the items, None for one without; those are left out of the purity.
        seed: deals the categories out for `purity_by_chance`.
    """
    _, counts = np.unique(codes, axis=0, return_counts=True)
    known = pd.Series(categories, dtype=object) if categories is not None else None
    known = known if known is not None and known.notna().any() else None
    levels = [
        _level(codes[:, : number + 1], size, known, seed) for number, size in enumerate(level_sizes)
    ]
    colliding = int(counts[counts > 1].sum())
    return Worth(len(codes), colliding, int(counts.max()), levels)


def _level(prefixes: np.ndarray, size: int, categories: pd.Series | None, seed: int) -> Level:
    uses = np.bincount(prefixes[:, -1], minlength=size)
    share = uses[uses > 0] / len(prefixes)
    entropy = float((share * np.log2(1 / share)).sum())
    purities: tuple[float | None, float | None] = (None, None)
    if categories is not None:
        has_one = categories.notna().to_numpy()
        kinds, groups = categories[has_one], _groups(prefixes[has_one])
        dealt = kinds.sample(frac=1.0, random_state=seed)
        purities = (_purity(groups, kinds), _purity(groups, dealt))
    return Level(size, int((uses > 0).sum()), entropy, *purities)


def _groups(prefixes: np.ndarray) -> np.ndarray:
    return np.unique(prefixes, axis=0, return_inverse=True)[1].ravel()


def _purity(groups: np.ndarray, kinds: pd.Series) -> float:
    """Share of the items that have the most frequent kind of their group."""
    counts = pd.DataFrame({"group": groups, "kind": kinds.to_numpy()}).value_counts()
    return float(counts.groupby(level="group").max().sum() / len(groups))


def _purities(level: Level) -> tuple[float | None, float | None]:
    return level.purity, level.purity_by_chance
