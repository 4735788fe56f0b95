"""Requests as the rows of a batch, under the names that RecBole's models read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from recbole_hstu.serving.histories import Histories
from recbole_hstu.serving.saved_model import SavedModel
from recbole_hstu.support.errors import InputError, first_ten


class Batch(dict):
    """Fields of the rows that are asked for.

    Raises:
        InputError: the model reads a field that is not there; `why` says why.
    """

    def __init__(self, model: str, fields: dict[str, torch.Tensor], why: str):
        super().__init__(fields)
        self.model, self.why = model, why

    def __missing__(self, field: str) -> Any:
        raise InputError(f"{self.model} reads '{field}': {self.why}")

    def repeated(self, row: int, times: int) -> Batch:
        """One of the rows, so many times."""
        fields = {
            key: value[row : row + 1].expand(times, *value.shape[1:]) for key, value in self.items()
        }
        return Batch(self.model, fields, self.why)


class Batches:
    """Makes batches for one model."""

    def __init__(self, saved: SavedModel):
        self.config, self.device = saved.config, saved.config["device"]
        self.width: int = saved.max_history
        self._fixed_width = saved.of_recbole
        self._users = pd.Index(saved.user_tokens, dtype=object)

    def __call__(self, given: Histories, times: np.ndarray | None, start: int, stop: int) -> Batch:
        """Rows start..stop-1: their last `width` events, the times of their requests, and their
        ids where the model knows all of them."""
        fields = self._events(given, start, stop)
        if times is not None:
            fields[self.config["TIME_FIELD"]] = torch.from_numpy(times[start:stop])
        user = self._user_ids(given, start, stop)
        why = (
            "it knows its users by name; use recommend_users, a table with their names, or the "
            "users of a service"
        )
        if user is not None and (user > 0).all():
            fields[self.config["USER_ID_FIELD"]] = torch.from_numpy(user)
        elif user is not None:
            unknown = [given.users[start + row] for row in np.flatnonzero(user < 1)]
            why = f"it knows its users by name, and not {first_ten(unknown)}"
        on_device = {name: value.to(self.device) for name, value in fields.items()}
        return Batch(self.config["model"], on_device, why)

    def _events(self, given: Histories, start: int, stop: int) -> dict[str, torch.Tensor]:
        rows = given.rows(start, stop, self.width)
        suffix = self.config["LIST_SUFFIX"]
        names = {
            "item": f"{self.config['ITEM_ID_FIELD']}{suffix}",
            "time": f"{self.config['TIME_FIELD']}{suffix}",
            "length": self.config["ITEM_LIST_LENGTH_FIELD"],
        }
        if self._fixed_width:
            for name in {"item", "time"} & rows.keys():
                rows[name] = F.pad(rows[name], (0, self.width - rows[name].shape[1]))
        return {names[name]: value for name, value in rows.items()}

    def _user_ids(self, given: Histories, start: int, stop: int) -> np.ndarray | None:
        if not given.named or len(self._users) < 2:
            return None
        names = [str(name) for name in given.users[start:stop]]
        return self._users.get_indexer(pd.Index(names, dtype=object)).astype(np.int64)
