"""Training batches of whole windows with masked events, as BERT4Rec's paper has them (Sun et al.,
CIKM 2019, section 3.6). RecBole masks every prefix of every user instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import MaskItemSequence

from recbole_hstu.data.rows.padded_lists import length_ranges
from recbole_hstu.data.rows.sequence_rows import SequenceRows
from recbole_hstu.data.rows.window_loader import WindowLoader, in_windows
from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import InputError

_LENGTH = "ITEM_LIST_LENGTH_FIELD"

Columns = dict[str, torch.Tensor]


class ClozeBatch(Interaction):
    """B windows, of which some events are masked.

    Args:
        rows: what RecBole's `mask_itemseq` makes of them: lists (B, N), the places of the masked
            events (B, S), 0 where there is none.
        config: the names of these fields.
        lists: the names of the lists.
        most: how many places (B, S) a part may hold, see `parts`, for the memory of its step.
    """

    def __init__(self, rows: Interaction, config: Any, lists: Set[str], most: int):
        super().__init__(rows.interaction)
        self.config, self.lists, self.most = config, lists, most

    def to(self, device: Any, selected_field: Any = None) -> ClozeBatch:
        """The whole batch on a device."""
        rows = super().to(device, selected_field)
        return ClozeBatch(rows, self.config, self.lists, self.most)

    def parts(self, most: int) -> Iterator[tuple[Interaction, float]]:
        """Windows alike in length and in masked events, as wide as they are long and these are
        many, and how much of the batch they are: the model's loss is a mean over masked events, so
        the weighted losses add up to that of all. On a GPU all windows stay together."""
        lengths = self[self.config[_LENGTH]]
        counts = (self[self.config["MASK_INDEX"]] > 0).sum(1)  # the loss passes over place 0
        kind = torch.stack((length_ranges(lengths), counts.log2().ceil()), dim=1)
        if kind.is_cuda:
            kind.zero_()
        some, total = counts > 0, int(counts.sum())
        for each in torch.unique(kind[some], dim=0):
            inside = torch.nonzero((kind == each).all(1) & some).squeeze(1)
            places = int(counts[inside].max())
            for index in inside.split(max(1, most // places)):
                part = {field: values[index] for field, values in self.interaction.items()}
                width = int(lengths[index].max())
                share = int(counts[index].sum()) / total
                yield Interaction(self._cropped(part, width, places)), share

    def _cropped(self, part: Columns, width: int, places: int) -> Columns:
        """Lists are padded on the right, places on the left."""
        lists = {field: part[field][:, :width] for field in self.lists}
        names = (self.config[key] for key in ("POS_ITEMS", "NEG_ITEMS", "MASK_INDEX"))
        return part | lists | {name: part[name][:, -places:].contiguous() for name in names}


class ClozeLoader(WindowLoader):
    """`WindowLoader` for a model that masks events: `train_batch_size` counts the targets of the
    windows, whether they are masked or not. No row names a target, since its events hold it."""

    view = "cloze"

    @staticmethod
    def laid_out(rows: SequenceRows) -> SequenceRows:
        """Windows that have room for their last target."""
        return rows.narrower().windows()

    def collate_fn(self, index: Any) -> ClozeBatch:
        """Windows up to and with their last target, masked anew each time: until an event is, since
        the loss is a mean over those."""
        rows, user = self._dataset.inter_feat[np.array(index)], self._dataset.uid_field
        lists = rows.histories_with_targets()
        while True:
            whole = self._dataset.join(Interaction({user: rows[user]} | lists))
            masked = self.transform(self._dataset, whole)
            if (masked[self.config["MASK_INDEX"]] > 0).any():
                names = {*lists, self.config["MASK_ITEM_SEQ"]} - {self.config[_LENGTH]}
                return ClozeBatch(masked, self.config, names, self._most)


def cloze_loader(train: Any) -> ClozeLoader:
    """The targets of a loader of prefixes in windows whose events are masked.

    Raises:
        InputError: the model does not mask events, or none of so few; they cannot be laid into
            windows; several processes train.
    """
    config = train.config
    if not isinstance(train.transform, MaskItemSequence):
        raise InputError(
            "train_view: cloze is for models that mask events, such as BERT4Rec, and "
            f"{config['model']} does not; leave it out"
        )
    width, ratio = config["MAX_ITEM_LIST_LENGTH"], config["mask_ratio"]
    if width < 2 or int(ratio * width) < 1:
        raise InputError(
            f"mask_ratio: {ratio} of MAX_ITEM_LIST_LENGTH {width} is no event to mask; take larger "
            "ones"
        )
    if processes.count() > 1:
        raise InputError("train_view: cloze trains in one process; leave --nproc out")
    try:
        return in_windows(train, ClozeLoader)
    except InputError as error:
        raise InputError(f"train_view: cloze does not fit: {error}") from error
