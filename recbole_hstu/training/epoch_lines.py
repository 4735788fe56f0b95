"""What the terminal says of a training: a few of its epochs, and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)

_SECONDS = 60.0
"""An epoch is shown in any case if for so long none was."""


class EpochLines:
    """Epochs 1, 3, 10, 30, 100, ... in a line each; where epochs are slow, one a minute.

    Args:
        metric: of the validation, that a line shows.
    """

    def __init__(self, metric: str):
        self._metric = metric
        self._said = time.monotonic()

    def of_epoch(self, entry: Mapping[str, Any], epochs: int) -> None:
        """Say something of the epoch that has ended, if it is its turn.

        Args:
            entry: of the trainer's history; `epoch` counts from 0.
        """
        number, now = entry["epoch"] + 1, time.monotonic()
        if str(number).rstrip("0") not in ("1", "3") and now - self._said < _SECONDS:
            return
        self._said = now
        judged = self._judged(entry.get("valid"))
        logger.info("epoch %d of %d: loss %.4f%s", number, epochs, entry["train_loss"], judged)

    def of_end(
        self, history: Sequence[Mapping[str, Any]], best: Mapping[str, float] | None, why: str
    ) -> None:
        """Say how many epochs there were, why no more, and which was the best."""
        if not history:
            return
        seconds = history[-1]["seconds"]
        text = f"trained {len(history)} epochs in {seconds:,.1f} s ({why})"
        # Of equal ones early stopping keeps the last.
        numbers = [e["epoch"] + 1 for e in history if best and e.get("valid") == best]
        if numbers:
            text += f"; best is epoch {numbers[-1]}{self._judged(best)}"
        logger.info("%s", text)

    def _judged(self, result: Mapping[str, float] | None) -> str:
        if result is None or self._metric not in result:
            return ""
        return f", validation {self._metric} {result[self._metric]:.4f}"
