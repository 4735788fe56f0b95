"""What stands in for the id vector of an item that no training has seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from recbole_hstu.evaluation.top_k import top_k
from recbole_hstu.layers.items.mapped_text import MappedText

STAND_INS = ("neighbours", "mean", "zero")
N_NEIGHBOURS = 10
# New items that look for their neighbours at once: 64 MiB of likenesses.
_ROWS = 1 << 10


def stand_in_ids(
    kind: str, ids: torch.Tensor, text: torch.Tensor | MappedText, new_text: torch.Tensor
) -> torch.Tensor:
    """(n, D) id vectors for items that have text alone.

    Args:
        kind: `neighbours`, the mean over the 10 items whose texts are most alike (cosine), and over
            all items where the new text vector is zero, which is like none; `mean`, over all items;
            `zero`. Items whose own vector is zero (`negative_items: training` leaves it so) are in
            no mean.
        ids: (V, D) of the trained items, row 0 the padding.
        text: (V, K) theirs.
        new_text: (n, K).
    """
    trained = ids[1:]
    learned = trained.any(dim=1)
    if kind == "zero" or not learned.any():
        return ids.new_zeros(len(new_text), ids.shape[1])
    mean = trained.sum(0) / learned.sum()
    if kind == "mean":
        return mean.expand(len(new_text), -1)
    nearest = torch.cat([_nearest(part, text, learned) for part in new_text.split(_ROWS)])
    like = trained[nearest].mean(1)
    return torch.where(new_text.any(dim=1, keepdim=True), like, mean)


def _nearest(
    new_text: torch.Tensor, text: torch.Tensor | MappedText, among: torch.Tensor
) -> torch.Tensor:
    """(n, k) places of the texts most alike behind the padding, among those of a mask (V - 1,)."""
    new, k = F.normalize(new_text, dim=1), min(N_NEIGHBOURS, int(among.sum()))

    def likeness(start: int, stop: int) -> torch.Tensor:
        known = F.normalize(text[start + 1 : stop + 1].to(new.dtype), dim=1)
        return (new @ known.t()).masked_fill(~among[start:stop], -torch.inf)

    return top_k(likeness, len(new), len(among), k)[1]
