"""HSTU over ids and frozen item text (HSTU-BLaIR, https://arxiv.org/abs/2504.10545)."""

from __future__ import annotations

import torch
from torch import nn

from recbole_hstu.config import option
from recbole_hstu.data.text_features import align, read_text_features
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.item_encoder import FusedEncoder


class HSTUText(HSTU):
    """HSTU whose item vectors fuse ids with text vectors of any encoder.

    Options: `properties/model/HSTUText.yaml`. With `fusion: id_only` it is HSTU, bit for bit.

    Raises:
        InputError: no text vectors, or none for some items.
    """

    needs_text_features = True

    def build_item_encoder(self, config, dataset) -> nn.Module:
        if option(config, "fusion") == "id_only":
            return super().build_item_encoder(config, dataset)
        features = read_text_features(option(config, "text_features_file"))
        table = align(
            features,
            dataset.field2id_token[dataset.iid_field],
            missing="zero" if config["text_missing"] == "zero" else "error",
        )
        # DDP would send the frozen table to every process at every step.
        self._ddp_params_and_buffers_to_ignore = ["items.text"]
        return FusedEncoder(
            text=torch.from_numpy(table),
            text_hash=features.content_hash,
            hidden_size=self.hidden_size,
            fusion=config["fusion"],
            negative_projection=option(config, "negative_projection"),
        )
