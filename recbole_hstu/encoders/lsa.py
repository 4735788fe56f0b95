"""Latent semantic analysis: TF-IDF and a truncated singular value decomposition.

No download, and the same vectors on every run: the reference for trying things out. The
decomposition belongs to the corpus, so all texts of a data set are encoded together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from recbole_hstu.encoders.base import Batch, Encoder
from recbole_hstu.encoders.options import TextOptions
from recbole_hstu.support.errors import InputError

MAX_TERMS = 50_000
SEED = 2024
_ALIKE = 1e-6  # of vectors of length 1 at most: those that differ by less are one

logger = logging.getLogger(__name__)


class LSAEncoder(Encoder):
    """TF-IDF rows of unit length times the first `text_dimensions` right singular vectors.

    Terms are words of two characters or more with 1 + log(count); of more than 50,000 terms the
    most frequent are kept. The texts are the corpus: equal sets of texts give equal vectors,
    whatever their order. A text without any word has no direction and gets zeros, which is logged.
    """

    name = "lsa"
    per_text = False

    def __init__(self, options: TextOptions) -> None:
        import sklearn

        self.revision = f"scikit-learn {sklearn.__version__}"
        self.dimensions = options.text_dimensions
        self.identity = {"encoder": "lsa", "dimensions": self.dimensions}

    def batches(self, texts: Sequence[str], *, progress: bool = True) -> Iterator[Batch]:
        """One batch: the corpus."""
        corpus = sorted(set(texts) - {""})
        where = {text: row for row, text in enumerate(corpus)}
        fitted = self._fit(corpus)
        table = np.concatenate([fitted, np.zeros((1, fitted.shape[1]), np.float32)])
        rows = [where.get(text, len(corpus)) for text in texts]
        wordless = sum(not table[row].any() for row in rows)
        if wordless:
            logger.warning("lsa: %s texts have no word in them; their vectors are zero", wordless)
        yield list(range(len(texts))), table[rows]

    def encode_further(self, texts: Sequence[str], state: Mapping[str, np.ndarray]) -> np.ndarray:
        """The fitted weights and directions; words that the corpus lacks say nothing."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not state:
            raise InputError(
                "the file of text vectors is of a release that did not keep lsa's fit; delete it "
                "and make it anew with recbole-hstu encode, or give vectors"
            )
        names = state["terms"].tobytes().decode("utf-8").split("\n")
        terms = TfidfVectorizer(sublinear_tf=True, vocabulary=names, dtype=np.float32)
        terms.idf_ = state["idf"]
        table = terms.transform(texts) @ state["directions"].T
        wordless = int((~table.any(1)).sum())
        if wordless:
            logger.warning("lsa: %s new texts have no known word; their vectors are zero", wordless)
        return np.asarray(table, dtype=np.float32)

    def _fit(self, corpus: list[str]) -> np.ndarray:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits

        terms = TfidfVectorizer(sublinear_tf=True, max_features=MAX_TERMS, dtype=np.float32)
        try:
            weights = terms.fit_transform(corpus)
        except ValueError as error:
            raise InputError(
                f"lsa: {len(corpus):,} texts hold no word of two characters or more; "
                "see the data set's item_text property"
            ) from error
        dimensions = min(self.dimensions, *weights.shape)
        if dimensions < self.dimensions:
            logger.warning(
                "lsa: %s texts with %s terms span at most %s dimensions, not text_dimensions %s",
                *(f"{n:,}" for n in weights.shape),
                dimensions,
                self.dimensions,
            )
        logger.info(
            "lsa: %s texts, %s terms, %s dimensions",
            *(f"{n:,}" for n in weights.shape),
            dimensions,
        )
        svd = TruncatedSVD(dimensions, n_iter=7, random_state=SEED)
        # One BLAS thread: sums in one order, so that the bits do not depend on the machine's cores.
        # Texts that are alike have no variance, by which scikit-learn then divides.
        with threadpool_limits(1, "blas"), np.errstate(invalid="ignore", divide="ignore"):
            table = svd.fit_transform(weights).astype(np.float32)
        if np.ptp(table, axis=0).max() <= _ALIKE:
            logger.warning("lsa: all texts are alike, so that their vectors tell items nothing")
        self.state = {
            "terms": np.frombuffer("\n".join(terms.get_feature_names_out()).encode(), np.uint8),
            "idf": terms.idf_.astype(np.float32),
            "directions": np.ascontiguousarray(svd.components_, dtype=np.float32),
        }
        return table
