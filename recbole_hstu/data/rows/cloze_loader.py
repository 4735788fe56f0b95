"""Training batches of whole windows with masked events, as BERT4Rec's paper has them (Sun et al.,
CIKM 2019, section 3.6). RecBole masks every prefix of every user instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import MaskItemSequence

from recbole_hstu.data.rows.padded_lists import length_ranges
from recbole_hstu.data.rows.window_loader import WindowLoader, in_windows
from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import InputError

Columns = dict[str, torch.Tensor]
_TRIES = 100  # to mask an event of a batch


class ClozeBatch(Interaction):
    """B windows, of which some events are masked.

    Args:
        rows: what RecBole's `mask_itemseq` makes of them: lists (B, N), the places of the masked
            events (B, S), 0 where there is none.
        config: the names of these fields.
        most: how many places (B, S) a part may hold, see `parts`, for the memory of its step.
    """

    def __init__(self, rows: Interaction, config: Any, most: int):
        super().__init__(rows.interaction)
        self.config, self.most = config, most

    def to(self, device: Any, selected_field: Any = None) -> ClozeBatch:
        """The whole batch on a device."""
        return ClozeBatch(super().to(device, selected_field), self.config, self.most)

    def parts(self, most: int) -> Iterator[tuple[Interaction, float]]:
        """Windows of like length, as wide as they are long and as their masked events are many, and
        how much of the batch they are: the model's loss is a mean over masked events, so the
        weighted losses add up to that of all. On a GPU windows of all lengths stay together."""
        lengths = self[self.config["ITEM_LIST_LENGTH_FIELD"]]
        counts = (self[self.config["MASK_INDEX"]] > 0).sum(1)  # the loss passes over place 0
        kind = length_ranges(lengths)
        if kind.is_cuda:
            kind.zero_()
        some = counts > 0
        for each in torch.unique(kind[some]):
            inside = torch.nonzero((kind == each) & some).squeeze(1)
            places = int(counts[inside].max())
            for index in inside.split(max(1, most // places)):
                part = {field: values[index] for field, values in self.interaction.items()}
                width = int(lengths[index].max())
                share = int(counts[index].sum()) / int(counts.sum())
                yield Interaction(self._cropped(part, width, places)), share

    def _cropped(self, part: Columns, width: int, places: int) -> Columns:
        """Lists are padded on the right, places on the left."""
        lists = {
            field: part[field][:, :width]
            for field in part
            if field.endswith(self.config["LIST_SUFFIX"])
        }
        names = (self.config[key] for key in ("POS_ITEMS", "NEG_ITEMS", "MASK_INDEX"))
        return part | lists | {name: part[name][:, -places:].contiguous() for name in names}


class ClozeLoader(WindowLoader):
    """`WindowLoader` for a model that masks events: `train_batch_size` counts the targets of the
    windows, whether they are masked or not."""

    view = "cloze"

    def collate_fn(self, index: Any) -> ClozeBatch:
        """The last N events of windows up to their last target, masked anew each time."""
        rows = self._dataset.inter_feat[np.array(index)]
        for _ in range(_TRIES):
            whole = Interaction(rows.interaction | rows.histories_with_targets())
            masked = self.transform(self._dataset, self._dataset.join(whole))
            if (masked[self.config["MASK_INDEX"]] > 0).any():
                return ClozeBatch(masked, self.config, self._most)
        raise InputError(
            f"mask_ratio: {self.config['mask_ratio']} masks no event of a batch; take a larger one"
        )


def cloze_loader(train: Any) -> ClozeLoader:
    """The targets of a loader of prefixes in windows whose events are masked.

    Raises:
        InputError: the model does not mask events, they cannot be laid into windows, or several
            processes train.
    """
    if not isinstance(train.transform, MaskItemSequence):
        raise InputError(
            "train_view: cloze is for models that mask events, such as BERT4Rec, and "
            f"{train.config['model']} does not; leave it out"
        )
    if processes.count() > 1:
        raise InputError("train_view: cloze trains in one process; leave --nproc out")
    return in_windows(train, ClozeLoader)
