"""HSTU over ids and frozen item text (HSTU-BLaIR, https://arxiv.org/abs/2504.10545)."""

from __future__ import annotations

import logging

import torch
from torch import nn

from recbole_hstu.config.config import option
from recbole_hstu.layers.items.item_encoder import FusedEncoder
from recbole_hstu.layers.items.mapped_text import MappedText, to_length
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.parts.text_model import TextModel
from recbole_hstu.support.errors import InputError

logger = logging.getLogger(__name__)


class HSTUText(TextModel, HSTU):
    """HSTU whose item vectors fuse ids with text vectors of any encoder.

    Options: `properties/model/HSTUText.yaml`. With `fusion: id_only` it is HSTU, bit for bit.

    Raises:
        InputError: no text vectors, or none for some items; semantic ids beside them.
    """

    def build_item_encoder(self, config, dataset) -> nn.Module:
        if option(config, "fusion") == "id_only":
            return super().build_item_encoder(config, dataset)
        if config["semantic_ids"] is not None:
            raise InputError(
                f"semantic_ids: {config['semantic_ids']} with fusion: {config['fusion']} would say "
                "the same twice, ids are made from text; take HSTU, or fusion: id_only"
            )
        read = self.mapped_text if stays_mapped(config) else self.text_vectors
        text, text_hash = read(config, dataset)
        self.text_scale = config["text_scale"]
        return FusedEncoder(
            text=self.scaled(text),
            text_hash=text_hash,
            hidden_size=self.hidden_size,
            fusion=config["fusion"],
            negative_projection=option(config, "negative_projection"),
            sparse=config["learner"] == "lazy_adamw",
        )

    def scaled(self, text):
        """(n, width) text vectors, brought to the length `text_scale`; a zero stays one."""
        if self.text_scale is None:
            return text
        if isinstance(text, MappedText):
            return text.to_length(self.text_scale)
        return to_length(text, self.text_scale)

    def add_items(self, text: torch.Tensor, stand_in: str) -> None:
        """Items behind the others that no training has seen, by their text vectors (n, width)."""
        self.items.add_items(self.scaled(text), stand_in)
        self.n_items += len(text)
        for term in self.score_terms():
            term.add_items(len(text))


def stays_mapped(config) -> bool:
    """Whether the text vectors stay in their file: where the CPU computes."""
    if config["text_memory"] != "mapped":
        return False
    if config["device"].type == "cpu":
        return True
    logger.warning("text_memory: mapped is for the CPU; the vectors lie in %s", config["device"])
    return False
