"""Lists of items as a table with a row for every item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch


def long_table(
    items: pd.Index, users: Sequence[str], best: torch.Tensor, ids: torch.Tensor
) -> pd.DataFrame:
    """user, item, score, rank (from 1).

    Args:
        items: tokens in the order of the ids.
        users: (B,) of the rows.
        best, ids: (B, k) as of `Recommender.lists`; what has the score -inf gets no row.
    """
    score, id = best.cpu().numpy(), ids.cpu().numpy()
    row, place = np.nonzero(score > -np.inf)
    return pd.DataFrame(
        {
            "user": pd.Series(users).to_numpy()[row],
            "item": items.to_numpy()[id[row, place]],
            "score": score[row, place],
            "rank": place + 1,
        }
    )
