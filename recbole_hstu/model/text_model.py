"""What models that read item text have in common."""

from __future__ import annotations

import hashlib

import torch

from recbole_hstu.config.config import option
from recbole_hstu.data.side_feature_file import align, read_text_features

_HASHED_ROWS = 1 << 15  # at once, as float32


def reads_text(model: type, config) -> bool:
    """Whether a model reads a side-feature file with these options."""
    without = (
        config["fusion"] == "id_only"
        or config["retriever"] == "bm25"
        or config["ablation"] == "without_dense"
    )
    return getattr(model, "needs_text_features", False) and not without


class TextModel:
    """Mix-in of a model that reads a side-feature file (`properties/model/TextModel.yaml`).

    A run sees to it that the file is there: `text_features_file`, or one made from the item text.
    """

    needs_text_features = True
    text_width: int | None = None  # of the vectors, once `text_vectors` has read them

    def text_vectors(self, config, dataset) -> tuple[torch.Tensor, str]:
        """The frozen vectors (V, text width) in the order of the item ids, float32 or float16 as
        their file has them, and the hash of them as float32, which stands for them in a checkpoint.

        Raises:
            InputError: no text vectors, or none for some items.
        """
        features = read_text_features(option(config, "text_features_file"))
        table = align(
            features,
            dataset.field2id_token[dataset.iid_field],
            missing="zero" if config["text_missing"] == "zero" else "error",
        )
        self.text_width = table.shape[1]
        vectors, digest = torch.from_numpy(table), hashlib.sha256()
        for rows in vectors.split(_HASHED_ROWS):
            digest.update(rows.float().numpy().data)
        return vectors, digest.hexdigest()
