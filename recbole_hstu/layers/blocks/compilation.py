"""torch.compile, tried once before anything depends on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from recbole_hstu.support.errors import InputError


@cache  # all layers share what was compiled and tried once
def compiled(function: Callable, device: torch.device) -> Callable:
    """`function`, to be compiled when it is first called, for tensors of any size.

    Raises:
        InputError: nothing can be compiled for this device, or on this machine.
    """
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except RuntimeError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"torch_compile: nothing can be compiled for {device} here ({reason}); install a C++ "
            "compiler, on a GPU Triton, too, or leave torch_compile: False"
        ) from error
    return torch.compile(function, dynamic=True)
