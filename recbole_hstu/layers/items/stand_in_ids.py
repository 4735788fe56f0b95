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
        kind: `neighbours`, the mean over the 10 items whose texts are most alike (cosine); `mean`,
            over all items; `zero`.
        ids: (V, D) of the trained items, row 0 the padding.
        text: (V, K) theirs.
        new_text: (n, K).
    """
    if kind == "zero":
        return ids.new_zeros(len(new_text), ids.shape[1])
    trained = ids[1:]
    if kind == "mean":
        return trained.mean(0).expand(len(new_text), -1)
    nearest = torch.cat([_nearest(part, text) for part in new_text.split(_ROWS)])
    return trained[nearest].mean(1)


def _nearest(new_text: torch.Tensor, text: torch.Tensor | MappedText) -> torch.Tensor:
    """(n, k) places of the texts most alike among those behind the padding."""
    new, known = F.normalize(new_text, dim=1), len(text) - 1

    def likeness(start: int, stop: int) -> torch.Tensor:
        return new @ F.normalize(text[start + 1 : stop + 1].to(new.dtype), dim=1).t()

    return top_k(likeness, len(new), known, min(N_NEIGHBOURS, known))[1]
