"""AdamW for a table of which a step uses a few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy.signal import lfilter

# What the moments' bias corrections differ from 1 by, at last.
_NEGLIGIBLE = 1e-12
# Rows that are brought up to date at once: 16 MiB of 64 float32 each.
_BLOCK_ROWS = 1 << 16


class LazyAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter, ICLR 2019) that reads and writes the rows of a table only in
    the steps that use them.

    A row without a gradient still moves under AdamW: by its momentum and by weight decay. A row
    that is used again makes up for the steps that it missed, all at once, before it is read
    (`catch_up`). With m, v its moments after step t, r = beta1 / sqrt(beta2), w = 1 - lr * decay
    and q(i) = sqrt(1 - beta2^i) / (1 - beta1^i), k missed steps leave it at

        w^k p - lr m / (sqrt(v) + eps') sum_{j=1..k} w^(k-j) r^j q(t+j)

    with eps' = eps sqrt(1 - beta2^t), and the sum is w^k T(t) - r^k T(t+k) for one function T of
    the step. That is dense AdamW but for eps, which dense AdamW holds against a v that decays:
    where eps is nothing beside sqrt(v), or m is 0, the two are equal. The learning rate stays.

    Args:
        params: of the model, the table among them.
        table: (V, D); its gradient is sparse where few rows are used, else all rows are.

    Raises:
        ValueError: betas whose sum has no end, beta1 >= w sqrt(beta2).
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        table: torch.Tensor,
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ):
        super().__init__(params, lr, betas, weight_decay=weight_decay, fused=True)
        self.table = table
        self._steps = 0  # of the table
        self._kept = 1 - lr * weight_decay  # w
        if betas[0] >= self._kept * math.sqrt(betas[1]):
            raise ValueError(f"betas {betas}: the first must be below the root of the second")
        self._ratio = betas[0] / math.sqrt(betas[1])  # r
        self._pull = torch.from_numpy(_pull(betas, self._ratio / self._kept)).to(table.device)
        self._last = torch.zeros(len(table), dtype=torch.int32, device=table.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """AdamW's; `closure` must leave the gradients alone."""
        gradient = self.table.grad
        if gradient is not None and gradient.is_sparse:
            self.table.grad = None  # which leaves the table out of AdamW's step
            loss = super().step(closure)
            gradient = gradient.coalesce()
            self._step_rows(gradient.indices()[0], gradient.values())
            return loss
        self.catch_up()
        loss = super().step(closure)
        self._steps += gradient is not None
        self._last.fill_(self._steps)
        return loss

    @torch.no_grad()
    def catch_up(self, rows: torch.Tensor | None = None) -> None:
        """Bring the table to where dense AdamW has it: these rows (U,), each once, or all."""
        if not self._steps:
            return
        if rows is None:
            rows = (self._last < self._steps).nonzero().squeeze(1)
        for some in rows.split(_BLOCK_ROWS):
            self._catch_up(some[self._last[some] < self._steps])

    def _catch_up(self, rows: torch.Tensor) -> None:
        if not len(rows):
            return
        state, group = self._state(), self.param_groups[0]
        last, missed = self._last[rows].long(), (self._steps - self._last[rows]).double()
        kept, faded = self._kept**missed, self._ratio**missed
        pull = kept * self._pull_at(last) - faded * self._pull_at(last + missed.long())
        first, second = (state[key][rows] for key in ("exp_avg", "exp_avg_sq"))
        unbias = (1 - group["betas"][1] ** last.clamp(min=1).double()).sqrt()
        least = _column(group["eps"] * unbias, second)
        direction = first / second.sqrt().add_(least)
        moved = self.table[rows].mul_(_column(kept, first))
        moved.addcmul_(direction, _column(-group["lr"] * pull, first))
        self.table.index_copy_(0, rows, moved)
        for key, moment, beta in zip(
            ("exp_avg", "exp_avg_sq"), (first, second), group["betas"], strict=True
        ):
            state[key].index_copy_(0, rows, moment.mul_(_column(beta**missed, moment)))
        self._last[rows] = self._steps

    def _step_rows(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """One step of these rows (U,), with gradient (U, D)."""
        self.catch_up(rows)
        state, group = self._state(), self.param_groups[0]
        (beta1, beta2), lr = group["betas"], group["lr"]
        self._steps += 1
        state["step"].fill_(self._steps)
        first = state["exp_avg"][rows].lerp_(gradient, 1 - beta1)
        second = state["exp_avg_sq"][rows].mul_(beta2)
        second.addcmul_(gradient, gradient, value=1 - beta2)
        root = second.sqrt().div_(math.sqrt(1 - beta2**self._steps)).add_(group["eps"])
        moved = self.table[rows].mul_(self._kept)
        moved.addcdiv_(first, root, value=-lr / (1 - beta1**self._steps))
        for whole, part in (
            (state["exp_avg"], first),
            (state["exp_avg_sq"], second),
            (self.table, moved),
        ):
            whole.index_copy_(0, rows, part)
        self._last[rows] = self._steps

    def _state(self) -> dict[str, torch.Tensor]:
        """The table's, under AdamW's own names."""
        state = self.state[self.table]
        if not state:
            state["step"] = torch.zeros((), device=self.table.device)
            state["exp_avg"] = torch.zeros_like(self.table)
            state["exp_avg_sq"] = torch.zeros_like(self.table)
        return state

    def _pull_at(self, steps: torch.Tensor) -> torch.Tensor:
        return self._pull[steps.clamp(max=len(self._pull) - 1)]

    def state_dict(self) -> dict[str, Any]:
        """AdamW's own, of all rows at the last step: `adamw` can go on from it, and from that of
        `adamw` this one can."""
        self.catch_up()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        super().load_state_dict(state_dict)
        self._steps = int(self._state()["step"])
        self._last.fill_(self._steps)


def _pull(betas: tuple[float, float], ratio: float) -> np.ndarray:
    """T(t) = sum_{j>=1} ratio^j q(t+j) for t = 0, 1, ... until q is 1, float64."""
    horizon = math.ceil(math.log(_NEGLIGIBLE) / math.log(max(betas)))
    steps = np.arange(1, horizon + 1)
    q = np.sqrt(1 - betas[1] ** steps) / (1 - betas[0] ** steps)
    end = ratio / (1 - ratio)
    # T(t) = ratio * (q(t+1) + T(t+1)), from the end to the start.
    backwards, _ = lfilter([ratio], [1.0, -ratio], q[::-1], zi=[ratio * end])
    return np.append(backwards[::-1], end)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(U,) -> (U, 1) in the dtype of the table."""
    return values.to(like.dtype).unsqueeze(1)
