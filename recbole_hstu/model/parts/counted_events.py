"""Which events `recent_days` counts."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.support.errors import InputError


def counted_events(config, dataset) -> dict[str, Any]:
    """`items`, `times` and `keep_events` of `RecentCounts`, as `recent_events` has them. Without a
    data set there are none: a checkpoint brings them.

    Raises:
        InputError: where events are not cut in time, training would count what is tested.
    """
    all_known = config["recent_events"] == "known"
    if all_known and "TS" not in config["eval_args"]["split"]:
        raise InputError(
            "recent_events: known needs a cut in time (--protocol=time_split); where the last "
            "events of each user are held out, training would count what others are tested on"
        )
    if not isinstance(dataset, SequenceDataset):
        nothing = torch.zeros(0, dtype=torch.int64)
        return {"items": nothing, "times": nothing}
    events = dataset.event_feat if all_known else dataset.training_events()
    items, times = events[dataset.iid_field], events[dataset.time_field]
    return {"items": items, "times": times, "keep_events": all_known}
