"""The least that a training step of HSTU costs on this machine: its matrix products at the
measured rate of large products, and its bytes at the measured rate of a large copy.

Counted are the products and bytes that any way of computing the exact sampled loss has. The two may
overlap, so the longer one counts. Caches, activations, the picked vectors of the negatives (their
table fits a cache), dropout, attention's bias and the launching of operations are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

# HSTU's defaults for Amazon's data sets.
WIDTH, LAYERS, INNER = 64, 4, 64
FLOAT = 4


class Machine:
    """What a step is made of, to be timed in turn with it: a large product and a large copy."""

    def __init__(self, device: str) -> None:
        self.a, self.b, self.out = torch.randn(3, 2048, 2048, device=device)
        self.source = torch.randn(1 << 26, device=device)
        self.target = torch.empty_like(self.source)

    def product(self) -> None:
        torch.mm(self.a, self.b, out=self.out)

    def copy(self) -> None:
        self.target.copy_(self.source)

    def rates(self, product: np.ndarray, copy: np.ndarray) -> Rates:
        """Of seconds per call."""
        return Rates(2 * 2048**3 / product, 2 * FLOAT * self.source.numel() / copy)


@dataclass(frozen=True)
class Rates:
    """Floating point operations, and bytes read and written, per second, round by round."""

    flops: np.ndarray
    bytes: np.ndarray

    def __str__(self) -> str:
        return (
            f"{np.median(self.flops) / 1e9:.0f} GFLOP/s in products, "
            f"{np.median(self.bytes) / 1e9:.1f} GB/s in copies"
        )


@dataclass(frozen=True)
class Cost:
    flop: float
    bytes: float

    def seconds(self, rates: Rates) -> np.ndarray:
        return np.maximum(self.flop / rates.flops, self.bytes / rates.bytes)

    def describe(self, rates: Rates) -> str:
        return (
            f"{self.flop / 1e9:.2f} GFLOP and {self.bytes / 1e6:.0f} MB, "
            f"{np.median(self.seconds(rates)):.3f} s"
        )


def step(lengths: torch.Tensor, *, items: int, text: int, negatives: int) -> Cost:
    """A step over rows of these lengths; `text` is the width of the item text, 0 without."""
    tokens, squares = int(lengths.sum()), int((lengths**2).sum())
    layer = tokens * WIDTH * 4 * INNER + tokens * INNER * WIDTH + squares * 2 * INNER
    picked = tokens * (negatives + 1) * WIDTH
    # A product of the forward pass makes two in the backward pass; frozen text needs no gradient.
    flop = 2 * 3 * (LAYERS * layer + picked) + 2 * 2 * items * text * WIDTH
    table = items * WIDTH
    parameters = table + LAYERS * 5 * WIDTH * INNER + text * WIDTH
    moved = (
        7 * parameters  # AdamW reads weight, gradient and two moments, and writes all but one
        + 2 * items * text  # the text, in both passes
        + 4 * table  # the table and its gradient, written and read
    )
    return Cost(flop, FLOAT * moved)
