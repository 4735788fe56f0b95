"""A model in the state in which two ways of computing it are compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

TOLERANCE = 1e-5
"""How far, of the largest number, the two ways may lie apart; float32 leaves about 1e-6."""
_SHAKE = 0.02


@contextmanager
def shaken(model: nn.Module) -> Iterator[None]:
    """Dropout off, exact products, and every weight moved a little, for the duration of a block: a
    part of a model that starts at zero would hide. No global generator is drawn from."""
    tensors = [*model.parameters(), *model.buffers()]
    kept, training = [tensor.detach().clone() for tensor in tensors], model.training
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    model.eval()
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            generator = torch.Generator().manual_seed(0)
            for weight in model.parameters():
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                weight.add_(noise, alpha=_SHAKE)
            yield
    finally:
        for tensor, before in zip(tensors, kept, strict=True):
            tensor.data.copy_(before)
        model.train(training)
        torch.set_float32_matmul_precision(precision)
