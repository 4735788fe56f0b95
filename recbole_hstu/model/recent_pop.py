"""Popularity in a recent window: what sold lately, the same for everybody. No training.

A Re-visit of the Popularity Baseline in Recommender Systems (Ji et al., SIGIR 2020),
https://arxiv.org/abs/2005.13829.
"""

from __future__ import annotations

import math

import torch

from recbole_hstu.config.config import option
from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.layers.items.recent_counts import RecentCounts
from recbole_hstu.model.parts.counted_events import counted_events
from recbole_hstu.model.parts.training_free import TrainingFree


class RecentPop(TrainingFree):
    """Scores an item by how often it occurs among the newest `recent_share` of the training
    events; or, with `recent_days`, in a window before each request. Options:
    `properties/model/RecentPop.yaml`.

    The first window ends with the training part, whatever the time of a request.
    """

    counts: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.TIME = config["TIME_FIELD"]
        counted = counted_events(config, dataset)
        self.reads_times = counted is not None
        if counted is not None:
            days = [config["recent_days"]]
            self.recent = RecentCounts(n_items=self.n_items, days=days, **counted)
            self.recent.weight.requires_grad_(False).fill_(1)
            return
        counts = torch.zeros(self.n_items)
        if isinstance(dataset, SequenceDataset):  # without one a checkpoint brings them
            events = dataset.training_events()
            items, times = events[self.ITEM_ID], events[dataset.time_field]
            size = math.ceil(option(config, "recent_share") * len(times))
            first = times.sort().values[-size]  # events of equal time are in or out together
            counts = torch.bincount(items[times >= first], minlength=self.n_items).float()
        self.register_buffer("counts", counts)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) occurrences in the window; before each request log(1 + occurrences)."""
        if self.reads_times:
            return self.recent.at(self.recent.places(interaction[self.TIME]))
        return self.counts.expand(len(interaction[self.ITEM_SEQ_LEN]), -1).clone()
