"""What a model asks of its data set while it is built, answered from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_hstu.data.files.semantic_id_file import SemanticIds
from recbole_hstu.support.errors import InputError


class NeedsDataset(InputError):
    """A model that is built from more than a checkpoint holds."""


class DatasetOfCheckpoint:
    """Stands in for RecBole's data set: sizes and tokens, no interaction.

    Args:
        config: of the run that wrote the checkpoint.
        item_tokens: in the order of the ids, entry 0 is the padding.
        user_tokens: likewise; only the padding where the model keeps nothing of its users.
        semantic_ids: that the checkpoint holds, None where the model reads none.

    Raises:
        NeedsDataset: the model asks for more, such as the graph of all interactions.
    """

    def __init__(
        self,
        config: Any,
        item_tokens: Sequence[str],
        user_tokens: Sequence[str],
        semantic_ids: SemanticIds | None,
    ):
        self.semantic_ids = semantic_ids
        self.uid_field, self.iid_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self._model = config["model"]
        self.field2id_token = {
            self.iid_field: np.asarray(item_tokens, dtype=object),
            self.uid_field: np.asarray(user_tokens, dtype=object),
        }
        history = f"{self.iid_field}{config['LIST_SUFFIX']}"
        self.field2seqlen = {history: config["MAX_ITEM_LIST_LENGTH"]}
        self.item_num, self.user_num = len(item_tokens), len(user_tokens)

    def num(self, field: str) -> int:
        """How many tokens a field has, the padding included."""
        if field not in self.field2id_token:
            raise self._lacks(field)
        return len(self.field2id_token[field])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._lacks(name)

    def _lacks(self, what: str) -> NeedsDataset:
        return NeedsDataset(
            f"{self._model} is built from its data set ({what}), which no checkpoint holds; name "
            "the folder of its atomic files (--dataset=FOLDER)"
        )
