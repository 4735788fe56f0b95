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
        with packages_needed("an approximate index"):
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
        """`Recommender.best` among the items of the nearest cells of any row, (B, D)."""
        near = self._near(prepared, k, seen)
        if len(near) >= k:
            best, ids = recommender.best(prepared, k, seen, near)
            if bool((best > -torch.inf).all()):
                return best, ids
        everything = torch.arange(1, self._index.ntotal + 1, device=prepared.device)
        return recommender.best(prepared, k, seen, everything)

    def _near(self, prepared: torch.Tensor, k: int, seen: Pairs | None) -> torch.Tensor:
        """(n,) rising ids, among them for every row as many as it has seen and k more."""
        most_seen = int(seen[0].bincount().max()) if seen is not None and len(seen[0]) else 0
        wanted = min(k + most_seen, self._index.ntotal)
        self._index.nprobe = self.probes
        _, found = self._index.search(prepared.float().cpu().numpy(), wanted)
        ids = torch.from_numpy(found).unique() + 1
        return ids[ids > 0].to(prepared.device)


def _vectors(scorer: VectorScorer, start: int) -> np.ndarray:
    """(n, D) of the items after the first `start`, without the padding."""
    return scorer.candidates[1 + start :].float().cpu().numpy()
