"""Causal layers over packed rows, and many single tokens that may follow a row, out of each
other's sight: the row is read once for all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_hstu.layers.blocks.hstu_block import heads
from recbole_hstu.layers.blocks.ligr_block import LiGRLayer
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.blocks.softmax_block import same_row_masks


class CausalDecoder(nn.Module):
    """LiGR layers and a norm.

    Args:
        n_layers: how many.
        shape: of `LiGRLayer`: `hidden_size` D, `n_heads` H, `inner_size`, `dropout`.

    Raises:
        InputError: heads that do not divide `hidden_size`.
    """

    def __init__(self, *, n_layers: int, **shape: Any):
        super().__init__()
        self.layers: Any = nn.ModuleList(LiGRLayer(**shape) for _ in range(n_layers))
        self.norm = nn.LayerNorm(shape["hidden_size"])

    def forward(self, x: torch.Tensor, packing: Packing) -> torch.Tensor:
        """(T, D) -> (T, D), in packed order."""
        x = packing.pad(x)
        masks = same_row_masks(packing)
        for layer in self.layers:
            x = layer(x, packing, masks)
        return self.norm(packing.unpad(x))

    def read(self, x: torch.Tensor, packing: Packing) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """`forward`, and of every layer the keys and values of the rows in the order of the batch,
        (B, L, 2 * D), for `follow`."""
        x = packing.pad(x)
        masks, kept = same_row_masks(packing), []
        for layer in self.layers:
            grid = x.new_zeros(len(packing.order), int(packing.positions.max()) + 1, x.shape[1] * 2)
            memory = packing.unpad(layer.project(x)[1])[:, x.shape[1] :]
            kept.append(grid.index_put((packing.source, packing.positions), memory))
            x = layer(x, packing, masks)
        return self.norm(packing.unpad(x)), kept

    def follow(
        self, x: torch.Tensor, kept: list[torch.Tensor], lengths: torch.Tensor
    ) -> torch.Tensor:
        """What comes of each of K tokens (B, K, D) as the next of its row: (B, K, D).

        Args:
            kept: keys and values of the rows, of `read`.
            lengths: (B,) of the rows.
        """
        hidden = torch.arange(kept[0].shape[1], device=x.device) >= lengths.unsqueeze(1)
        for layer, memory in zip(self.layers, kept, strict=True):
            residual, qkv = layer.project(x)
            q, *own = (heads(part, layer.n_heads) for part in qkv.chunk(3, dim=-1))
            k, v = (heads(part, layer.n_heads) for part in memory.chunk(2, dim=-1))
            q = q * q.shape[-1] ** -0.5
            before = (q @ k.transpose(2, 3)).masked_fill(hidden[:, None, None], -torch.inf)
            itself = (q * own[0]).sum(-1, keepdim=True)
            weights = torch.cat([before, itself], dim=-1).softmax(-1)
            mixed = weights[..., :-1] @ v + weights[..., -1:] * own[1]
            x = layer.finish(residual, mixed.transpose(1, 2).flatten(2))
        return self.norm(x)
