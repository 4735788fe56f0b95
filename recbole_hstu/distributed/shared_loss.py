"""A training step shared by several processes, equal to that of one process.

Every process has rows of its own of a batch and computes their loss. The losses are weighted so
that their mean over the processes, and so the gradient that DistributedDataParallel makes of
theirs, is that of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recbole_hstu.distributed import processes
from recbole_hstu.distributed.batch_share import BatchShare
from recbole_hstu.distributed.row_blocks import blocks_of
from recbole_hstu.support.errors import InputError

_TOLERANCE = 1e-4  # of the check; float32 leaves about 1e-6
_CHECKED_ROWS = 8


class SharedLoss:
    """The loss of a process's own rows, weighted; its gradient is that of the whole batch.

    A model whose loss is no mean over rows defines `loss_of_share(rows, share)`: the loss of some
    rows (b,) and its share in that of the whole batch, see `BatchShare`.

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
        ignored = [name for name, _ in rows.named_buffers()]
        self._blocks = blocks_of(model)
        if self._blocks:  # no process has what another one has
            table: Any = model.items
            own = set(map(id, table.parameters()))
            ignored += [name for name, value in rows.named_parameters() if id(value) in own]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(rows, ignored)
        # `static_graph`: parameters that the loss never uses are left alone, as in one process.
        self.ddp = DistributedDataParallel(rows, static_graph=True, gradient_as_bucket_view=True)

    @torch.no_grad()
    def check(self, rows: Any, restore: Callable[[], None]) -> None:
        """Whether the losses of two halves of some rows make up that of all, dropout left out.

        Args:
            rows: of this process; a few of them are looked at.
            restore: puts the random generators back where they are now, so that both draw alike.

        Raises:
            InputError: they do not: a sum, or a loss of rows among each other.
        """
        if self._blocks:  # its models are known, and all processes have to look up equally often
            return
        few = torch.arange(min(len(rows), _CHECKED_ROWS))
        share = rows.share.of(few).alone()
        self.model.eval()
        found = []
        for parts in ([few], [few[::2], few[1::2]]):
            total = 0.0
            for part in parts:
                restore()
                if len(part):
                    total += self._of_part(rows[few][part], share.of(part))
            found.append(total)
        restore()
        self.model.train()
        told_elsewhere = any(map(math.isnan, found))
        fine = told_elsewhere or math.isclose(*found, rel_tol=_TOLERANCE)
        wrong = [each for each, ok in processes.gather((found, fine)) if not ok]
        if wrong:
            whole, halves = wrong[0]
            raise InputError(
                "--nproc: this model's loss is no mean over the rows of a batch (the whole gives "
                f"{whole:.6g}, its halves {halves:.6g}); leave --nproc out"
            )

    def _of_part(self, rows: Any, share: BatchShare) -> float:
        loss, weight = loss_of_share(self.model, rows, share)
        return float(sum(loss) if isinstance(loss, tuple) else loss) * weight

    def __call__(self, rows: Any) -> Any:
        """This process's part of the loss; a tuple where the model's is one. The mean of all
        processes' parts is the loss of the whole batch."""
        try:
            return self.ddp(rows)
        except RuntimeError as error:
            if "finished reduction" not in str(error):
                raise
            raise InputError(
                "--nproc: this model uses some parameters in some steps only; leave --nproc out"
            ) from error


class _RowsLoss(nn.Module):
    """Own rows in, their weighted loss out; DDP wants a forward."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model

    def forward(self, rows: Any) -> Any:
        losses, weight = loss_of_share(self.model, rows, rows.share)
        factor = 0.0 if rows.share.idle else weight * processes.count()
        return tuple(x * factor for x in losses) if isinstance(losses, tuple) else losses * factor


def loss_of_share(model: Any, rows: Any, share: BatchShare) -> tuple[Any, float]:
    """The loss of some rows (b,) of a batch, and how much it counts in that of the batch."""
    if hasattr(model, "loss_of_share"):
        return model.loss_of_share(rows, share)
    return model.calculate_loss(rows), share.weight
