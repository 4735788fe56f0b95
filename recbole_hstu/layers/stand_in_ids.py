"""What stands in for the id vector of an item that no training has seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F

STAND_INS = ("neighbours", "mean", "zero")
N_NEIGHBOURS = 10
# Likenesses that exist at once: 64 MiB.
MAX_LIKENESSES = 1 << 24


def stand_in_ids(
    kind: str, ids: torch.Tensor, text: torch.Tensor, new_text: torch.Tensor
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
    known = F.normalize(text[1:], dim=1)
    k = min(N_NEIGHBOURS, len(known))
    rows = max(1, MAX_LIKENESSES // len(known))
    parts = F.normalize(new_text, dim=1).split(rows)
    nearest = torch.cat([(part @ known.t()).topk(k, dim=1).indices for part in parts])
    return trained[nearest].mean(1)
