"""Search among item texts by their words: BM25, by bm25s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from recbole_hstu.config.config import option
from recbole_hstu.data.files.item_text import texts_of_items
from recbole_hstu.support.errors import InputError, packages_needed


class BM25:
    """BM25 (Lucene's variant) among the texts of items: words of two letters or more in lower
    case, without English stop words.

    Args:
        texts: of the items from id 1 on.
        k1: saturation of a word's count.
        b: how far long texts are held back.

    Raises:
        InputError: bm25s is not installed, or the texts hold no word.
    """

    def __init__(self, texts: Sequence[str], *, k1: float, b: float):
        with packages_needed("retriever: bm25", "bm25"):
            import bm25s
        self._tokenize = bm25s.tokenize
        words = self._words(texts)
        self._vocabulary = {word: id for id, word in enumerate(sorted(set().union(*words)))}
        if not self._vocabulary:
            raise InputError("the item texts hold no word to search for")
        self._counts = self._count(words)
        index = bm25s.BM25(k1=k1, b=b)
        ids = [[self._vocabulary[word] for word in text] for text in words]
        index.index((ids, dict(self._vocabulary)), show_progress=False)
        found = index.scores
        shape = (len(texts), len(found["indptr"]) - 1)
        parts = (found["data"], found["indices"], found["indptr"])
        weights = scipy.sparse.csc_matrix(parts, shape=shape)[:, : len(self._vocabulary)]
        self._weights = weights.T.tocsr()

    @classmethod
    def of_items(cls, config: Any, dataset: Any) -> BM25:
        """Over the item texts of a data set (`item_text`), by `bm25_k1` and `bm25_b`.

        Raises:
            InputError: there is no item text, or see the class.
        """
        k1, b = option(config, "bm25_k1"), option(config, "bm25_b")
        return cls(texts_of_items(config, dataset)[1:], k1=k1, b=b)

    def scores(self, items: np.ndarray) -> np.ndarray:
        """(B,) item ids -> (B, V) float32: every text searched with the words of these items'."""
        return self._search(self._counts[items - 1])

    def scores_of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(B, V) float32: every item's text searched with the words of these."""
        return self._search(self._count(self._words(texts)))

    def _search(self, counts: scipy.sparse.csr_matrix) -> np.ndarray:
        return np.pad((counts @ self._weights).toarray(), ((0, 0), (1, 0)))  # the padding item

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        return self._tokenize(list(texts), return_ids=False, show_progress=False)

    def _count(self, words: list[list[str]]) -> scipy.sparse.csr_matrix:
        """(B, words) how often each text holds each word that some item has."""
        known = [[self._vocabulary[w] for w in text if w in self._vocabulary] for text in words]
        ends = np.cumsum([0, *map(len, known)])
        flat = np.fromiter((id for ids in known for id in ids), np.int64, ends[-1])
        ones = np.ones(len(flat), np.float32)
        shape = (len(words), len(self._vocabulary))
        counts = scipy.sparse.csr_matrix((ones, flat, ends), shape=shape)
        counts.sum_duplicates()
        return counts
