"""The losses of an epoch's steps, left on the device and read every so often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from recbole_hstu.distributed import processes

STEPS = 32
"""How many steps may pass before their losses are read: a GPU is not waited for in between."""


class LossReading:
    """Sums the losses of an epoch, of all processes, as they are read.

    Args:
        when_nan: called with the number of the first step (from 1 on) whose loss is NaN, and with
            what was kept of it by the process that called.
    """

    def __init__(self, when_nan: Callable[[int, Any], None]):
        self._when_nan = when_nan
        self._waiting: list[tuple[torch.Tensor, Any]] = []
        self._read = 0
        self._sums: list[float] = []
        self.total: float | tuple[float, ...] | None = None

    def add(self, losses: Any, kept: Any) -> None:
        """The loss of a step, or of each of its parts; all processes add equally often."""
        parts = losses if isinstance(losses, tuple) else (losses,)
        self._tuple = isinstance(losses, tuple)
        self._waiting.append((torch.stack([part.detach().double().sum() for part in parts]), kept))
        if len(self._waiting) == STEPS:
            self.read()

    def read(self) -> None:
        """Wait for the losses that were added."""
        if not self._waiting:
            return
        values = processes.mean(torch.stack([values for values, _ in self._waiting])).tolist()
        waiting, self._waiting = self._waiting, []
        for values_of_step, (_, kept) in zip(values, waiting, strict=True):
            self._read += 1
            if any(value != value for value in values_of_step):
                self._when_nan(self._read, kept)
            before = self._sums or [0.0] * len(values_of_step)
            self._sums = [a + b for a, b in zip(before, values_of_step, strict=True)]
        self.total = tuple(self._sums) if self._tuple else self._sums[0]
