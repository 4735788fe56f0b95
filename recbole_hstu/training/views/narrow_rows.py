"""Scores of RecBole's sequential models from rows as wide as their histories are long: proved for
a model, or not done.

RecBole pads every history to `MAX_ITEM_LIST_LENGTH`, and its models compute the padding, too.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction

from recbole_hstu.support.errors import ANY_REASON
from recbole_hstu.training.views.shaken import shaken

_TOLERANCE = 1e-5  # of the largest score; float32 leaves about 1e-6
_PROVED_ROWS = 64
# Histories up to this long are computed together, longer ones with those of up to twice the length.
_SHORT = 8


def score_narrow_rows(model: Any, config: Any) -> None:
    """Let a sequential model of RecBole's kind be asked by `NarrowRows`."""
    if config["sequence_view"] == "prefix" and not isinstance(model.full_sort_predict, NarrowRows):
        model.full_sort_predict = NarrowRows(model, config["LIST_SUFFIX"])


class NarrowRows:
    """`full_sort_predict` of a model without most of the padding, if its first rows have the same
    scores either way, to 1e-5 of the largest; else the model's own.

    Args:
        model: RecBole's, its `full_sort_predict` still its own.
        list_suffix: the end of the names of fields (B, L, ...), which are padded on the right.
    """

    def __init__(self, model: Any, list_suffix: str):
        self.model, self.list_suffix = model, list_suffix
        self.own = model.full_sort_predict
        self.equal: bool | None = None  # not known yet

    def __call__(self, rows: Interaction) -> torch.Tensor:
        """(B, V) or (B * V,) scores, as the model gives them."""
        if self.equal is None:
            self.equal = self._proved(rows[:_PROVED_ROWS])
        return self._narrow(rows) if self.equal else self.own(rows)

    def _proved(self, rows: Interaction) -> bool:
        with shaken(self.model):
            try:
                wide, narrow = (predict(rows).flatten() for predict in (self.own, self._narrow))
            except ANY_REASON:
                return False
        return bool((wide - narrow).abs().max() <= _TOLERANCE * wide.abs().max())

    def _narrow(self, rows: Interaction) -> torch.Tensor:
        """On a GPU rows of all lengths stay together."""
        lengths = rows[self.model.ITEM_SEQ_LEN]
        ranges = lengths.clamp(min=_SHORT).log2().ceil()
        if ranges.is_cuda:
            return self.own(self._cropped(rows, int(lengths.max())))
        scores = None
        for each in ranges.unique():
            index = torch.nonzero(ranges == each).squeeze(1)
            part = self._cropped(rows[index], int(lengths[index].max()))
            found = self.own(part).view(len(index), -1)
            if scores is None:
                scores = found.new_empty(len(lengths), found.shape[1])
            scores[index] = found
        assert scores is not None  # a batch has rows
        return scores

    def _cropped(self, rows: Interaction, width: int) -> Interaction:
        return Interaction(
            {
                field: values[:, :width] if field.endswith(self.list_suffix) else values
                for field, values in rows.interaction.items()
            }
        )
