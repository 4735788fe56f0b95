"""Rows of users, with a loss at every position: what its models ask of a batch."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS
from recbole_hstu.distributed.batch_share import whole_batch
from recbole_hstu.layers.blocks.packing import Packing


class UserRows:
    """Mix-in of a model with `loss_of_share(rows, share)`, see `SharedLoss`."""

    ITEM_SEQ: str
    ITEM_SEQ_LEN: str
    ITEM_ID: str
    loss_of_share: Any

    def calculate_loss(self, interaction) -> torch.Tensor:
        """The loss at every position, or at the last ones that are a window's own; the targets
        are the next items."""
        lengths = OWN_TARGETS if OWN_TARGETS in interaction else self.ITEM_SEQ_LEN
        return self.loss_of_share(interaction, whole_batch(interaction[lengths]))[0]

    def shifted(self, interaction, history: str, last: str) -> torch.Tensor:
        """(B, L): at every position the next event's value, at the last one the target's."""
        values, length = interaction[history], interaction[self.ITEM_SEQ_LEN].unsqueeze(1)
        following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
        return following.scatter(1, length - 1, interaction[last].unsqueeze(1))

    def own_positions(
        self, interaction, hidden: torch.Tensor, packing: Packing
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The hidden states (T, D) of the positions that a row learns at, and the next items (T,),
        in packed order."""
        targets = packing.pack(self.shifted(interaction, self.ITEM_SEQ, self.ITEM_ID))
        mine = self.learns_at(interaction, packing)
        return hidden[mine], targets[mine]

    def learns_at(self, interaction, packing: Packing) -> Any:
        """Which of the T packed positions a row learns at, as an index."""
        if OWN_TARGETS not in interaction:
            return slice(None)
        others = interaction[self.ITEM_SEQ_LEN] - interaction[OWN_TARGETS]
        return packing.positions >= others[packing.source]
