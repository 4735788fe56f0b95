"""Last-item search: recommend what reads like the last item (GLoSS, section 3.2). No training."""

from __future__ import annotations

import torch

from recbole_hstu.config.config import option
from recbole_hstu.layers.items.item_encoder import check_text_hash
from recbole_hstu.layers.losses import l2_normalise
from recbole_hstu.model.parts.bm25 import BM25
from recbole_hstu.model.parts.text_model import TextModel
from recbole_hstu.model.parts.training_free import TrainingFree


class LIS(TextModel, TrainingFree):
    """Scores every item by its text's likeness to that of the last item of the history.

    `retriever: vectors` is the cosine of their text vectors, from any side-feature file; `bm25`
    searches the item texts with the last item's text. Options: `properties/model/LIS.yaml`.
    The last item itself stays a candidate unless `mask_seen` is on, as for every model.

    Raises:
        InputError: no item text, or bm25s is not installed.
    """

    vectors: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        retriever = option(config, "retriever")
        self.bm25 = BM25.of_items(config, dataset) if retriever == "bm25" else None
        self.text_hash = ""
        if self.bm25 is None:
            vectors, self.text_hash = self.text_vectors(config, dataset)
            self.register_buffer("vectors", l2_normalise(vectors.float()), persistent=False)

    def get_extra_state(self) -> str:
        return self.text_hash

    def set_extra_state(self, state: str) -> None:
        check_text_hash(state, self.text_hash)

    def add_items(self, text: torch.Tensor, stand_in: str) -> None:
        """Items behind the others, by their text vectors (n, width); it has no ids to stand in
        for."""
        self.vectors = torch.cat([self.vectors, l2_normalise(text)])
        self.n_items += len(text)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) likeness to each row's last item; 0 where nothing is alike or an item has no
        text."""
        place = interaction[self.ITEM_SEQ_LEN].unsqueeze(1) - 1
        last = interaction[self.ITEM_SEQ].gather(1, place).squeeze(1)
        if self.bm25 is None:
            return self.vectors[last] @ self.vectors.t()
        queries, row = torch.unique(last, return_inverse=True)
        scores = torch.from_numpy(self.bm25.scores(queries.cpu().numpy()))
        return scores.to(last.device)[row]
