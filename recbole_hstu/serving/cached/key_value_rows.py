"""HSTU after one more event without computing the others anew.

Row j of HSTU reads the time of event j + 1, so the rows of the first m - 1 of m events are final:
their keys and values are kept in every layer. Row m - 1 depends on the time of the request and is
computed for each; once event m is there, so is its true time, and the row becomes final with the
next request. A window that slides changes every position, and the history is computed anew.
"""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.layers.blocks.hstu_block import heads, time_buckets
from recbole_hstu.serving.cached.event_store import EVENT_BYTES, EventStore, zeros

# Scores of attention that exist at once, a head.
MAX_SCORES = 1 << 22


class KeyValueRows:
    """Keys and values of the settled events in an `EventStore`, and user vectors from them.

    Args:
        model: an HSTU whose layers are `HSTULayer`.
        table: (V, D) item vectors of inputs.
        store: of the events; its `settled` is kept by this class.
    """

    def __init__(self, model: Any, table: torch.Tensor, store: EventStore):
        self.model, self.table, self.store = model, table, store
        layers = list(model.layers)
        width = sum(layers[0].sizes[1:]) - layers[0].sizes[2]  # v and k
        shape = (store.max_users, len(layers), store.width, width)
        number = torch.empty(0, dtype=table.dtype).numpy().dtype
        self.kept = zeros(*shape, dtype=number)

    @staticmethod
    def bytes_a_user(model: Any) -> int:
        """What a place in the store and in this class takes: layers * N * (v + k) numbers."""
        sizes = model.layers[0].sizes
        numbers = len(model.layers) * model.max_seq_length * (sizes[1] + sizes[3])
        return (
            numbers * next(model.parameters()).element_size() + EVENT_BYTES * model.max_seq_length
        )

    @torch.inference_mode()
    def user_vectors(self, places: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """(B, D): the users' vectors at the times of their requests, (B,) int64 each."""
        if len(places.unique()) < len(places):  # a place holds the last row of one request
            ones = zip(places.split(1), at.split(1), strict=True)
            return torch.cat([self.user_vectors(*one) for one in ones])
        lengths = self.store.lengths[places]
        rows = lengths - self.store.settled[places]
        found = self.table.new_empty(len(places), self.table.shape[1])
        order = rows.argsort(stable=True)  # alike numbers of rows together
        start = 0
        while start < len(order):
            stop = start + self._fitting(rows[order[start:]], int(lengths.max()))
            some = order[start:stop]
            found[some] = self._compute(places[some], at[some])
            start = stop
        self.store.settled[places] = lengths - 1
        return found

    def _fitting(self, rows: torch.Tensor, length: int) -> int:
        """How many users, by rising number of rows, go together."""
        at_once = torch.arange(1, len(rows) + 1) * rows * length
        few = rows <= 2 * rows[0]
        return max(1, int((few & (at_once <= MAX_SCORES)).sum()))

    def _compute(self, places: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """(B, D) from the rows that are not settled; all of them are stored, but the last one's,
        which is the request's own, is not counted as settled."""
        store, model = self.store, self.model
        lengths, first = store.lengths[places], store.settled[places]
        rows = first.unsqueeze(1) + torch.arange(int((lengths - first).max()))  # (B, Q)
        real = rows < lengths.unsqueeze(1)
        rows = rows.minimum(lengths.unsqueeze(1) - 1)  # the last one again, where there are fewer
        where = places.unsqueeze(1)
        x = self.table[store.items[where, rows]] * model.hidden_size**0.5 + model.positions[rows]
        n_keys = int(lengths.max())
        distance, buckets = self._context(places, rows, at, n_keys)
        for number, layer in enumerate(model.layers):
            u, vqk = layer.project(x)
            v, q, k = vqk.split(layer.sizes[1:], dim=-1)
            new = torch.cat([v, k], dim=-1)
            self.kept[where.expand_as(rows)[real], number, rows[real]] = new[real]
            old_v, old_k = self.kept[places, number, :n_keys].split(
                [layer.sizes[1], layer.sizes[3]], dim=-1
            )
            q, k, v = (heads(part, layer.n_heads) for part in (q, old_k, old_v))
            x = layer.finish(x, u, layer.attention(q, k, v, layer.bias.at(distance, buckets)))
        last = x[torch.arange(len(places)), lengths - 1 - first]
        return model.normalised(last)

    def _context(self, places, rows, at, n_keys: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, Q, K) distances k - j and time buckets."""
        store = self.store
        keys = torch.arange(n_keys)
        following = (rows + 1).clamp(max=store.width - 1)
        asked = store.times[places.unsqueeze(1), following]
        is_last = rows + 1 == store.lengths[places].unsqueeze(1)
        asked = torch.where(is_last, at.unsqueeze(1), asked)
        distance = keys - rows.unsqueeze(2)
        buckets = time_buckets(asked.unsqueeze(2) - store.times[places, :n_keys].unsqueeze(1))
        return distance, buckets
