"""Scores of users against the catalogue, of which a block of items exists at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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
        barred: (K,) items that are candidates of no row.
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        *,
        seen: Pairs | None = None,
        barred: Tensor | None = None,
    ):
        self.users, self.items = users, items
        self._seen = by_column(seen)
        self.barred = barred

    def __len__(self) -> int:
        return len(self.users)

    def judged(self, targets: Tensor, k: int) -> tuple[TargetRanks, Tensor]:
        """The place of each row's target (B,), and the k best items (B, k), 0 where there are
        fewer candidates.

        Raises:
            InputError: a score is NaN.
        """
        own = self._of_targets(targets)
        before, equal = torch.zeros_like(targets), torch.zeros_like(targets)

        def block(start: int, stop: int) -> Tensor:
            scores = self._block(start, stop)
            here = ((targets >= start) & (targets < stop)).nonzero().squeeze(1)
            scores[here, targets[here] - start] = own[here, 0]  # rounded alike in every product
            more, same = counted(scores, own, targets, first=start)
            before.add_(more)
            equal.add_(same)
            return scores

        best, items = top_k(block, len(self), len(self.items), max(k, 1))
        missed = own[:, 0] == -torch.inf
        ranks = (before + 1).masked_fill(missed, MISSED)
        ties = (equal - 1).masked_fill(missed, 0)
        return TargetRanks(ranks, ties), items.masked_fill(best == -torch.inf, 0)[:, :k]

    def _block(self, start: int, stop: int) -> Tensor:
        """(B, stop - start), -inf where an item is no candidate."""
        scores = self.users @ self.items[start:stop].t()
        if start == 0:
            scores[:, 0] = -torch.inf
        if self.barred is not None:
            inside = (self.barred >= start) & (self.barred < stop)
            scores.index_fill_(1, self.barred[inside] - start, -torch.inf)
        bar(scores, self._seen, start, stop)
        return scores

    def _of_targets(self, targets: Tensor) -> Tensor:
        """(B, 1) scores of the targets, -inf of one that is no candidate."""
        parts = []
        for some in torch.arange(len(self)).split(_TARGETS_AT_ONCE):
            # As many rows as a block has, and columns as in no small product: rounded alike.
            columns = F.pad(targets[some], (0, _TARGETS_AT_ONCE - len(some)))
            parts.append((self.users @ self.items[columns].t())[some, some - some[0]])
        own = torch.cat(parts)
        if self.barred is not None:
            own[torch.isin(targets, self.barred)] = -torch.inf
        if self._seen is not None:
            row, item = self._seen
            own[row[item == targets[row]]] = -torch.inf
        return own.unsqueeze(1)
