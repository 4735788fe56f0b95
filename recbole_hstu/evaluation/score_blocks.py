"""Scores of users against the catalogue, of which a block of items exists at a time."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from recbole_hstu.distributed.row_blocks import RowBlocks
from recbole_hstu.evaluation.ranks import MISSED, TargetRanks, counted
from recbole_hstu.evaluation.top_k import Pairs, bar, by_column, top_k

# Targets whose scores are taken from one product.
_TARGETS_AT_ONCE = 64


class ScoreBlocks:
    """(B, V) scores, products of (B, D) user vectors with (V, D) item vectors.

    Candidates and their order are those of `target_ranks`.

    Args:
        users: (B, D).
        items: (V, D), row 0 the padding.
        seen: (row, item), (P,) int64 each: pairs that are no candidates; None is none.
        first: the id of the first of these items, where they are a block of all.

    Attributes:
        barred: (K,) items that are candidates of no row; None is none.
    """

    def __init__(self, users: Tensor, items: Tensor, *, seen: Pairs | None = None, first: int = 0):
        self.users, self.items, self.first = users, items, first
        self._seen = by_column(None if seen is None else (seen[0], seen[1] - first))
        self.barred: Tensor | None = None

    def __len__(self) -> int:
        return len(self.users)

    def judged(self, targets: Tensor, k: int) -> tuple[TargetRanks, Tensor]:
        """The place of each row's target (B,), and the k best items (B, k), 0 where there are
        fewer candidates.

        Raises:
            InputError: a score is NaN.
        """
        own = self._of_targets(targets)
        before, equal, best, items = self._judged(own, targets, k)
        missed = own[:, 0] == -torch.inf
        ranks = (before + 1).masked_fill(missed, MISSED)
        ties = (equal - 1).masked_fill(missed, 0)
        return TargetRanks(ranks, ties), items.masked_fill(best == -torch.inf, 0)[:, :k]

    def _judged(self, own: Tensor, targets: Tensor, k: int) -> tuple[Tensor, ...]:
        """(B,) items before each target, (B,) that score the same, and scores and ids of the
        max(k, 1) best, or of all where there are fewer."""
        before, equal = torch.zeros_like(targets), torch.zeros_like(targets)
        places = targets - self.first

        def block(start: int, stop: int) -> Tensor:
            scores = self._block(start, stop)
            here = ((places >= start) & (places < stop)).nonzero().squeeze(1)
            scores[here, places[here] - start] = own[here, 0]  # rounded alike in every product
            more, same = counted(scores, own, places, first=start)
            before.add_(more)
            equal.add_(same)
            return scores

        n_best = min(max(k, 1), len(self.items))
        best, items = top_k(block, len(self), len(self.items), n_best)
        return before, equal, best, items + self.first

    def _block(self, start: int, stop: int) -> Tensor:
        """(B, stop - start), -inf where an item is no candidate."""
        scores = self.users @ self.items[start:stop].t()
        if start + self.first == 0:
            scores[:, 0] = -torch.inf
        if self.barred is not None:
            barred = self.barred - self.first
            inside = (barred >= start) & (barred < stop)
            scores.index_fill_(1, barred[inside] - start, -torch.inf)
        bar(scores, self._seen, start, stop)
        return scores

    def _of_targets(self, targets: Tensor) -> Tensor:
        """(B, 1) scores of the targets, -inf of one that is no candidate."""
        own = self._products(targets - self.first)
        if self.barred is not None:
            own[torch.isin(targets, self.barred)] = -torch.inf
        if self._seen is not None:
            row, place = self._seen
            own[row[place == targets[row] - self.first]] = -torch.inf
        return own.unsqueeze(1)

    def _products(self, places: Tensor) -> Tensor:
        """(B,) of each row with the item at its place (B,)."""
        parts = []
        for some in torch.arange(len(self)).split(_TARGETS_AT_ONCE):
            # As many rows as a block has, and columns as in no small product: rounded alike.
            columns = F.pad(places[some], (0, _TARGETS_AT_ONCE - len(some)))
            parts.append((self.users @ self.items[columns].t())[some, some - some[0]])
        return torch.cat(parts)


class SharedScoreBlocks(ScoreBlocks):
    """`ScoreBlocks` of all processes, each of which has the same users and a block of the items.
    All processes judge at once, and all have the whole result.

    Args:
        users, items, seen: of `ScoreBlocks`, the items those of this process.
        blocks: which ones these are.
    """

    def __init__(
        self, users: Tensor, items: Tensor, *, blocks: RowBlocks, seen: Pairs | None = None
    ):
        super().__init__(users, items, seen=seen, first=blocks.own.start)
        self._group = blocks.group

    def _judged(self, own: Tensor, targets: Tensor, k: int) -> tuple[Tensor, ...]:
        before, equal, best, items = super()._judged(own, targets, k)
        for counts in (before, equal):
            dist.all_reduce(counts, group=self._group)
        k = max(k, 1)
        lacking = (0, k - best.shape[1])
        best, items = F.pad(best, lacking, value=-torch.inf), F.pad(items, lacking)
        best, items = self._side_by_side(best), self._side_by_side(items)
        # The blocks stand in the order of their ids: a stable sort keeps equal scores there.
        best, order = best.sort(dim=1, descending=True, stable=True)
        return before, equal, best[:, :k], items.gather(1, order[:, :k])

    def _side_by_side(self, own: Tensor) -> Tensor:
        """(B, k) of every process -> (B, processes * k)."""
        everybody = [torch.empty_like(own) for _ in range(dist.get_world_size(self._group))]
        dist.all_gather(everybody, own.contiguous(), group=self._group)
        return torch.cat(everybody, dim=1)

    def _products(self, places: Tensor) -> Tensor:
        last = len(self.items) - 1
        own = super()._products(places.clamp(0, last))
        own.masked_fill_((places < 0) | (places > last), 0)
        dist.all_reduce(own, group=self._group)
        return own
