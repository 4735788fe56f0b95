"""Pop: the most popular items of the training, for everybody."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.general_recommender.pop import Pop as RecBolePop


class Pop(RecBolePop):
    """RecBole's Pop, which counts an item once a batch however often it stands there, and counts
    drawn negatives, too: here every interaction counts, and no negatives are drawn (Pop.yaml)."""

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Count the interactions of a batch; there is no loss."""
        items = interaction[self.ITEM_ID]
        self.item_cnt.index_add_(0, items, torch.ones_like(items)[:, None])
        self.max_cnt = self.item_cnt.max(dim=0)[0]
        return torch.zeros(1, device=self.device, requires_grad=True)
