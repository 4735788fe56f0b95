"""The published training step, written plainly from its formulas, for side-by-side measurements.

It does what HSTU does, in the order in which the research code does it: rows padded to n in every
layer and unpadded after it, the time bias computed anew by every layer, every sampled negative's
text projected on its own, every gathered row normalised on its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from recbole_hstu.layers.blocks.hstu_block import LAYER_NORM_EPS, HSTULayer, time_buckets
from recbole_hstu.layers.losses import MASKED
from recbole_hstu.model.hstutext import HSTUText


def normalised(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-6)


class Published(HSTUText):
    """HSTU (`fusion: id_only`) or HSTUText, step by step as published.

    Shapes: B rows, T tokens (the real positions of all rows), n positions, R negatives, D width.
    """

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """Item vectors of ids of any shape, every one projected on its own."""
        if not hasattr(self.items, "text"):
            return F.embedding(ids, self.items.ids)
        return F.embedding(ids, self.items.ids) + self.items.projection(self.items.text[ids])

    def hidden(self, interaction, inside: torch.Tensor) -> torch.Tensor:
        """(T, D).

        Args:
            inside: (B, n) bool, the real positions.
        """
        times = (self.shifted(interaction, self.TIME_SEQ, self.TIME), interaction[self.TIME_SEQ])
        asked, time = (F.pad(t, (0, inside.shape[1] - t.shape[1])) for t in times)
        item, position = interaction[self.ITEM_SEQ], inside.nonzero()[:, 1]
        x = self.vectors(item[inside[:, : item.shape[1]]])
        x = x * self.hidden_size**0.5 + self.positions[position]
        x = F.dropout(x, self.input_dropout, self.training)
        for layer in self.layers:
            x = x + self.mixed(layer, x, inside, asked, time)
        return normalised(x)

    def mixed(self, layer: HSTULayer, x, inside, asked, time) -> torch.Tensor:
        """What a layer adds to (T, D); `asked` and `time` are (B, n)."""
        normed = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
        u, vqk = F.silu(normed @ layer.uvqk).split([layer.sizes[0], sum(layer.sizes[1:])], dim=-1)
        tokens = inside.flatten().nonzero().squeeze(1)
        padded = vqk.new_zeros(inside.numel(), vqk.shape[-1]).index_copy(0, tokens, vqk)
        v, q, k = (
            part.unflatten(-1, (layer.n_heads, -1)).transpose(1, 2)
            for part in padded.unflatten(0, inside.shape).split(layer.sizes[1:], dim=-1)
        )
        bias = layer.bias(time_buckets(asked.unsqueeze(2) - time.unsqueeze(1)))
        weights = F.silu(q @ k.transpose(-1, -2) + bias.unsqueeze(1)) / layer.n_positions
        mixed = (weights.tril_() @ v).transpose(1, 2).flatten(-2)
        mixed = mixed.flatten(0, 1).index_select(0, tokens)
        gated = u * F.layer_norm(mixed, mixed.shape[-1:], eps=LAYER_NORM_EPS)
        return layer.output(F.dropout(gated, layer.dropout, layer.training))

    def loss(self, interaction, negatives: torch.Tensor) -> torch.Tensor:
        lengths = interaction[self.ITEM_SEQ_LEN].unsqueeze(1)
        inside = torch.arange(self.n_positions, device=lengths.device) < lengths
        hidden = self.hidden(interaction, inside)
        following = self.shifted(interaction, self.ITEM_SEQ, self.ITEM_ID)
        positives = following[inside[:, : following.shape[1]]]
        positive = (hidden * normalised(self.vectors(positives))).sum(-1, keepdim=True)
        vectors = normalised(self.vectors(negatives))  # (T, R, D)
        negative = torch.bmm(vectors, hidden.unsqueeze(-1)).squeeze(-1)
        negative = negative.masked_fill(negatives == positives.unsqueeze(1), MASKED)
        logits = torch.cat([positive, negative], dim=1) / self.temperature
        return -torch.log_softmax(logits, dim=1)[:, 0].mean()
