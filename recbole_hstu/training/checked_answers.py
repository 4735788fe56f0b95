"""What a model of one's own gives for a batch, looked at before it is used: of a wrong shape torch
speaks much later, and names neither the model nor the method."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.support.errors import InputError


def check_answers(model: Any, name: str, n_items: int) -> None:
    """Let `full_sort_predict` and `calculate_loss` of a model raise an `InputError`: of scores that
    are not (B, n_items) floats (flat ones will do), of a loss that is no number with a gradient."""
    score, loss = model.full_sort_predict, model.calculate_loss

    def full_sort_predict(rows: Any) -> torch.Tensor:
        scores, shape = score(rows), (len(rows), n_items)
        right = torch.is_tensor(scores) and scores.shape in (shape, (shape[0] * shape[1],))
        if not right or not scores.is_floating_point():
            raise InputError(
                f"--model={name}: full_sort_predict gave {_said(scores)}, expected {shape} of "
                "floats, the items from the padding on (docs/extending.md)"
            )
        return scores

    def calculate_loss(rows: Any) -> Any:
        losses = loss(rows)
        parts = losses if isinstance(losses, tuple) else (losses,)
        right = all(torch.is_tensor(part) and part.numel() == 1 for part in parts)
        if right and torch.is_grad_enabled():
            right = any(part.requires_grad for part in parts)
        if not right:
            raise InputError(
                f"--model={name}: calculate_loss gave {', '.join(map(_said, parts))}, expected a "
                "tensor of one number with a gradient, or a tuple of such (docs/extending.md)"
            )
        return losses

    model.full_sort_predict, model.calculate_loss = full_sort_predict, calculate_loss


def _said(value: Any) -> str:
    if not torch.is_tensor(value):
        return f"{value!r:.40}"
    without = "" if value.requires_grad or not torch.is_grad_enabled() else " without a gradient"
    return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}{without}"
