"""The retrieval half of GLoSS: recommend what reads like texts that a language model wrote.

GLoSS: Generative Language Models with Semantic Search for Sequential Recommendation (Acharya,
Petrov and Ziani, https://arxiv.org/abs/2506.01910), section 3.3. The texts come from a file.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from recbole_hstu.data.files.query_file import read_queries
from recbole_hstu.encoders.further_texts import FurtherTexts
from recbole_hstu.layers.losses import l2_normalise
from recbole_hstu.model.lis import LIS
from recbole_hstu.support.errors import InputError, first_ten

logger = logging.getLogger(__name__)
# Likenesses to the whole catalogue that exist at once.
_SCORES = 1 << 23


class GLoSS(LIS):
    """Each text of a user finds the one item nearest to it; these items are the user's list, each
    with the score of the best text that found it, and nothing else is a candidate.

    `retriever` is as for LIS, whose item vectors it shares; the texts are encoded as the items
    were. Options: `properties/model/GLoSS.yaml`.

    Raises:
        InputError: no `queries`, a file without any user of the data set, or what LIS raises.
    """

    not_searchable = "its texts were written with knowledge of the validation items"
    found: torch.Tensor
    likeness: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if not config["queries"]:
            raise InputError("queries: GLoSS ranks texts that are given to it; add --queries=FILE")
        self.USER_ID = config["USER_ID_FIELD"]
        texts = read_queries(config["queries"])
        tokens = [str(token) for token in dataset.field2id_token[self.USER_ID]]
        users = [user for user, token in enumerate(tokens) if token in texts]
        if not users:
            raise InputError(f"queries: {config['queries']}: holds no user of {config['dataset']}")
        _say_who_has_none([token for token in tokens[1:] if token not in texts], config)
        _say_who_is_unknown(sorted(texts.keys() - set(tokens[1:])), config)
        row = torch.tensor([user for user in users for _ in texts[tokens[user]]])
        column = torch.tensor([n for user in users for n, _ in enumerate(texts[tokens[user]])])
        found, likeness = self._nearest([t for user in users for t in texts[tokens[user]]], config)
        size = (len(tokens), int(column.max()) + 1)
        table = torch.zeros(size, dtype=torch.int64).index_put((row, column), found)
        self.register_buffer("found", table, persistent=False)
        table = torch.full(size, -torch.inf).index_put((row, column), likeness)
        self.register_buffer("likeness", table, persistent=False)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V): the items found for each row's user, -inf for all others."""
        users = interaction[self.USER_ID]
        scores = self.likeness.new_full((len(users), self.n_items), -torch.inf)
        return scores.scatter_reduce(1, self.found[users], self.likeness[users], "amax")

    def add_items(self, text: torch.Tensor, stand_in: str) -> None:
        """Not possible: the users' items were found when the model was built.

        Raises:
            InputError: always.
        """
        raise InputError("GLoSS takes no further items; add them to the data set and run it anew")

    def _nearest(self, texts: list[str], config) -> tuple[torch.Tensor, torch.Tensor]:
        """(n,) the item nearest to each text and (n,) its likeness; 0 and -inf where no item is
        alike at all."""
        queries: Any = texts
        if self.bm25 is None:
            encoder = FurtherTexts(config["text_features_file"], config)
            texts = [encoder.item_text.join([text]) for text in texts]
            vectors = encoder.encode(texts)
            queries = l2_normalise(torch.from_numpy(vectors))
        found, likeness = [], []
        rows = max(1, _SCORES // self.n_items)
        for start in range(0, len(texts), rows):
            scores = self._likeness(queries[start : start + rows])[:, 1:]
            best, item = scores.max(1)
            found.append(item + 1)
            likeness.append(best)
        items, values = torch.cat(found), torch.cat(likeness)
        nothing = (values == 0) | torch.tensor([not text for text in texts])
        if nothing.any():
            logger.warning("GLoSS: %d of %d texts find no item", int(nothing.sum()), len(texts))
        return items.masked_fill(nothing, 0), values.masked_fill(nothing, -torch.inf)

    def _likeness(self, queries: Any) -> torch.Tensor:
        """(B, V) of texts, or of vectors (B, width)."""
        if self.bm25 is None:
            return queries @ self.vectors.t()
        return torch.from_numpy(self.bm25.scores_of_texts(queries))


def _say_who_has_none(lacking: list[str], config) -> None:
    if lacking:
        logger.warning(
            "GLoSS: %d users have no text in %s, so no candidate: %s",
            *(len(lacking), config["queries"], first_ten(lacking)),
        )


def _say_who_is_unknown(users: list[str], config) -> None:
    if users:
        logger.warning(
            "GLoSS: %d users of %s are not in %s: %s",
            *(len(users), config["queries"], config["dataset"], first_ten(users)),
        )
