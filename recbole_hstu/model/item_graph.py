"""ItemGraph: recommend what other users had next to the last events. No training.

Sequential rules, which weight a transition by the steps between its events (Ludewig and Jannach,
2018, https://arxiv.org/abs/1803.09587), with a decay by age, both directions, and popularity held
back on both ends. How far such a graph goes on the usual data sets: Han et al., 2026,
https://arxiv.org/abs/2605.07125, whose own heuristic walks several steps of it and compares texts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix

from recbole_hstu.config.config import option
from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.model.parts.training_free import TrainingFree

# Transitions weighed at once: about 500 MB.
MAX_PAIRS = 1 << 23


class ItemGraph(TrainingFree):
    """Scores an item by its transitions from the last events of the history:

        score(j) = sum over steps s back from the end of s^-a * w(i_s, j)
        w(i, j)  = sum over transitions of d^-a * 2^(-age / h) / (n_i * n_j)^p

    where d steps lie between i and j, i before j, or after it at `backward` of the weight; n counts
    the events of an item. Items that no transition reaches follow by popularity.
    Options: `properties/model/ItemGraph.yaml`.
    """

    neighbours: torch.Tensor
    weights: torch.Tensor
    popularity: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.max_distance = option(config, "max_distance")
        self.decay = option(config, "distance_decay")
        width = min(option(config, "n_neighbours"), self.n_items)
        self.register_buffer("neighbours", torch.zeros(self.n_items, width, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(self.n_items, width))
        self.register_buffer("popularity", torch.zeros(self.n_items))
        if isinstance(dataset, SequenceDataset):  # without one a checkpoint brings the graph
            self._learn(config, dataset)

    def _learn(self, config, dataset: SequenceDataset) -> None:
        events = dataset.training_events()
        fields = (dataset.uid_field, self.ITEM_ID, dataset.time_field)
        transitions = Transitions(
            *(events[field].numpy() for field in fields),
            n_items=self.n_items,
            max_distance=self.max_distance,
            distance_decay=self.decay,
            half_life=option(config, "half_life"),
            backward=option(config, "backward"),
            popularity_exponent=option(config, "popularity_exponent"),
        )
        for rows in transitions.blocks():
            self._keep(transitions.weights(rows), rows)
        known = self.weights[self.weights > 0]
        least = known.min() * self.max_distance**-self.decay if len(known) else torch.ones(())
        counts = torch.from_numpy(transitions.counts).float()
        self.popularity.copy_(counts / counts.max() * least / 2)

    def _keep(self, weights: csr_matrix, rows: slice) -> None:
        """The heaviest neighbours of some items; of equal ones those of smaller ids."""
        row = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        order = np.lexsort((weights.indices, -weights.data, row))
        place = np.arange(len(row)) - weights.indptr[row]
        kept = place < self.weights.shape[1]
        where = (torch.from_numpy(row[kept] + rows.start), torch.from_numpy(place[kept]))
        self.neighbours[where] = torch.from_numpy(weights.indices[order][kept].astype(np.int32))
        self.weights[where] = torch.from_numpy(weights.data[order][kept].astype(np.float32))

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) scores of the whole catalogue."""
        history, length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        back = torch.arange(min(self.max_distance, history.shape[1]), device=history.device)
        place = length.unsqueeze(1) - 1 - back  # (B, S)
        last = history.gather(1, place.clamp(min=0)) * (place >= 0)  # padding has no neighbours
        steps = (back + 1.0) ** -self.decay
        weights = self.weights[last] * steps.unsqueeze(1)  # (B, S, K)
        scores = self.popularity.repeat(len(history), 1)
        return scores.scatter_add_(1, self.neighbours[last].flatten(1).long(), weights.flatten(1))


class Transitions:
    """Weighted transitions between the items of each user's events.

    Args:
        user, item, time: (E,) of the events, sorted by user and time.
        n_items: V.
        max_distance: most steps between two events.
        distance_decay: a; d steps weigh d^-a.
        half_life: age of the later event at which a transition weighs half, in spans of all times.
        backward: weight of a transition from the later to the earlier event.
        popularity_exponent: p, of the counts of both items.
    """

    def __init__(
        self,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        *,
        n_items: int,
        max_distance: int,
        distance_decay: float,
        half_life: float,
        backward: float,
        popularity_exponent: float,
    ):
        self.user, self.item, self.max_distance = user, item, max_distance
        self.distance_decay, self.backward = distance_decay, backward
        age = (time.max() - time) / max(1, time.max() - time.min())
        self.freshness = 2 ** (-age / half_life)
        self.counts = np.bincount(item, minlength=n_items)
        self.scale = np.maximum(self.counts, 1.0) ** -popularity_exponent
        self._of_item = np.argsort(item, kind="stable")  # events of item 0, 1, ...
        self._end = self.counts.cumsum()

    def blocks(self) -> Iterator[slice]:
        """Slices of the items that have at most `MAX_PAIRS` transitions, or one item each."""
        start = before = 0
        while start < len(self.counts):
            limit = before + MAX_PAIRS // (2 * self.max_distance)
            stop = max(start + 1, int(np.searchsorted(self._end, limit, side="right")))
            yield slice(start, stop)
            start, before = stop, self._end[stop - 1]

    def weights(self, rows: slice) -> csr_matrix:
        """w(i, j) from the items `rows`, (rows, V)."""
        first = self._end[rows.start] - self.counts[rows.start]
        source = self._of_item[first : self._end[rows.stop - 1]]
        parts = [
            self._at(source, d * sign) for d in range(1, self.max_distance + 1) for sign in (1, -1)
        ]
        one, other, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        i, j = self.item[one], self.item[other]
        weight *= self.scale[i] * self.scale[j]
        shape = (rows.stop - rows.start, len(self.counts))
        found = coo_matrix((weight, (i - rows.start, j)), shape=shape).tocsr()  # adds up
        found.eliminate_zeros()
        return found

    def _at(self, source: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The events that have another one `step` events later in the same user's, those others,
        and their weights."""
        other = source + step
        inside = (other >= 0) & (other < len(self.user))
        source, other = source[inside], other[inside]
        same = self.user[source] == self.user[other]
        source, other = source[same], other[same]
        weight = abs(step) ** -self.distance_decay * (1.0 if step > 0 else self.backward)
        return source, other, weight * self.freshness[np.maximum(source, other)]
