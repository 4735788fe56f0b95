"""Transitions between the items of a user's events: what others had next. Knows no RecBole.

Sequential rules, which weight a transition by the steps between its events (Ludewig and Jannach,
2018, https://arxiv.org/abs/1803.09587), with a decay by age, both directions, and popularity held
back on both ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix

# Transitions weighed at once: about 500 MB.
MAX_PAIRS = 1 << 23


class Transitions:
    """Weighted transitions between the items of each user's events:

        w(i, j) = sum over transitions of d^-a * 2^(-age / h) / (n_i * n_j)^p

    where d steps lie between i and j, i before j, or after it at `backward` of the weight; n counts
    the events of an item.

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
        starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1], True])
        self.max_distance = max(1, min(max_distance, int(np.diff(starts).max(initial=1)) - 1))
        self.user, self.item = user, item
        self.distance_decay, self.backward = distance_decay, backward
        first, last = (time.min(), time.max()) if len(time) else (0, 0)
        self.freshness = 2 ** (-(last - time) / max(1, last - first) / half_life)
        self.counts = np.bincount(item, minlength=n_items)
        self.scale = np.maximum(self.counts, 1.0) ** -popularity_exponent
        self._of_item = np.argsort(item, kind="stable")  # events of item 0, 1, ...
        self._end = self.counts.cumsum()

    def heaviest(self, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The heaviest neighbours of every item, of equal ones those of smaller ids, and their
        weights, (V, width) int32 and float32; zeros where there are fewer."""
        neighbours = torch.zeros(len(self.counts), width, dtype=torch.int32)
        weights = torch.zeros(len(self.counts), width)
        for rows in self.blocks():
            found = self.weights(rows)
            row = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
            order = np.lexsort((found.indices, -found.data, row))
            place = np.arange(len(row)) - found.indptr[row]
            kept = place < width
            where = (torch.from_numpy(row[kept] + rows.start), torch.from_numpy(place[kept]))
            neighbours[where] = torch.from_numpy(found.indices[order][kept].astype(np.int32))
            weights[where] = torch.from_numpy(found.data[order][kept].astype(np.float32))
        return neighbours, weights

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


def last_items(
    history: torch.Tensor, row: torch.Tensor, at: torch.Tensor, steps: int
) -> torch.Tensor:
    """(B, L) histories, rows of them (T,) and a place (T,) in each -> (T, steps) the item there and
    those before it, the newest first; 0 where there is none."""
    place = at.unsqueeze(1) - torch.arange(steps, device=history.device)
    return history[row.unsqueeze(1), place.clamp(min=0)] * (place >= 0)


def reached_from(
    last: torch.Tensor,
    neighbours: torch.Tensor,
    weights: torch.Tensor,
    decay: float,
    items: slice = slice(None),
) -> torch.Tensor:
    """What transitions reach from the last items (B, S), the newest first:

        reached(j) = sum over steps s back from the end of s^-decay * w(i_s, j)

    Args:
        neighbours, weights: (V, K) of `Transitions.heaviest`; of item 0 all are 0.
        items: those of the V items that are asked for.

    Returns:
        (B, n).
    """
    start, stop, _ = items.indices(len(neighbours))
    back = torch.arange(1, last.shape[1] + 1, device=last.device, dtype=weights.dtype)
    share = weights[last] * (back**-decay).unsqueeze(1)  # (B, S, K)
    place = neighbours[last].long() - start
    share *= (place >= 0) & (place < stop - start)
    reached = weights.new_zeros(len(last), stop - start)
    place = place.clamp_(min=0, max=stop - start - 1)
    return reached.scatter_add_(1, place.flatten(1), share.flatten(1))
