"""An average of the weights over the last steps, which is validated and kept in their place.

Averaging of iterates (Polyak and Juditsky 1992), exponential as in the paper of Adam (Kingma and
Ba, ICLR 2015, section 7.2). It lies in the optimiser's state, so that a checkpoint holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer

_AVERAGE = "average"


def average_weights(optimizer: Optimizer, decay: float) -> None:
    """Keep an average of every weight from now on: after each step a part 1 - decay of it is the
    weight's new value. In the first steps the part is larger, (n + 1) / (n + 10) after n of them
    is left, so that the average forgets where the training began.

    Args:
        optimizer: one that counts its steps in `state[weight]["step"]`, as Adam does.
    """

    @torch.no_grad()
    def after_step(optimizer: Optimizer, *_: Any) -> None:
        for weight, state in optimizer.state.items():
            if _AVERAGE not in state:
                state[_AVERAGE] = weight.detach().clone()
            n = float(state["step"])
            state[_AVERAGE].lerp_(weight, 1 - min(decay, (n + 1) / (n + 10)))

    optimizer.register_step_post_hook(after_step)


@torch.no_grad()
def take_average(optimizer: Optimizer) -> None:
    """Put the averages, where there are any, in the place of the weights for good."""
    for weight, state in optimizer.state.items():
        if _AVERAGE in state:
            weight.copy_(state[_AVERAGE])


@contextmanager
def averaged(optimizer: Optimizer) -> Iterator[None]:
    """The averages in the place of the weights, for the duration of a block."""
    kept = {w: w.detach().clone() for w, state in optimizer.state.items() if _AVERAGE in state}
    take_average(optimizer)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept.items():
                weight.copy_(before)
