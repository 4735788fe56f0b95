"""Scores of RecBole's sequential models from rows as wide as their histories are long: proved for
a model, or not done.

RecBole pads every history to `MAX_ITEM_LIST_LENGTH`, and its models compute the padding, too.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction

from recbole_hstu.data.rows.padded_lists import SHORT, beginnings, length_ranges
from recbole_hstu.support.errors import ANY_REASON
from recbole_hstu.training.views.shaken import TOLERANCE, shaken

_PROVED_ROWS = 64


def score_narrow_rows(model: Any, config: Any) -> None:
    """Let a sequential model of RecBole's kind be asked by `NarrowRows`."""
    if config["sequence_view"] == "prefix" and not isinstance(model.full_sort_predict, NarrowRows):
        model.full_sort_predict = NarrowRows(model, config["LIST_SUFFIX"])


class NarrowRows:
    """`full_sort_predict` of a model without most of the padding, if histories of all lengths have
    the same scores either way, to 1e-5 of the largest of those that are not equal; else, on a GPU
    and within a training step, the model's own.

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
        if self.model.training or rows[self.model.ITEM_SEQ_LEN].is_cuda:
            return self.own(rows)
        if self.equal is None:
            self.equal = self._proved(rows)
        return self._narrow(rows) if self.equal else self.own(rows)

    def _proved(self, rows: Interaction) -> bool:
        with shaken(self.model):
            try:
                some = self._of_all_lengths(rows)
                if some is None:
                    return False
                wide, narrow = (
                    predict(some).view(len(some), -1) for predict in (self.own, self._narrow)
                )
            except ANY_REASON:
                return False
        barred = wide[0] == -torch.inf  # for all rows alike: what a beam leaves out differs by row
        wide, narrow = wide[:, ~barred], narrow[:, ~barred]
        if not wide.numel() or not wide.isfinite().all():
            return False
        # What is equal, such as a mask's -1e9, is no measure for the others.
        largest = (wide.abs() * (wide != narrow)).max()
        return bool((wide - narrow).abs().max() <= TOLERANCE * largest)

    def _of_all_lengths(self, rows: Interaction) -> Interaction | None:
        """Beginnings of the first histories, of lengths from one event to all; None where nothing
        would be cropped, or a list is no history padded on the right."""
        number = torch.arange(_PROVED_ROWS)
        some = rows[number % len(rows)]
        lengths, width = some[self.model.ITEM_SEQ_LEN], some[self.model.ITEM_SEQ].shape[1]
        lists, padding = self._lists(some), torch.arange(width) >= lengths.unsqueeze(1)
        if width <= SHORT or any(
            values.shape[1] != width or values[padding].any() for values in lists.values()
        ):
            return None
        cut = torch.minimum(lengths, 1 + number % width)
        begun = beginnings(lists, cut) | {self.model.ITEM_SEQ_LEN: cut}
        return Interaction(some.interaction | begun)

    def _lists(self, rows: Interaction) -> dict[str, torch.Tensor]:
        fields = rows.interaction.items()
        return {field: values for field, values in fields if field.endswith(self.list_suffix)}

    def _narrow(self, rows: Interaction) -> torch.Tensor:
        lengths = rows[self.model.ITEM_SEQ_LEN]
        ranges = length_ranges(lengths)
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
        cut = {field: values[:, :width] for field, values in self._lists(rows).items()}
        return Interaction(rows.interaction | cut)
