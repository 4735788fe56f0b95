"""The least that a training step of HSTU costs on this machine: its matrix products at the
measured rate of large products, and its bytes at the measured rate of a large copy.

Counted are the products and bytes that any way of computing the exact sampled loss has; caches,
activations, dropout, attention's bias and the launching of operations are left out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

# HSTU's defaults for Amazon's data sets.
WIDTH, LAYERS, INNER = 64, 4, 64
FLOAT = 4


@dataclass(frozen=True)
class Machine:
    """Floating point operations, and bytes read and written, per second."""

    flops: float
    bytes: float

    @classmethod
    def measure(cls) -> Machine:
        a, b, out = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.empty(2048, 2048)
        source = torch.randn(1 << 26)
        target = torch.empty_like(source)
        product = _best(lambda: torch.mm(a, b, out=out))
        copy = _best(lambda: target.copy_(source))
        return cls(2 * 2048**3 / product, 2 * FLOAT * source.numel() / copy)

    def __str__(self) -> str:
        return f"{self.flops / 1e9:.0f} GFLOP/s in products, {self.bytes / 1e9:.1f} GB/s in copies"


@dataclass(frozen=True)
class Cost:
    flop: float
    bytes: float

    def seconds(self, machine: Machine) -> float:
        return self.flop / machine.flops + self.bytes / machine.bytes

    def describe(self, machine: Machine) -> str:
        return (
            f"{self.flop / 1e9:.2f} GFLOP and {self.bytes / 1e6:.0f} MB, "
            f"{self.seconds(machine):.3f} s"
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
        + 4 * picked  # a picked vector, read in both passes, and a sum of gradients, in and out
    )
    return Cost(flop, FLOAT * moved)


def _best(function) -> float:
    function()
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
