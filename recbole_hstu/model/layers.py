"""The HSTU block and its relative bias (Zhai et al., ICML 2024, section 3 and appendix).

Plain tensors in, plain tensors out. Shapes: B rows, L positions, T tokens (the real positions of
all rows), D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.model.packing import Packing

N_TIME_BUCKETS = 129
LAYER_NORM_EPS = 1e-6


def time_buckets(deltas: torch.Tensor) -> torch.Tensor:
    """Logarithmic bucket 0..128 of time differences, in the file's own unit.

    floor(ln(max(|delta|, 1)) / 0.301), the logarithm in float32 whatever the model's type.

    Args:
        deltas: int64, any shape.
    """
    logarithm = torch.log(deltas.abs().clamp(min=1).to(torch.float32))
    return (logarithm / 0.301).long().clamp(0, N_TIME_BUCKETS - 1)


class _Lookup(torch.autograd.Function):
    """table[index] for a table of a few hundred entries: its gradient is a weighted count,
    many times faster than the general scatter."""

    @staticmethod
    def forward(ctx, table, index):
        ctx.save_for_backward(index)
        ctx.size = len(table)
        return table[index]

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        if grad.is_cuda:
            counted = grad.new_zeros(ctx.size)
            return counted.index_add_(0, index.flatten(), grad.flatten()), None
        counted = torch.bincount(index.flatten(), grad.flatten(), minlength=ctx.size)
        return counted.to(grad.dtype), None


class RelativeBias(nn.Module):
    """pos[k - j] + time[bucket(|t_{j+1} - t_k|)], one table a layer, shared by its heads.

    Args:
        n_positions: n, the largest number of positions.
    """

    def __init__(self, *, n_positions: int):
        super().__init__()
        self.n_positions = n_positions
        self.position = nn.Parameter(torch.empty(2 * n_positions - 1).normal_(std=0.02))
        self.time = nn.Parameter(torch.empty(N_TIME_BUCKETS).normal_(std=0.02))

    def forward(self, buckets: torch.Tensor) -> torch.Tensor:
        """(B, L, L) buckets of query j (next event's time) and key k -> (B, L, L) bias."""
        length = buckets.shape[-1]
        offsets = self.position[self.n_positions - length : self.n_positions + length - 1]
        position = offsets.unfold(0, length, 1).flip(0)  # (L, L), row j: offsets -j .. L - 1 - j
        return position + _Lookup.apply(self.time, buckets)


class HSTULayer(nn.Module):
    """x + W_o dropout(u * LN(sum_k SiLU(q_j k_k + bias_jk) / n * v_k)) over keys k <= j.

    Args:
        hidden_size: D.
        n_heads: H.
        qk_size: width of a head's queries and keys.
        v_size: width of a head's values.
        n_positions: n, also the divisor of the attention, whatever the length of a row.
        dropout: before W_o.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        n_heads: int,
        qk_size: int,
        v_size: int,
        n_positions: int,
        dropout: float,
    ):
        super().__init__()
        self.n_heads, self.n_positions, self.dropout = n_heads, n_positions, dropout
        self.sizes = [v_size * n_heads] * 2 + [qk_size * n_heads] * 2  # u, v, q, k
        self.uvqk = nn.Parameter(torch.empty(hidden_size, sum(self.sizes)).normal_(std=0.02))
        self.bias = RelativeBias(n_positions=n_positions)
        self.output = nn.Linear(v_size * n_heads, hidden_size)
        nn.init.xavier_uniform_(self.output.weight)

    def forward(
        self, x: torch.Tensor, packing: Packing, buckets: list[torch.Tensor]
    ) -> torch.Tensor:
        """(T, D) -> (T, D).

        Args:
            x: tokens in packed order.
            packing: which tokens form a row.
            buckets: a (rows, width, width) tensor of time buckets for each group of `packing`.
        """
        normed = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
        u, vqk = F.silu(normed @ self.uvqk).split([self.sizes[0], sum(self.sizes[1:])], dim=-1)
        mixed = torch.cat(
            [
                group.unpad(self.attend(*group.pad(vqk).split(self.sizes[1:], dim=-1), bucket))
                for group, bucket in zip(packing.groups, buckets, strict=True)
            ]
        )
        gated = u * F.layer_norm(mixed, mixed.shape[-1:], eps=LAYER_NORM_EPS)
        return x + self.output(F.dropout(gated, self.dropout, self.training))

    def attend(
        self, v: torch.Tensor, q: torch.Tensor, k: torch.Tensor, buckets: torch.Tensor
    ) -> torch.Tensor:
        """Pointwise causal attention: (B, L, H * d) each -> (B, L, H * v_size)."""
        v, q, k = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (v, q, k))
        scores = q @ k.transpose(-1, -2) + self.bias(buckets).unsqueeze(1)  # (B, H, L, L)
        # Multiplied by 0, not filled with -inf: there is no softmax, SiLU(-inf) is NaN.
        mixed = F.silu(scores).tril() @ (v / self.n_positions)
        return mixed.transpose(1, 2).flatten(-2)
