"""gSASRec: SASRec with many negatives and the binary loss that calibrates for them.

gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling
(Petrov and Macdonald, RecSys 2023), https://arxiv.org/abs/2308.07192.
"""

from __future__ import annotations

import torch
from torch import nn

from recbole_hstu.config.config import option
from recbole_hstu.layers.softmax_block import LAYER_NORM_EPS, SoftmaxLayer
from recbole_hstu.model.sasrecss import SASRecSS


class gSASRec(SASRecSS):
    """SASRec as its paper has it, trained with gBCE (`layers/gbce.py`) at every position.

    Options: `properties/model/gSASRec.yaml`.

    Raises:
        InputError: heads that do not divide `hidden_size`.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.norm = nn.LayerNorm(self.hidden_size, eps=LAYER_NORM_EPS)

    def build_layer(self, config) -> nn.Module:
        return SoftmaxLayer(
            hidden_size=self.hidden_size,
            n_heads=option(config, "n_heads"),
            inner_size=option(config, "inner_size"),
            dropout=option(config, "hidden_dropout_prob"),
            norm_weights=True,
        )

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        return self.normalised(self.norm(x))
