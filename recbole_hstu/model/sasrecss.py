"""SASRecSS: the SASRec column of the HSTU and HSTU-BLaIR papers.

Self-Attentive Sequential Recommendation (Kang and McAuley, ICDM 2018) with the input, the sampled
softmax and the training of HSTU, as the public experiments of HSTU have it. RecBole's SASRec is
another model: it trains on every prefix with full cross-entropy and unnormalised scores.
"""

from __future__ import annotations

from torch import nn

from recbole_hstu.config.config import option
from recbole_hstu.layers.packing import Packing
from recbole_hstu.layers.softmax_block import SoftmaxLayer, same_row_mask
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.support.errors import InputError

# Options of HSTU, and what stands in their place.
NOT_HERE = {
    **dict.fromkeys(("qk_size", "v_size"), "a head is hidden_size / n_heads wide"),
    "torch_compile": "its attention is a kernel of torch's own",
}


class SASRecSS(HSTU):
    """SASRec trained as HSTU is. Options: `properties/model/SASRecSS.yaml`.

    It sees the order of the events, not their times.

    Raises:
        InputError: an option of HSTU's attention is set, or heads that do not divide `hidden_size`.
    """

    reads_times = False

    def __init__(self, config, dataset):
        for key, instead in NOT_HERE.items():
            if config[key] is not None and config[key] is not False:
                raise InputError(f"{key}: SASRecSS has no such option; {instead}")
        super().__init__(config, dataset)

    def build_layer(self, config) -> nn.Module:
        return SoftmaxLayer(
            hidden_size=self.hidden_size,
            n_heads=option(config, "n_heads"),
            inner_size=option(config, "inner_size"),
            dropout=option(config, "hidden_dropout_prob"),
        )

    def layer_context(self, interaction, packing: Packing) -> tuple:
        groups = packing.lines(packing.pad(packing.row.unsqueeze(-1)))
        return ([same_row_mask(rows.squeeze(-1)) for rows in groups],)
