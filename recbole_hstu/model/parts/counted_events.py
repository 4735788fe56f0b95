"""Which events `recent_days` counts."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.support.errors import InputError


def counted_events(config, dataset) -> dict[str, Any] | None:
    """`items`, `times` and `further` of `RecentCounts`, as `recent_events` has them; None where
    `recent_days` counts nothing.

    Args:
        dataset: None where a model is served: a checkpoint brings the events.

    Raises:
        InputError: events that are not cut in time: training would count what is tested. Or events
            are named, and nothing counts them.
    """
    all_known = config["recent_events"] == "known"
    if config["recent_days"] is None:
        if all_known:
            raise InputError("recent_events: known counts nothing without recent_days")
        return None
    if all_known and "TS" not in config["eval_args"]["split"]:
        raise InputError(
            "recent_events: known needs a cut in time (--protocol=time_split); where the last "
            "events of each user are held out, training would count what others are tested on"
        )
    if not isinstance(dataset, SequenceDataset):
        nothing = torch.zeros(0, dtype=torch.int64)
        return {"items": nothing, "times": nothing}
    trained = dataset.inter_feat.covered_events()
    both = [dataset.event_feat[field] for field in (dataset.iid_field, dataset.time_field)]
    items, times = (values[trained] for values in both)
    further = None
    if all_known:
        others = torch.ones(len(both[0]), dtype=torch.bool).index_fill_(0, trained, False)
        further = tuple(values[others] for values in both)
    return {"items": items, "times": times, "further": further}
