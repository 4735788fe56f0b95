"""SASRec's block on packed tokens: causal softmax attention, then a feed-forward network.

Self-Attentive Sequential Recommendation (Kang and McAuley, ICDM 2018).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.layers.blocks.hstu_block import dropout, heads
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.support.errors import InputError

LAYER_NORM_EPS = 1e-8


class CausalLayer(nn.Module):
    """A block around softmax attention to the earlier positions of the same row.

    Args:
        hidden_size: D.
        n_heads: H, a divisor of D.
        dropout: of the attention weights, and of the block's other places.

    Raises:
        InputError: heads that do not divide `hidden_size`.
    """

    def __init__(self, *, hidden_size: int, n_heads: int, dropout: float):
        super().__init__()
        if hidden_size % n_heads:
            raise InputError(f"n_heads: {n_heads} must divide hidden_size: {hidden_size}")
        self.n_heads, self.dropout = n_heads, dropout

    def forward(
        self, x: torch.Tensor, packing: Packing, masks: list[torch.Tensor | None]
    ) -> torch.Tensor:
        """(S, D) -> (S, D).

        Args:
            packing: which slots form a line.
            masks: of each group of `packing`, (B, 1, L, L), see `same_row_masks`.
        """
        residual, qkv = self.project(x)
        groups = zip(packing.lines(qkv), masks, strict=True)
        mixed = torch.cat([self.attend(*group).flatten(0, 1) for group in groups])
        return self.finish(residual, mixed)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., D) -> what `finish` adds to, (..., D), and queries, keys and values side by side,
        (..., 3 * D)."""
        raise NotImplementedError

    def finish(self, residual: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """(..., D) from the first of `project` and the attended values, (..., D) both."""
        raise NotImplementedError

    def attend(self, qkv: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, L, 3 * D) -> (B, L, D). Padding stands after the tokens, out of their sight."""
        q, k, v = (heads(part, self.n_heads) for part in qkv.chunk(3, dim=-1))
        dropped = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropped, is_causal=mask is None
        )
        return mixed.transpose(1, 2).flatten(-2)


class SoftmaxLayer(CausalLayer):
    """Causal softmax attention, then a feed-forward network, on packed tokens.

        q = LN(x);  y = LN(q + attention(q, x, x));  x <- y + W_2 ReLU(W_1 y)

    As in the original SASRec only the queries are normalised, and the residual starts from them.
    Dropout acts on attention weights and after each feed-forward step.

    Args:
        inner_size: width of the feed-forward network.
        norm_weights: whether LN has weights, as in the original; HSTU's experiments have none.
        shape: of `CausalLayer`.
    """

    def __init__(self, *, inner_size: int, norm_weights: bool = False, **shape: Any):
        super().__init__(**shape)
        hidden_size = shape["hidden_size"]
        self.query_norm, self.inner_norm = (
            nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS, elementwise_affine=norm_weights)
            for _ in range(2)
        )
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.inner = nn.Linear(hidden_size, inner_size)
        self.outer = nn.Linear(inner_size, hidden_size)
        for linear in (self.qkv, self.output, self.inner, self.outer):
            nn.init.xavier_normal_(linear.weight)
        for linear in (self.qkv, self.output):
            nn.init.zeros_(linear.bias)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query = self.query_norm(x)
        wq, wk, wv = self.qkv.weight.chunk(3)
        bq, bk, bv = self.qkv.bias.chunk(3)
        parts = F.linear(query, wq, bq), F.linear(x, wk, bk), F.linear(x, wv, bv)
        return query, torch.cat(parts, dim=-1)

    def finish(self, residual: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        y = self.inner_norm(residual + self.output(mixed))
        inner = dropout(F.relu(self.inner(y)), self.dropout, self.training)
        return y + dropout(self.outer(inner), self.dropout, self.training)


def same_row_masks(packing: Packing) -> list[torch.Tensor | None]:
    """`same_row_mask` of every group of lines."""
    groups = packing.lines(packing.pad(packing.row.unsqueeze(-1)))
    return [same_row_mask(rows.squeeze(-1)) for rows in groups]


def same_row_mask(row: torch.Tensor) -> torch.Tensor | None:
    """The earlier positions of the same row, True: (B, L) rows -> (B, 1, L, L); None where no line
    holds a second row, and a kernel without a mask does."""
    if not ((row != row[:, :1]) & (row != 0)).any():
        return None
    return (row.unsqueeze(2) == row.unsqueeze(1)).tril().unsqueeze(1)
