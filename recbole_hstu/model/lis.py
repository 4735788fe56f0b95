"""Last-item search: recommend what reads like the last item (GLoSS, section 3.2). No training."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from recbole_hstu.config.config import option
from recbole_hstu.data.item_rows import first_ten
from recbole_hstu.data.item_text import ItemText, read_item_texts
from recbole_hstu.layers.item_encoder import check_text_hash
from recbole_hstu.layers.losses import l2_normalise
from recbole_hstu.model.text_model import TextModel
from recbole_hstu.model.training_free import TrainingFree
from recbole_hstu.support.errors import InputError

logger = logging.getLogger(__name__)


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
        self.bm25 = BM25(config, dataset) if retriever == "bm25" else None
        self.text_hash = ""
        if self.bm25 is None:
            vectors, self.text_hash = self.text_vectors(config, dataset)
            self.register_buffer("vectors", l2_normalise(vectors), persistent=False)

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


class BM25:
    """BM25 (Lucene's variant, by bm25s) between item texts: words of two letters or more in lower
    case, without English stop words.

    Raises:
        InputError: bm25s is not installed, there is no item text, or it holds no word.
    """

    def __init__(self, config, dataset):
        try:
            import bm25s
        except ImportError as error:
            raise InputError(
                'retriever: bm25 needs bm25s: pip install "recbole-hstu[bm25]"'
            ) from error
        texts = _texts(config, dataset)
        tokens = bm25s.tokenize(texts, show_progress=False)
        index = bm25s.BM25(k1=option(config, "bm25_k1"), b=option(config, "bm25_b"))
        words = [[id for id in ids if id != tokens.vocab.get("")] for ids in tokens.ids]
        if not any(words):
            raise InputError(f"{config['dataset']}: the item texts hold no word to search for")
        index.index((words, tokens.vocab), show_progress=False)
        found = index.scores
        shape = (len(texts), len(found["indptr"]) - 1)
        weights = scipy.sparse.csc_matrix(
            (found["data"], found["indices"], found["indptr"]), shape=shape
        )
        ends = np.cumsum([0, *map(len, words)])
        flat = np.fromiter((id for ids in words for id in ids), np.int64, ends[-1])
        counts = scipy.sparse.csr_matrix((np.ones(len(flat), np.float32), flat, ends), shape=shape)
        counts.sum_duplicates()
        self._counts, self._weights = counts, weights.T.tocsr()

    def scores(self, items: np.ndarray) -> np.ndarray:
        """(B,) item ids -> (B, V) float32: every text searched with the words of these items'."""
        found = (self._counts[items - 1] @ self._weights).toarray()
        return np.pad(found, ((0, 0), (1, 0)))  # the padding item


def _texts(config, dataset) -> list[str]:
    """The texts of the items from id 1 on."""
    known = read_item_texts(
        Path(config["data_path"]) / f"{config['dataset']}.item",
        ItemText.from_property(config["item_text"]),
        item_field=config["ITEM_ID_FIELD"],
        separator=config["field_separator"],
    )
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    empty = [token for token in tokens if not known.get(token)]
    if empty:
        what = f"{len(empty):,} of {len(tokens):,} items have no text"
        logger.warning("LIS: %s and score 0: %s", what, first_ten(empty))
    return [known.get(token, "") for token in tokens]
