"""What a model of one's own gives for a batch, looked at before it is used: of a wrong shape torch
speaks much later, and names neither the model nor the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from recbole_hstu.support.errors import InputError


def check_answers(model: Any, name: str, n_items: int) -> None:
    """Let what training and ranking ask of a model look at what it gives."""
    model.full_sort_predict = CheckedScores(model.full_sort_predict, name, n_items)
    model.predict = CheckedPredictions(model.predict, name)
    model.calculate_loss = CheckedLoss(model.calculate_loss, name)


@dataclass
class CheckedScores:
    """A model's `full_sort_predict`. An object, not a function: a copy of the model takes it along.

    Raises:
        InputError: the scores are not (B, n_items) floats; flat ones will do.
    """

    own: Callable[..., Any]
    name: str
    n_items: int

    def __call__(self, rows: Any, *args: Any, **options: Any) -> torch.Tensor:
        scores, shape = self.own(rows, *args, **options), (len(rows), self.n_items)
        right = torch.is_tensor(scores) and scores.shape in (shape, (shape[0] * shape[1],))
        if not right or not scores.is_floating_point():
            raise InputError(
                f"--model={self.name}: full_sort_predict gave {_said(scores)}, expected {shape} of "
                "floats, the items from the padding on (docs/extending.md)"
            )
        return scores


@dataclass
class CheckedPredictions:
    """A model's `predict`, as `CheckedScores`.

    Raises:
        InputError: the scores are not (B,) floats, one a row; (B, 1) will do.
    """

    own: Callable[..., Any]
    name: str

    def __call__(self, rows: Any, *args: Any, **options: Any) -> torch.Tensor:
        scores = self.own(rows, *args, **options)
        right = torch.is_tensor(scores) and scores.numel() == len(rows)
        if not right or not scores.is_floating_point():
            raise InputError(
                f"--model={self.name}: predict gave {_said(scores)}, expected ({len(rows)},) of "
                "floats, the score of each row's own item (docs/extending.md)"
            )
        return scores


@dataclass
class CheckedLoss:
    """A model's `calculate_loss`, as `CheckedScores`.

    Raises:
        InputError: the loss is no number with a gradient, nor a tuple of such.
    """

    own: Callable[..., Any]
    name: str

    def __call__(self, rows: Any, *args: Any, **options: Any) -> Any:
        losses = self.own(rows, *args, **options)
        parts = losses if isinstance(losses, tuple) else (losses,)
        right = all(torch.is_tensor(part) and part.numel() == 1 for part in parts)
        if right and torch.is_grad_enabled():
            right = any(part.requires_grad for part in parts)
        if not right:
            raise InputError(
                f"--model={self.name}: calculate_loss gave {', '.join(map(_said, parts))}, "
                "expected a tensor of one number with a gradient, or a tuple of such "
                "(docs/extending.md)"
            )
        return losses


def _said(value: Any) -> str:
    if not torch.is_tensor(value):
        return f"{value!r:.40}"
    without = "" if value.requires_grad or not torch.is_grad_enabled() else " without a gradient"
    return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}{without}"
