"""What models that read item text have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recbole_hstu.config.config import Config, option
from recbole_hstu.data.files.side_feature_file import item_rows, read_text_features
from recbole_hstu.layers.items.mapped_text import MappedText
from recbole_hstu.support.errors import InputError

_HASHED_ROWS = 1 << 15  # at once, as float32


def reads_text(model: type, config) -> bool:
    """Whether a model reads a side-feature file with these options."""
    without = (
        config["fusion"] == "id_only"
        or config["retriever"] == "bm25"
        or config["ablation"] == "without_dense"
    )
    return getattr(model, "needs_text_features", False) and not without


def text_config(
    model: str | type,
    dataset: str | None,
    config_file_list: Sequence[str | Path] | None,
    config_dict: Mapping[str, Any] | None,
    taken_out: Collection[str] = (),
) -> Config:
    """The configuration of a model whose text options count; arguments as of `Config`.

    Raises:
        InputError: a model that reads no text, or see `Config`.
    """
    config = Config(model, dataset, config_file_list, config_dict, taken_out=taken_out)
    if not getattr(config.model_class, "needs_text_features", False):
        raise InputError(f"--model={model}: reads no item text; leave it out or name HSTUText")
    return config


class TextModel:
    """Mix-in of a model that reads a side-feature file (`properties/model/TextModel.yaml`).

    A run sees to it that the file is there: `text_features_file`, or one made from the item text.
    """

    needs_text_features = True
    text_width: int | None = None  # of the vectors, once they were read

    def text_vectors(self, config, dataset) -> tuple[torch.Tensor, str]:
        """The frozen vectors (V, text width) in the order of the item ids, float32 or float16 as
        their file has them, and the hash of them as float32, which stands for them in a checkpoint.

        Raises:
            InputError: no text vectors, or none for some items.
        """
        text, digest = self.mapped_text(config, dataset)
        return text[:], digest

    def mapped_text(self, config, dataset) -> tuple[MappedText, str]:
        """What `text_vectors` gives, but the vectors stay where their file lies.

        Raises:
            InputError: see `text_vectors`.
        """
        features = read_text_features(option(config, "text_features_file"))
        tokens = dataset.field2id_token[dataset.iid_field]
        rows = item_rows(features, tokens, zeros=config["text_missing"] == "zero")
        text = MappedText.of_file(torch.from_numpy(features.vectors), torch.from_numpy(rows))
        self.text_width = features.dim
        return text, _hash_of(text)


def _hash_of(text: MappedText) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(text), _HASHED_ROWS):
        digest.update(text[start : start + _HASHED_ROWS].float().numpy().data)
    return digest.hexdigest()
