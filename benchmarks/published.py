"""The published training step, written plainly from its formulas, for side-by-side measurements.

It does what HSTU does, in the order in which the research code does it: rows padded to n in every
layer and unpadded after it, the time bias computed anew by every layer, every sampled negative's
text projected on its own, every gathered row normalised on its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from recbole_hstu.model.hstutext import HSTUText
from recbole_hstu.model.losses import MASKED
from recbole_hstu.model.packing import Packing


class PaddedPacking(Packing):
    """Every row padded to `width`, whatever its length."""

    def __init__(self, lengths: torch.Tensor, width: int):
        super().__init__(lengths, one_group=True)
        self.groups = [(len(lengths), width)]
        self.slots = (self.row - 1) * width + self.positions


def normalised(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-6)


class Published(HSTUText):
    """HSTU (`fusion: id_only`) or HSTUText, step by step as published."""

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """Item vectors of ids of any shape, every one projected on its own."""
        if not hasattr(self.items, "text"):
            return F.embedding(ids, self.items.ids)
        return F.embedding(ids, self.items.ids) + self.items.projection(self.items.text[ids])

    def hidden(self, interaction) -> tuple[torch.Tensor, Packing]:
        packing = PaddedPacking(interaction[self.ITEM_SEQ_LEN], self.n_positions)
        item = packing.pack(interaction[self.ITEM_SEQ])
        x = self.vectors(item) * self.hidden_size**0.5 + self.positions[packing.positions]
        x = F.dropout(x, self.input_dropout, self.training)
        for layer in self.layers:
            x = layer(x, packing, *self.layer_context(interaction, packing))
        return normalised(x), packing

    def loss(self, interaction, negatives: torch.Tensor) -> torch.Tensor:
        hidden, packing = self.hidden(interaction)
        positives = packing.pack(self.shifted(interaction, self.ITEM_SEQ, self.ITEM_ID))
        positive = (hidden * normalised(self.vectors(positives))).sum(-1, keepdim=True)
        vectors = normalised(self.vectors(negatives))  # (T, R, D)
        negative = torch.bmm(vectors, hidden.unsqueeze(-1)).squeeze(-1)
        negative = negative.masked_fill(negatives == positives.unsqueeze(1), MASKED)
        logits = torch.cat([positive, negative], dim=1) / self.temperature
        return -torch.log_softmax(logits, dim=1)[:, 0].mean()
