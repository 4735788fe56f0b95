"""Events since the training, counted by a model that reads what has occurred lately."""

from __future__ import annotations

import torch

from recbole_hstu.serving.histories import Histories
from recbole_hstu.serving.saved_model import SavedModel
from recbole_hstu.support.errors import InputError


def add_events(saved: SavedModel, given: Histories) -> None:
    """`recent_days` counts these events from now on, too. What is given twice counts twice.

    Raises:
        InputError: a model without `recent_days`; times of another unit than in the training, or
            so far from it that the counts would not fit. Then nothing has changed.
    """
    counts = getattr(saved.model, "recent", None)
    if counts is None:
        raise InputError(
            f"{saved.config['model']} counts no events; train it with recent_days, or take "
            "HSTUText-counts"
        )
    items, times = torch.from_numpy(given.items), torch.from_numpy(given.times)
    device = saved.config["device"]
    counts.add_events(items.to(device), times.to(device))
