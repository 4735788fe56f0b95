"""eSASRec: SASRec with LiGR layers and a sampled softmax.

eSASRec: Enhancing Transformer-based Recommendations in a Modular Fashion (Tikhonovich et al.,
RecSys 2025), https://arxiv.org/abs/2508.06450.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from recbole_hstu.layers.blocks.ligr_block import LiGRLayer
from recbole_hstu.model.sasrecss import SASRecSS


class eSASRec(SASRecSS):
    """SASRec's training with LiGR layers. Options: `properties/model/eSASRec.yaml`.

    It sees the order of the events, not their times. The input is HSTU's: item vectors times
    sqrt(D) and positions from the oldest event on. The paper's code does not scale them, and
    counts from the newest.

    Raises:
        InputError: heads that do not divide `hidden_size`.
    """

    def layer_of(self, **shape: Any) -> nn.Module:
        return LiGRLayer(**shape)
