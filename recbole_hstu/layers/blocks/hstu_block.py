"""The HSTU block and its relative bias (Zhai et al., ICML 2024, section 3 and appendix).

Plain tensors in, plain tensors out. Shapes: B lines, L positions, S slots (the positions of all
lines, few of them padding), D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from recbole_hstu.layers.blocks.packing import Packing

N_TIME_BUCKETS = 129
# Added to the scores of pairs that must not meet: SiLU of it, and its derivative, are exactly 0.
HIDDEN = -5e4
LAYER_NORM_EPS = 1e-6
# Scores of a group of lines that may exist at once, in each of a handful of tensors: 64 MiB.
MAX_SCORES = {"cpu": 1 << 24, "cuda": 1 << 28}


def time_buckets(deltas: torch.Tensor) -> torch.Tensor:
    """Logarithmic bucket 0..128 of time differences, in the file's own unit.

    floor(ln(max(|delta|, 1)) / 0.301), the logarithm in float32 whatever the model's type.

    Args:
        deltas: int64, any shape.
    """
    logarithm = torch.log(deltas.abs().clamp(min=1).to(torch.float32))
    return (logarithm / 0.301).long().clamp(0, N_TIME_BUCKETS - 1)


def dropout(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """`F.dropout`; on a CPU its mask comes from uniform numbers, which are drawn three times as
    fast as the Bernoulli ones that torch takes."""
    if x.device.type != "cpu" or not training or p == 0:
        return F.dropout(x, p, training)
    kept = torch.rand(x.shape).ge_(p).div_(1 - p)
    return x * kept.to(x.dtype)


def heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    """(B, L, H * d) -> (B, H, L, d)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


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


class TimeBuckets:
    """Time buckets of queries j (the next event's time) against keys k of one group of lines, and
    `N_TIME_BUCKETS` for keys that a query must not see: later ones, and those of another row.

    Made once for all layers, or block by block where all of them would not fit `MAX_SCORES`.

    Args:
        row: (B, L) int64, the row that each position of a line belongs to.
        asked: (B, L) int64, the time of the event that follows each position.
        time: (B, L) int64.
        n_heads: H, of the scores that the buckets are for.
    """

    def __init__(self, row: torch.Tensor, asked: torch.Tensor, time: torch.Tensor, *, n_heads: int):
        self.row, self.asked, self.time = row, asked, time
        lines, length = time.shape
        limit = MAX_SCORES["cuda" if time.is_cuda else "cpu"]
        self.block = length  # queries at once
        if lines * n_heads * length**2 > limit:
            self.block = max(1, limit // (4 * lines * n_heads * length))
        self._whole = self._make(0, length) if self.block == length else None

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """(B, stop - start, stop): queries start..stop-1 against the keys that they may see."""
        if self._whole is not None:
            return self._whole[:, start:stop, :stop]
        return self._make(start, stop)

    def _make(self, start: int, stop: int) -> torch.Tensor:
        queries, keys = (slice(None), slice(start, stop), None), (slice(None), None, slice(stop))
        seen = (self.row[queries] == self.row[keys]).tril_(start)
        buckets = time_buckets(self.asked[queries] - self.time[keys])
        return buckets.masked_fill_(~seen, N_TIME_BUCKETS)


class RelativeBias(nn.Module):
    """pos[k - j] + time[bucket(|t_{j+1} - t_k|)], one table a layer, shared by its heads; about
    `HIDDEN` where a query must not see a key.

    Args:
        n_positions: n, the largest number of positions.
        kind: both, time, position or none; a table that is left out is 0 and is not trained.
    """

    def __init__(self, *, n_positions: int, kind: str):
        super().__init__()
        self.n_positions = n_positions
        self.position = _bias_table(2 * n_positions - 1, kind in ("both", "position"))
        self.time = _bias_table(N_TIME_BUCKETS, kind in ("both", "time"))

    def forward(self, buckets: torch.Tensor) -> torch.Tensor:
        """(B, Q, K) buckets of queries j = K-Q..K-1 and keys k = 0..K-1 -> (B, Q, K) bias."""
        queries, keys = buckets.shape[-2:]
        first = self.n_positions - keys  # the place of k - j = 1 - K
        offsets = self.position[first : first + queries + keys - 1]
        position = offsets.unfold(0, keys, 1).flip(0)  # (Q, K), row j: offsets -j .. K - 1 - j
        return position + _Lookup.apply(F.pad(self.time, (0, 1), value=HIDDEN), buckets)

    def at(self, distance: torch.Tensor, buckets: torch.Tensor) -> torch.Tensor:
        """(B, Q, K) bias of any queries j and keys k, from their distances k - j, (Q, K) or
        (B, Q, K), and their buckets; keys after a query are hidden."""
        bias = self.position[distance + self.n_positions - 1] + self.time[buckets]
        return bias.masked_fill(distance > 0, HIDDEN)


def _bias_table(size: int, learned: bool) -> nn.Parameter:
    values = torch.empty(size).normal_(std=0.02) if learned else torch.zeros(size)
    return nn.Parameter(values, requires_grad=learned)


def pointwise_attention(q, k, v, bias: torch.Tensor) -> torch.Tensor:
    """SiLU(q k + bias) v of Q queries over K keys.

    Shapes: q (B, H, Q, d), k (B, H, K, d), v (B, H, K, d_v), bias (B, Q, K) -> (B, Q, H * d_v).
    """
    mixed = F.silu(q @ k.transpose(-1, -2) + bias.unsqueeze(1)) @ v
    return mixed.transpose(1, 2).flatten(-2)


def softmax_attention(q, k, v, bias: torch.Tensor) -> torch.Tensor:
    """softmax(q k / sqrt(d) + bias) v, shapes as in `pointwise_attention`: the paper's ablation."""
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(1))
    return mixed.transpose(1, 2).flatten(-2)


ATTENTION = {"silu": pointwise_attention, "softmax": softmax_attention}


class HSTULayer(nn.Module):
    """x + W_o dropout(u * LN(sum_k SiLU(q_j k_k + bias_jk) / n * v_k)) over keys k <= j.

    Args:
        hidden_size: D.
        n_heads: H.
        qk_size: width of a head's queries and keys.
        v_size: width of a head's values.
        n_positions: n, also the divisor of SiLU's attention, whatever the length of a row.
        dropout: before W_o.
        attention: a name in `ATTENTION`.
        compile: what makes the attention's function faster, if anything.
        relative_bias: the kind of `RelativeBias`.
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
        attention: str,
        relative_bias: str,
        compile: Callable[[Callable], Callable] = lambda function: function,
    ):
        super().__init__()
        self.attention = compile(ATTENTION[attention])
        self.divisor = n_positions if attention == "silu" else 1
        self.n_heads, self.n_positions, self.dropout = n_heads, n_positions, dropout
        self.sizes = [v_size * n_heads] * 2 + [qk_size * n_heads] * 2  # u, v, q, k
        self.uvqk = nn.Parameter(torch.empty(hidden_size, sum(self.sizes)).normal_(std=0.02))
        self.bias = RelativeBias(n_positions=n_positions, kind=relative_bias)
        self.output = nn.Linear(v_size * n_heads, hidden_size)
        nn.init.xavier_uniform_(self.output.weight)

    def forward(
        self, x: torch.Tensor, packing: Packing, buckets: list[TimeBuckets]
    ) -> torch.Tensor:
        """(S, D) -> (S, D).

        Args:
            packing: which slots form a line.
            buckets: the time buckets of each group of `packing`.
        """
        u, vqk = self.project(x)
        groups = zip(packing.lines(vqk), buckets, strict=True)
        mixed = torch.cat([self.attend(*group).flatten(0, 1) for group in groups])
        return self.finish(x, u, mixed)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(..., D) -> u (..., H * v_size), and v, q and k side by side."""
        normed = F.layer_norm(x, (self.output.out_features,), eps=LAYER_NORM_EPS)
        return F.silu(normed @ self.uvqk).split([self.sizes[0], sum(self.sizes[1:])], dim=-1)

    def finish(self, x: torch.Tensor, u: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """(..., D): the block's output from its input, u and the attended values."""
        mixed = mixed / self.divisor
        gated = u * F.layer_norm(mixed, (self.sizes[0],), eps=LAYER_NORM_EPS)
        return x + self.output(dropout(gated, self.dropout, self.training))

    def attend(self, vqk: torch.Tensor, buckets: TimeBuckets) -> torch.Tensor:
        """Causal attention of one group: (B, L, H * d) each, side by side in `vqk`
        -> (B, L, H * v_size), not yet divided by n.

        Long rows go block by block of queries, whose scores are made again in the backward pass:
        a block reads all keys before it, and so needs nothing of the others.
        """
        v, q, k = (heads(part, self.n_heads) for part in vqk.split(self.sizes[1:], dim=-1))
        length = q.shape[2]
        if buckets.block == length:
            return self.attend_block(v, q, k, buckets, 0, length)
        # The largest first: what the others need then fits where it was.
        starts = reversed(range(0, length, buckets.block))
        blocks = [(start, min(start + buckets.block, length)) for start in starts]
        again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        mixed = [again(self.attend_block, v, q, k, buckets, *block) for block in blocks]
        return torch.cat(mixed[::-1], dim=1)

    def attend_block(self, v, q, k, buckets: TimeBuckets, start: int, stop: int) -> torch.Tensor:
        """(B, H, L, d) each -> (B, stop - start, H * v_size), queries start..stop-1."""
        bias = self.bias(buckets(start, stop))
        return self.attention(q[:, :, start:stop], k[:, :, :stop], v[:, :, :stop], bias)
