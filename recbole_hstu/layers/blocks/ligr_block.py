"""The LiGR block on packed tokens: a transformer whose residuals are gated.

From Features to Transformers: Redefining Ranking for Scalable Impact (LiGR),
https://arxiv.org/abs/2502.03417, as eSASRec has it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.layers.blocks.hstu_block import dropout
from recbole_hstu.layers.blocks.softmax_block import CausalLayer


class LiGRLayer(CausalLayer):
    """Causal softmax attention, then SwiGLU, each behind a norm and added through a gate.

        y = x + sigmoid(W_a x + b_a) * dropout(attention(LN(x)))
        x <- y + sigmoid(W_f y + b_f) * dropout(W_3 dropout(SiLU(W_1 LN(y)) * W_2 LN(y)))

    Args:
        inner_size: width of the feed-forward network.
        shape: of `CausalLayer`.
    """

    def __init__(self, *, inner_size: int, **shape: Any):
        super().__init__(**shape)
        hidden_size = shape["hidden_size"]
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.attention_gate = nn.Linear(hidden_size, hidden_size)
        self.inner_norm = nn.LayerNorm(hidden_size)
        self.inner = nn.Linear(hidden_size, 2 * inner_size, bias=False)  # W_1 and W_2
        self.outer = nn.Linear(inner_size, hidden_size, bias=False)
        self.inner_gate = nn.Linear(hidden_size, hidden_size)
        for linear in (self.attention_gate, self.inner_gate, self.output, self.outer):
            nn.init.xavier_normal_(linear.weight)
        for several, parts in ((self.qkv, 3), (self.inner, 2)):
            for weight in several.weight.detach().chunk(parts):
                nn.init.xavier_normal_(weight)
        for linear in (self.qkv, self.output):
            nn.init.zeros_(linear.bias)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, self.qkv(self.attention_norm(x))

    def finish(self, residual: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        x = self.gated(residual, self.attention_gate, self.output(mixed))
        gate, value = self.inner(self.inner_norm(x)).chunk(2, dim=-1)
        inner = dropout(F.silu(gate) * value, self.dropout, self.training)
        return self.gated(x, self.inner_gate, self.outer(inner))

    def gated(self, x: torch.Tensor, gate: nn.Linear, update: torch.Tensor) -> torch.Tensor:
        """x and an update (S, D), of which the gate of x lets a part through."""
        return x + torch.sigmoid(gate(x)) * dropout(update, self.dropout, self.training)
