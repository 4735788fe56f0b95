"""gSASRec: SASRec with many negatives and the binary loss that calibrates for them.

gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling
(Petrov and Macdonald, RecSys 2023), https://arxiv.org/abs/2308.07192.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_hstu.layers.blocks.softmax_block import LAYER_NORM_EPS, SoftmaxLayer
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

    def layer_of(self, **shape: Any) -> nn.Module:
        return SoftmaxLayer(**shape, norm_weights=True)

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        return self.normalised(self.norm(x))
