"""Most of the best items without a look at all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from recbole_hstu.evaluation.top_k import Pairs
from recbole_hstu.serving.scorers import VectorScorer
from recbole_hstu.support.errors import InputError, packages_needed

# Vectors of a cell that k-means reads, as faiss has it.
_SAMPLED = 64


class ApproximateIndex:
    """Items in cells of like vectors (faiss' IVF); a search looks into the nearest cells alone.

    `recommender.index = ApproximateIndex(recommender)` makes it take the candidates of a list from
    here. Their scores stay exact; an item that lies in none of the cells is missed. A list that
    would have fewer than k items is computed exactly.

    Args:
        recommender: of a model that compares vectors (HSTU, HSTUText, SASRecSS).
        probes: cells that a search looks into; more find more of the best items, and take longer.
            The attribute of this name may change at any time.

    Raises:
        InputError: another model, faiss is not installed, fewer than one probe.
    """

    def __init__(self, recommender: Any, probes: int = 32):
        with packages_needed("an approximate index", "ann"):
            import faiss

        scorer = recommender.scorer
        if not isinstance(scorer, VectorScorer):
            kind = recommender.saved.config["model"]
            raise InputError(f"{kind} compares no vectors; it has no approximate index")
        if probes < 1:
            raise InputError(f"probes: {probes} must be 1 or more")
        vectors = _vectors(scorer, 0)
        n_items, width = vectors.shape
        n_cells = max(1, min(int(4 * math.sqrt(n_items)), n_items // 40))
        self._cells = faiss.IndexFlatIP(width)
        self._index = faiss.IndexIVFFlat(self._cells, width, n_cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.max_points_per_centroid = _SAMPLED
        self._index.train(vectors)
        self.probes = probes
        self.take_up(scorer)

    def take_up(self, scorer: VectorScorer) -> None:
        """Put the items into their cells that are in none, as those of `add_items` are."""
        self._index.add(_vectors(scorer, self._index.ntotal))

    def best(
        self, recommender: Any, prepared: torch.Tensor, k: int, seen: Pairs | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`Recommender.best` among the items of the cells nearest to each row, (B, D)."""
        nothing = torch.empty(0, dtype=torch.int64)
        row, item = (pairs.cpu() for pairs in seen) if seen is not None else (nothing, nothing)
        best, ids = self._near(prepared, k + int(row.bincount().max() if len(row) else 0))
        seen_here = torch.isin(_keys(torch.arange(len(ids)).unsqueeze(1), ids), _keys(row, item))
        best = best.masked_fill_(seen_here, -torch.inf)
        best, place = best.sort(dim=1, descending=True, stable=True)
        best, ids = best[:, :k].to(prepared), ids.gather(1, place[:, :k]).to(prepared.device)
        short = (best == -torch.inf).any(1).cpu()
        if short.any():
            here = short[row]
            of_short = short.cumsum(0)[row[here]] - 1, item[here]
            everything = torch.arange(1, self._index.ntotal + 1, device=prepared.device)
            rows = short.nonzero().squeeze(1).to(prepared.device)
            best[rows], ids[rows] = recommender.best(prepared[rows], k, of_short, everything)
        return best, ids

    def _near(self, prepared: torch.Tensor, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n) scores and ids, rising; -inf and 0 where a row's cells hold no more."""
        self._index.nprobe = self.probes
        wanted = min(wanted, self._index.ntotal)
        scores, found = self._index.search(prepared.float().cpu().numpy(), wanted)
        ids, order = (torch.from_numpy(found) + 1).sort(dim=1)
        return torch.from_numpy(scores).gather(1, order).masked_fill_(ids == 0, -torch.inf), ids


def _keys(row: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """A number for each pair."""
    return (row.long() << 32) + item


def _vectors(scorer: VectorScorer, start: int) -> np.ndarray:
    """(n, D) of the items after the first `start`, without the padding."""
    return scorer.candidates[1 + start :].float().cpu().numpy()
