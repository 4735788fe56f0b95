"""SASRecSS: the SASRec column of the HSTU and HSTU-BLaIR papers.

Self-Attentive Sequential Recommendation (Kang and McAuley, ICDM 2018) with the input, the sampled
softmax and the training of HSTU, as the public experiments of HSTU have it. RecBole's SASRec is
another model: it trains on every prefix with full cross-entropy and unnormalised scores.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from recbole_hstu.config.config import option
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.blocks.softmax_block import SoftmaxLayer, same_row_masks
from recbole_hstu.model.hstu import HSTU


class SASRecSS(HSTU):
    """SASRec trained as HSTU is. Options: `properties/model/SASRecSS.yaml`.

    It sees the order of the events, not their times.

    Raises:
        InputError: heads that do not divide `hidden_size`.
    """

    reads_times = False

    def build_layer(self, config) -> nn.Module:
        return self.layer_of(
            hidden_size=self.hidden_size,
            n_heads=option(config, "n_heads"),
            inner_size=option(config, "inner_size"),
            dropout=option(config, "hidden_dropout_prob"),
        )

    def layer_of(self, **shape: Any) -> nn.Module:
        """A layer of this shape: `hidden_size`, `n_heads`, `inner_size`, `dropout`."""
        return SoftmaxLayer(**shape)

    def layer_context(self, interaction, packing: Packing) -> tuple:
        return (same_row_masks(packing),)
