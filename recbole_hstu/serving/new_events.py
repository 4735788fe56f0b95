"""Events since the training: counted by models that count, and kept for their users' histories."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from recbole_hstu.serving.events_of_users import with_further
from recbole_hstu.serving.histories import Histories
from recbole_hstu.serving.saved_model import SavedModel
from recbole_hstu.support.errors import InputError


def counts_events(saved: SavedModel) -> bool:
    """Whether the model counts what has happened lately (`recent_days`)."""
    return getattr(saved.model, "recent", None) is not None


def add_events(
    saved: SavedModel, given: Histories, items: pd.Index, before: pd.DataFrame | None
) -> pd.DataFrame | None:
    """`recent_days` counts these events from now on, too. What is given twice counts twice.

    Args:
        given: the events, of known items.
        items: item tokens in the order of the ids.
        before: the named users' events that have been added already.

    Returns:
        These and the new ones, user, item (token) and perhaps time; None where no user was named.

    Raises:
        InputError: events without users' names for a model without `recent_days`; times of another
            unit than in the training or in `before`, or so far from the training that the counts
            would not fit. Then nothing has changed.
    """
    counts = counts_events(saved)
    if not counts and not given.named:
        raise InputError(
            f"{saved.config['model']} counts no events (it has no recent_days); give a table user, "
            "item, time, and they stand in the histories of recommend_users"
        )
    kept = before
    if given.named:
        kept = _table(given, items)
        kept = kept if before is None else with_further(before, kept, "those added before")
    if counts:
        device = saved.config["device"]
        found = torch.from_numpy(given.items), torch.from_numpy(given.times)
        saved.model.recent.add_events(*(values.to(device) for values in found))
    return kept


def _table(given: Histories, items: pd.Index) -> pd.DataFrame:
    """The events by the users' and the items' tokens."""
    users = np.array([str(user) for user in given.users], dtype=object)
    table = pd.DataFrame(
        {
            "user": np.repeat(users, np.diff(given.ends, prepend=0)),
            "item": items.to_numpy()[given.items],
        }
    )
    return table if given.times is None else table.assign(time=given.times)
