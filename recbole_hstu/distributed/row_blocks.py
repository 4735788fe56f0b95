"""A table of which each process holds a block of rows: whose are which, and how they travel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.settings import Settings


class RowBlocks:
    """V rows in blocks of ceil(V / processes), the last one shorter, as torch's `Shard(0)` cuts
    them. All processes make it at once.

    Attributes:
        rows: V.
        own: the rows that this process holds.
        group: the processes, for what is said of these rows alone.

    Raises:
        InputError: a process would hold none.
    """

    def __init__(self, rows: int):
        self.rows, self._processes = rows, processes.count()
        self._size = -(-rows // self._processes)
        if self._size * (self._processes - 1) >= rows:
            raise InputError(
                f"item_table: sharded: {rows - 1:,} items are too few for {self._processes} "
                "processes; use --item_table=replicated"
            )
        start = self._size * processes.rank()
        self.own = range(start, min(start + self._size, rows))
        # Of its own: DDP's reductions go on while the gradients of rows travel.
        self.group: Any = dist.new_group()

    def fetch(
        self, wanted: torch.Tensor, read: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """The vectors (U, D) of rows, whoever holds them. All processes ask at once.

        The gradient of a row is the mean over the processes of what each has for it, as
        DistributedDataParallel makes it of other weights.

        Args:
            wanted: (U,) int64, rising.
            read: the vectors of rows of the own block, (n,) int64, rising, counted from its start.
        """
        starts = torch.arange(self._processes + 1, device=wanted.device) * self._size
        ends = torch.searchsorted(wanted, starts)
        asked, wished = ends.diff(), torch.empty_like(starts[1:])
        dist.all_to_all_single(wished, asked, group=self.group)
        take, give = asked.tolist(), wished.tolist()
        mine = _exchanged(wanted, give, take, self.group) - self.own.start
        distinct, place = mine.unique(return_inverse=True)  # some are wanted by several processes
        vectors = read(distinct)[place]
        if vectors.requires_grad:
            vectors.register_hook(lambda gradient: gradient / self._processes)
        return _Exchange.apply(vectors, take, give, self.group)


def shares_items(config: Settings) -> bool:
    """Whether each process has some of the items, and ranks all users among them."""
    return config["item_table"] == "sharded" and processes.count() > 1


def blocks_of(model: Any) -> RowBlocks | None:
    """The blocks of a model's item table, None where every process holds all of it."""
    return getattr(getattr(model, "items", None), "blocks", None)


def trained_weights(model: Any) -> int:
    """How many weights a training changes, those of blocks that other processes hold among them."""
    own = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if (blocks := blocks_of(model)) is None:
        return own
    of_items = sum(p.numel() for p in model.items.parameters() if p.requires_grad)
    return own - of_items + of_items // len(blocks.own) * blocks.rows


class _Exchange(torch.autograd.Function):
    """Rows (n, D) to other processes, and theirs to this one; their gradients go back."""

    @staticmethod
    def forward(ctx, rows, take, give, group):
        ctx.way = (take, give, group)
        return _exchanged(rows, take, give, group)

    @staticmethod
    def backward(ctx, grad):
        take, give, group = ctx.way
        return _exchanged(grad, give, take, group), None, None, None


def _exchanged(rows: torch.Tensor, take: list[int], give: list[int], group: Any) -> torch.Tensor:
    """`take` and `give`: how many rows come from, and go to, each process."""
    found = rows.new_empty(sum(take), *rows.shape[1:])
    dist.all_to_all_single(found, rows.contiguous(), take, give, group=group)
    return found
