"""What to say of a training whose numbers have gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from recbole_hstu.support.errors import InputError

_NAMED = 10


def diverged(what: str, optimizer: torch.optim.Optimizer, last_file: Path) -> InputError:
    """The error that ends a training, with the learning rate and what is left of it.

    Args:
        last_file: the state after the last whole epoch, if there was one.
    """
    kept = f"; {last_file} holds the last good state" if last_file.exists() else ""
    rate = optimizer.param_groups[0]["lr"]
    return InputError(
        f"{what}, at learning_rate {rate}; lower the rate, or set clip_grad_norm{kept}"
    )


def has_finite_weights(model: nn.Module) -> bool:
    """Whether a model can be put into a checkpoint."""
    # The least and the greatest number tell: NaN would be both. One pass, nothing allocated.
    weights = (weight.detach() for weight in model.parameters() if weight.numel())
    return all(bool(torch.isfinite(end)) for weight in weights for end in torch.aminmax(weight))


def users_of(users: torch.Tensor, tokens: Sequence[str]) -> str:
    """The users of a batch by name, up to ten and then a count.

    Args:
        users: (B,) ids.
        tokens: user id -> token.
    """
    ids = list(dict.fromkeys(users.tolist()))  # each once, in the order of the rows
    names = ", ".join(str(tokens[id]) for id in ids[:_NAMED])
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return f" in a batch of the users {names}{more}"
