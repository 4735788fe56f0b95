"""Training batches of which each process reads its own rows alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import Equal

from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.batch_share import BatchShare, own_places


class OwnRows(Interaction):
    """Some rows of a batch, and which they are."""

    share: BatchShare

    def to(self, device: Any, selected_field: Any = None) -> OwnRows:
        return own_rows(super().to(device, selected_field), self.share)


def own_rows(rows: Interaction, share: BatchShare) -> OwnRows:
    """Rows that were read, with what is known of their batch."""
    own = OwnRows(rows.interaction)
    own.share = share
    return own


class OwnRowsLoader:
    """A mix-in before one of RecBole's training loaders.

    The order of the rows is drawn alike by all processes. Where RecBole draws for a whole batch
    from numpy's and Python's generators (its negatives, its transforms), every process does, and
    keeps its own rows.
    """

    _dataset: Any
    transform: Any

    def __init__(self, *args: Any, **kwargs: Any):
        self._place, self._processes = processes.rank(), processes.count()
        super().__init__(*args, **kwargs)
        sampled = getattr(self, "neg_sample_args", {"distribution": "none"})["distribution"]
        self._draws_whole = sampled != "none" or not isinstance(self.transform, Equal)

    def collate_fn(self, index: Any) -> OwnRows:
        """The rows of this process, or the first of the batch where there is none for it."""
        collate = super().collate_fn  # type: ignore[misc]
        if self._draws_whole:
            batch = collate(index)
            own, share = self._share(len(batch), None)
            return own_rows(batch[own], share)
        own, share = self._share(len(index), self._lengths(index))
        return own_rows(collate(np.array(index)[own]), share)

    def _share(self, size: int, lengths: torch.Tensor | None) -> tuple[list[int], BatchShare]:
        own, idle = own_places(size, self._place, self._processes)
        return list(own), BatchShare(torch.tensor(own), size, lengths, idle)

    def _lengths(self, index: Any) -> torch.Tensor | None:
        rows = self._dataset.inter_feat
        field = getattr(self._dataset, "item_list_length_field", None)
        field = OWN_TARGETS if OWN_TARGETS in rows else field
        return rows[torch.as_tensor(index)][field] if field in rows else None


def sharing(loader: type) -> type:
    """A training loader for the processes that train now; itself, where there is but one."""
    if processes.count() == 1:
        return loader
    return type(f"OwnRows{loader.__name__}", (OwnRowsLoader, loader), {})
