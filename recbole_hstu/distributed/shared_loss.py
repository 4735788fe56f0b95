"""A training step shared by several processes, equal to that of one process.

Every process draws the same batch from the same generators, negatives included, and computes the
loss of its own rows. The losses are weighted so that their mean over the processes, and so the
gradient that DistributedDataParallel makes of theirs, is that of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import InputError

_TOLERANCE = 1e-4  # of the check; float32 leaves about 1e-6


class SharedLoss:
    """The loss of a whole batch, of which this process computes the gradient of its own rows.

    A model whose loss is no mean over rows defines `loss_of_part(batch, part)`: the loss of some
    rows (b,) and its share in that of the whole batch.

    Raises:
        InputError: batch normalisation on CPUs, where torch cannot share its statistics.
    """

    def __init__(self, model: nn.Module, device: torch.device):
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms and device.type == "cpu":
            raise InputError(
                "--nproc: this model normalises by batch, which several processes can only do on "
                "GPUs; leave --nproc out"
            )
        self.model = model
        rows = _RowsLoss(nn.SyncBatchNorm.convert_sync_batchnorm(model) if norms else model)
        # Buffers are the same everywhere from the start: frozen text vectors, masks. DDP would send
        # them at the start and at every step.
        buffers = [name for name, _ in rows.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(rows, buffers)
        # `static_graph`: parameters that the loss never uses are left alone, as in one process.
        self.ddp = DistributedDataParallel(rows, static_graph=True, gradient_as_bucket_view=True)

    @torch.no_grad()
    def check(self, batch: Any, restore: Callable[[], None]) -> None:
        """Whether the losses of two halves make up that of a batch, dropout left out.

        Args:
            restore: puts the random generators back where they are now, so that both draw alike.

        Raises:
            InputError: they do not: a sum, or a loss of rows among each other.
        """
        if len(batch) < 2:
            return
        every = torch.arange(len(batch))
        self.model.eval()
        found = []
        for parts in ([every], [every[::2], every[1::2]]):
            total = 0.0
            for part in parts:
                restore()
                loss, weight = loss_of_part(self.model, batch, part)
                total += float(sum(loss) if isinstance(loss, tuple) else loss) * float(weight)
            found.append(total)
        restore()
        self.model.train()
        told_elsewhere = any(map(math.isnan, found))
        if not told_elsewhere and not math.isclose(*found, rel_tol=_TOLERANCE):
            raise InputError(
                "--nproc: this model's loss is no mean over the rows of a batch (the whole gives "
                f"{found[0]:.6g}, its halves {found[1]:.6g}); leave --nproc out"
            )

    def __call__(self, batch: Any) -> Any:
        """The loss of the whole batch; a tuple where the model's is one."""
        try:
            own = self.ddp(batch)
        except RuntimeError as error:
            if "finished reduction" not in str(error):
                raise
            raise InputError(
                "--nproc: this model uses some parameters in some steps only; leave --nproc out"
            ) from error
        parts = own if isinstance(own, tuple) else (own,)
        whole = processes.mean(torch.stack([part.detach().double().cpu() for part in parts]))
        # The value is the batch's, the gradient this process's.
        shown = tuple(
            part + (value.to(part) - part.detach())
            for part, value in zip(parts, whole, strict=True)
        )
        return shown if isinstance(own, tuple) else shown[0]


class _RowsLoss(nn.Module):
    """A batch in, the weighted loss of this process's rows out; DDP wants a forward."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model

    def forward(self, batch: Any) -> Any:
        place, of = processes.rank(), processes.count()
        rows = torch.arange(place, len(batch), of)
        idle = not len(rows)  # the last batch can have fewer rows than there are processes
        if idle:
            rows = torch.zeros(1, dtype=torch.int64)
        losses, weight = loss_of_part(self.model, batch, rows)
        factor = 0.0 if idle else weight * of
        return tuple(x * factor for x in losses) if isinstance(losses, tuple) else losses * factor


def loss_of_part(model: Any, batch: Any, part: torch.Tensor) -> tuple[Any, float]:
    """The loss of some rows (b,) of a batch, and how much it counts in that of the batch."""
    if hasattr(model, "loss_of_part"):
        return model.loss_of_part(batch, part)
    return model.calculate_loss(batch[part]), len(part) / len(batch)
