"""What other users had next to the last events, as a term of an item's score.

A graph of transitions remembers rare pairs that vectors blur: Wide & Deep Learning (Cheng et al.,
2016, https://arxiv.org/abs/1606.07792) adds crossed features to a network for that, and Jannach
and Ludewig (RecSys 2017, https://doi.org/10.1145/3109859.3109872) add neighbours to a GRU's
scores. Here both are trained together. Knows no RecBole.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.layers.items.transitions import Transitions, reached_from

# As `ItemGraph` has them by default; twice as many neighbours brought nothing.
DISTANCE_DECAY = 0.5
POPULARITY_EXPONENT = 0.25
N_NEIGHBOURS = 100
# Of the logarithm, before training.
FIRST_WEIGHT = 0.02
# Scores of a block of rows that exist at once.
BLOCK_SCORES = 1 << 22


class TransitionTerm(nn.Module):
    """weight * log(1 + reached(j)), see `reached_from`, over w of `Transitions`.

    Where the next event of a user is a training event, transitions from the history to it lie in w
    themselves: `in_training` takes them out, or the term would learn to trust what it has been
    told. That is exact where no item has more than `N_NEIGHBOURS` neighbours (of others w has the
    heaviest alone), and where no later event of the user repeats an item of the history.

    Args:
        n_items: V, padding included.
        steps: S, most steps between two events of a transition, and events of a history that count.
        user, item: (E,) int64 of the training events, sorted by user and time.
    """

    neighbours: torch.Tensor
    weights: torch.Tensor
    scale: torch.Tensor

    def __init__(self, *, n_items: int, steps: int, user: torch.Tensor, item: torch.Tensor):
        super().__init__()
        self.steps = steps
        transitions = Transitions(
            user.numpy(),
            item.numpy(),
            item.new_zeros(len(item)).numpy(),
            n_items=n_items,
            max_distance=steps,
            distance_decay=DISTANCE_DECAY,
            half_life=1.0,
            backward=1.0,
            popularity_exponent=POPULARITY_EXPONENT,
        )
        neighbours, weights = transitions.heaviest(min(N_NEIGHBOURS, n_items))
        self.register_buffer("neighbours", neighbours)
        self.register_buffer("weights", weights)
        self.register_buffer("scale", torch.from_numpy(transitions.scale).float())
        self.weight = nn.Parameter(torch.tensor(FIRST_WEIGHT))

    def of_pairs(self, last: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """The last items (T, S) of histories, newest first, and items (T, K) -> (T, K)."""
        return self._reached(last, items).log1p() * self.weight

    def in_training(self, last: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """`of_pairs`, where the first of the items is the next event, which is not counted."""
        found = self._reached(last, items)
        found[:, 0] -= self._of_next_event(last, items[:, 0])
        return found.clamp_(min=0).log1p_() * self.weight

    def features_in_training(
        self, last: torch.Tensor, next_items: torch.Tensor
    ) -> list[torch.Tensor]:
        """The last items (T, S) and the next ones (T,) -> what `in_training` weighs, of the items
        1 .. V - 1: one (T, V - 1)."""
        own = (next_items - 1).unsqueeze(1)
        told = -self._of_next_event(last, next_items).unsqueeze(1)
        reached = reached_from(last, *self._graph(), slice(1, None)).scatter_add_(1, own, told)
        return [reached.clamp_(min=0).log1p_()]

    def at(self, last: torch.Tensor, items: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """The last items (B, S), newest first, and n items that all rows share -> (B, n)."""
        if not isinstance(items, slice):
            return self.of_pairs(last, items.expand(len(last), -1))
        parts = [reached for _, reached in self._blocks(last, items)]
        return torch.cat(parts).log1p_() * self.weight

    def _of_next_event(self, last: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(T,) how much of reached(target) are transitions between the event of the target and the
        events of `last`: from every event of the same item, and back where that is the target's."""
        back = torch.arange(1, last.shape[1] + 1, device=last.device, dtype=self.scale.dtype)
        step = back**-DISTANCE_DECAY * (last > 0)  # (T, S)
        same = last.unsqueeze(2) == last.unsqueeze(1)
        found = step * (same * step.unsqueeze(1)).sum(2) * self.scale[last]
        return (found * (1 + (last == target.unsqueeze(1)))).sum(1) * self.scale[target]

    @torch.no_grad()
    def add_items(self, n: int) -> None:
        """Further items behind the others, which no transition reaches."""
        self.neighbours, self.weights = (
            F.pad(table, (0, 0, 0, n)) for table in (self.neighbours, self.weights)
        )
        self.scale = F.pad(self.scale, (0, n), value=1.0)

    def _reached(self, last: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        found = torch.empty(items.shape, dtype=self.weights.dtype, device=items.device)
        for part, reached in self._blocks(last):
            torch.gather(reached, 1, items[part], out=found[part])
        return found

    @torch.no_grad()
    def _blocks(
        self, last: torch.Tensor, items: slice = slice(None)
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Slices of the rows, and reached(j) of each, (rows, n)."""
        n_items = len(range(*items.indices(len(self.weights))))
        rows = max(1, BLOCK_SCORES // max(n_items, last.shape[1] * self.weights.shape[1]))
        for start in range(0, len(last), rows):
            part = slice(start, start + rows)
            yield part, reached_from(last[part], *self._graph(), items)

    def _graph(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        return self.neighbours, self.weights, DISTANCE_DECAY
