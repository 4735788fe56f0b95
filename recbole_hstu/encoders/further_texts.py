"""Texts of new items -> vectors, by the encoder that made a side-feature file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hstu.data.files.item_text import ItemText
from recbole_hstu.data.files.side_feature_file import read_encoder_state, read_text_header
from recbole_hstu.encoders.encode_items import build_encoder, scaled
from recbole_hstu.encoders.options import TextOptions
from recbole_hstu.encoders.vector_cache import encode_texts
from recbole_hstu.support.errors import InputError


class FurtherTexts:
    """Encodes texts as those of a side-feature file were encoded.

    Args:
        path: of the file.
        config: the text options of the run that read it: they say where the model is.

    Attributes:
        item_text: how the text of an item is put together.

    Raises:
        InputError: a file that cannot be read, or that no encoder of this package has made.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]):
        self._path = Path(path)
        self._made = read_text_header(path).provenance
        if not {"options", "item_text", "revision"} <= set(self._made):
            raise InputError(
                f"{path}: does not say which encoder made its vectors; give vectors, not texts"
            )
        self.item_text = ItemText.from_property(self._made["item_text"])
        options = TextOptions.from_mapping(config)
        known = options.decisive == self._made["options"]  # and a model in a folder has its place
        self._options = options if known else TextOptions.from_mapping(self._made["options"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) float32.

        Raises:
            InputError: the encoder, or its revision, is not there; nothing comes of a text.
        """
        options, revision = self._options, self._made["revision"]
        if options.text_encoder == "huggingface" and not options.is_local:
            options = replace(options, text_revision=revision)
        encoder = build_encoder(options)
        if encoder.per_text and encoder.revision != revision:
            raise InputError(
                f"{self._path}: was made by {encoder.name} of revision {revision}, and here is "
                f"{encoder.revision}; give vectors, or make the file and the model anew"
            )
        if encoder.per_text:
            vectors = encode_texts(encoder, texts, progress=False)
        else:
            vectors = encoder.encode_further(texts, read_encoder_state(self._path))
        return scaled(vectors, options).astype(options.text_storage_dtype).astype(np.float32)
