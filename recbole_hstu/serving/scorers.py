"""A model's scores, the one way that serving asks for them.

The only file of this room that calls a model's methods to score. The HSTU family compares a
vector of the user with one of every item, which are made once; TIGER and TIGERSmall generate ids;
of other models RecBole's `full_sort_predict` is asked.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F

from recbole_hstu.evaluation.top_k import BLOCK_SCORES, Pairs, check_k, top_k
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.parts.generative_retriever import GenerativeRetriever
from recbole_hstu.serving.batches import Batch
from recbole_hstu.serving.saved_model import SavedModel
from recbole_hstu.support.errors import InputError

# Positions of histories, and scores of whole catalogues, that exist at once.
MAX_POSITIONS = 1 << 15
MAX_SCORES = 1 << 23
MAX_PAIRS = 1 << 14


class Scorer(Protocol):
    """Rows of requests against the catalogue. `n_items` counts the padding."""

    n_items: int
    rows_at_once: int

    def prepare(self, batch: Batch) -> torch.Tensor:
        """What `scores` needs of a batch of B rows, (B, ...)."""

    def scores(self, prepared: torch.Tensor, items: torch.Tensor | slice) -> torch.Tensor:
        """(B, n) scores of these items."""

    def vectors(self) -> torch.Tensor:
        """(V, D) the vectors that items are compared by.

        Raises:
            InputError: the model has none.
        """


class VectorScorer:
    """The HSTU family: a dot product of a user's vector with every item's."""

    def __init__(self, saved: SavedModel):
        self.model: Any = saved.model
        self.inputs, candidates = self.model.items()
        self.candidates = self.model.normalised(candidates)
        self.n_items = len(self.candidates)
        self.rows_at_once = max(1, MAX_POSITIONS // self.model.max_seq_length)

    def prepare(self, batch: Batch) -> torch.Tensor:
        return self.model.user_vectors(batch, self.inputs)

    def scores(self, prepared: torch.Tensor, items: torch.Tensor | slice) -> torch.Tensor:
        return prepared @ self.candidates[items].t()

    def vectors(self) -> torch.Tensor:
        return self.candidates


class TermScorer:
    """HSTU with terms beside the product, see `ScoreTerms`."""

    def __init__(self, saved: SavedModel):
        self.products = VectorScorer(saved)
        self.model = self.products.model
        self.n_items, self.rows_at_once = self.products.n_items, self.products.rows_at_once

    def prepare(self, batch: Batch) -> torch.Tensor:
        """(B, D + W): users' vectors, and the bits of the terms' keys: as numbers of the vectors'
        type, ids would be rounded above 2^24."""
        users, keys = self.products.prepare(batch), self.model.term_keys(batch)
        return torch.cat([users, keys.contiguous().view(users.dtype)], dim=1)

    def scores(self, prepared: torch.Tensor, items: torch.Tensor | slice) -> torch.Tensor:
        width = self.products.candidates.shape[1]
        # A copy: a view of other numbers has to begin at a whole one of them.
        keys = prepared[:, width:].clone(memory_format=torch.contiguous_format).view(torch.int64)
        terms = self.model.terms_at(keys, items)
        return self.products.scores(prepared[:, :width], items) + terms

    def vectors(self) -> torch.Tensor:
        return self.products.vectors()


class CatalogueScorer:
    """Every other model: all scores of a row at once, from RecBole's interface."""

    def __init__(self, saved: SavedModel):
        self.model: Any = saved.model
        self.name = saved.config["model"]
        self.n_items = len(saved.item_tokens)
        rows = min(MAX_SCORES // self.n_items, MAX_POSITIONS // saved.max_history)
        self.rows_at_once = max(1, rows)

    def prepare(self, batch: Batch) -> torch.Tensor:
        rows = len(next(iter(batch.values())))
        try:
            return self.model.full_sort_predict(batch).view(rows, -1)[:, : self.n_items]
        except NotImplementedError:
            return torch.cat([self._pairwise(batch, row) for row in range(rows)])

    def _pairwise(self, batch: Batch, row: int) -> torch.Tensor:
        """(1, V): every item asked for by itself."""
        parts = []
        for start in range(0, self.n_items, MAX_PAIRS):
            items = torch.arange(start, min(start + MAX_PAIRS, self.n_items))
            fields = batch.repeated(row, len(items))
            fields[self.model.ITEM_ID] = items.to(next(iter(batch.values())).device)
            parts.append(self.model.predict(fields).view(-1))
        return torch.cat(parts).unsqueeze(0)

    def scores(self, prepared: torch.Tensor, items: torch.Tensor | slice) -> torch.Tensor:
        return prepared[:, items].clone()

    def vectors(self) -> torch.Tensor:
        if hasattr(self.model, "vectors"):  # last-item search
            return self.model.vectors
        table = getattr(self.model, "item_embedding", None)
        if table is None or len(table.weight) < self.n_items:
            raise InputError(f"{self.name} keeps no vector an item to compare items by")
        return table.weight[: self.n_items]


class GenerativeScorer:
    """TIGER and TIGERSmall: the probabilities of all ids along their trie."""

    def __init__(self, saved: SavedModel):
        self.model: Any = saved.model
        self.name = saved.config["model"]
        self.n_items = len(saved.item_tokens)
        # A whole catalogue is one block of `top_k`: every block would compute it anew.
        rows = min(BLOCK_SCORES // self.n_items, MAX_POSITIONS // self.model.max_seq_length)
        self.rows_at_once = max(1, rows)

    def prepare(self, batch: Batch) -> torch.Tensor:
        return self.model.users(batch)

    def scores(self, prepared: torch.Tensor, items: torch.Tensor | slice) -> torch.Tensor:
        return self.model.exact_scores(prepared)[:, items]

    def vectors(self) -> torch.Tensor:
        raise InputError(f"{self.name} keeps no vector an item to compare items by")


class Beam:
    """What a `GenerativeScorer` takes the candidates of a list over all items from.

    The beam of a user has the model's `beam_size`, or the next power of two where the list and the
    items to leave out of it need more. `recommender.index = None` ranks the whole catalogue
    instead.
    """

    def take_up(self, scorer: Scorer) -> None:
        """Nothing: the ids stand in the model."""

    def best(
        self, recommender: Any, prepared: torch.Tensor, k: int, seen: Pairs | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`Recommender.best` among what the beam finds: scores (B, k) and item ids (B, k)."""
        model = recommender.saved.model
        barred = torch.zeros(len(prepared), model.n_items, dtype=torch.bool, device=prepared.device)
        if seen is not None and len(seen[0]):
            barred[seen[0].to(prepared.device), seen[1].to(prepared.device)] = True
        widths = [self._width(model, k + out) for out in barred.sum(1).tolist()]
        best = torch.full((len(prepared), k), -torch.inf, device=prepared.device)
        ids = torch.zeros_like(best, dtype=torch.int64)
        for width in set(widths):
            rows = torch.tensor([width == own for own in widths], device=prepared.device)
            scores, items = model.beam(prepared[rows], width)
            items, order = items.sort(dim=1)  # equal scores stand in the order of the ids
            scores = scores.gather(1, order).masked_fill_(barred[rows].gather(1, items), -torch.inf)
            scores, place = scores.sort(dim=1, descending=True, stable=True)
            best[rows], ids[rows] = scores[:, :k], items.gather(1, place[:, :k])
        return best, ids

    def _width(self, model: Any, needed: int) -> int:
        return model.beam_size if needed <= model.beam_size else 1 << (needed - 1).bit_length()


def scorer_of(saved: SavedModel) -> Scorer:
    """The scorer of a model."""
    if isinstance(saved.model, GenerativeRetriever):
        return GenerativeScorer(saved)
    if not isinstance(saved.model, HSTU):
        return CatalogueScorer(saved)
    return TermScorer(saved) if saved.model.score_terms() else VectorScorer(saved)


def index_of(scorer: Scorer) -> Beam | None:
    """What lists come from unless something else is asked for; None for the whole catalogue."""
    return Beam() if isinstance(scorer, GenerativeScorer) else None


def most_alike(vectors: torch.Tensor, id: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k items whose vectors (V, D) are most like an item's, but for itself and the padding:
    cosines (k,) and ids (k,).

    Raises:
        InputError: there are no k of them.
    """
    n_others = len(vectors) - 1
    check_k(k, n_others - 1)
    own = F.normalize(vectors[id : id + 1], dim=1)

    def score(start: int, stop: int) -> torch.Tensor:
        return own @ F.normalize(vectors[start + 1 : stop + 1], dim=1).t()

    itself = (torch.zeros(1, dtype=torch.int64), torch.tensor([id - 1]))
    best, column = top_k(score, 1, n_others, k, itself)
    return best[0], column[0] + 1
