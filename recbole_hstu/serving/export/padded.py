"""A model's user vectors from padded rows alone: tensors in, a tensor out, the same weights.

Training packs rows together (`layers/blocks/packing.py`), which depends on the lengths at hand and
cannot be exported. Here every row is padded to the longest, which costs time and changes no number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_hstu.layers.blocks.hstu_block import HSTULayer, heads, time_buckets
from recbole_hstu.layers.blocks.softmax_block import CausalLayer
from recbole_hstu.layers.losses import l2_normalise
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.serving.scorers import VectorScorer
from recbole_hstu.support.errors import InputError


class UserVectors(nn.Module):
    """Base of what is exported.

    Attributes:
        inputs: names of the arguments of `forward`, RecBole's fields.
        items: (V, D) vectors that a user's is multiplied with, the padding first.
    """

    inputs: tuple[str, ...] = ("item_id_list", "item_length")
    items: torch.Tensor


class PaddedHSTU(UserVectors):
    """HSTU, HSTUText, SASRecSS, eSASRec and gSASRec."""

    table: torch.Tensor

    def __init__(self, model: HSTU, scorer: VectorScorer):
        super().__init__()
        self.layers, self.positions = model.layers, model.positions
        self.register_buffer("table", scorer.inputs)
        self.items = scorer.candidates
        self.norm = getattr(model, "norm", nn.Identity())  # of gSASRec
        self.scale = model.hidden_size**0.5
        self.item_l2_norm = model.item_l2_norm
        if model.reads_times:
            asked = ("timestamp",) if model.reads_request_time else ()
            self.inputs = (*self.inputs, "timestamp_list", *asked)

    def forward(
        self,
        item: torch.Tensor,
        length: torch.Tensor,
        time: torch.Tensor | None = None,
        at: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, D) from (B, L) items and their times, right-padded with 0, (B,) lengths and (B,)
        times of the requests, without which queries are asked at the time of their own event; all
        int64."""
        place = torch.arange(item.shape[1], device=item.device)
        x = self.table[item] * self.scale + self.positions[place]
        distance = place - place.unsqueeze(1)  # (L, L), k - j
        buckets = None
        if time is not None:
            asked = time if at is None else self._asked(time, length, at)
            buckets = time_buckets(asked.unsqueeze(2) - time.unsqueeze(1))  # (B, L, L)
        for layer in self.layers:
            x = _layer(layer, x, distance, buckets)
        last = (length - 1).view(-1, 1, 1).expand(-1, -1, x.shape[-1])
        last = self.norm(x.gather(1, last).squeeze(1))
        return l2_normalise(last) if self.item_l2_norm else last

    @staticmethod
    def _asked(time: torch.Tensor, length: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """(B, L) the time of the next event, at the last one that of the request."""
        place = torch.arange(time.shape[1], device=time.device)
        following = torch.cat([time, at.unsqueeze(1)], dim=1)[:, place + 1]
        return torch.where(place == (length - 1).unsqueeze(1), at.unsqueeze(1), following)


class PaddedRecBole(UserVectors):
    """A model of RecBole's whose scores are a product of its output with the item embedding."""

    def __init__(self, model: Any, n_items: int):
        super().__init__()
        self.model = model
        self.items = model.item_embedding.weight[:n_items]

    def forward(self, item: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """(B, D) from (B, L) items, right-padded with 0, and (B,) lengths; int64."""
        return self.model(item, length)


def _layer(layer: Any, x: torch.Tensor, distance: torch.Tensor, buckets: torch.Tensor | None):
    """(B, L, D) -> (B, L, D)."""
    if isinstance(layer, CausalLayer):
        residual, qkv = layer.project(x)
        return layer.finish(residual, layer.attend(qkv, None))
    if not isinstance(layer, HSTULayer) or buckets is None:
        raise InputError(f"layers of the kind {type(layer).__name__} have no padded form to export")
    u, vqk = layer.project(x)
    v, q, k = (heads(part, layer.n_heads) for part in vqk.split(layer.sizes[1:], dim=-1))
    return layer.finish(x, u, layer.attention(q, k, v, layer.bias.at(distance, buckets)))
