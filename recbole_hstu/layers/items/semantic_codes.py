"""The semantic ids of a model's items, kept in its checkpoint: serving needs no file of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from recbole_hstu.data.files.semantic_id_file import SemanticIds
from recbole_hstu.support.errors import InputError


class SemanticCodes(nn.Module):
    """Buffers of a model that reads semantic ids; it keeps them under the name `semantic_ids`.

    Attributes:
        codes: (V, levels) int32; row 0, the padding, is -1 throughout.
        level_sizes: (levels,) int64.

    Raises:
        InputError: weights are loaded that belong to other ids.
    """

    codes: torch.Tensor
    level_sizes: torch.Tensor

    def __init__(self, ids: SemanticIds):
        super().__init__()
        self.register_buffer("codes", ids.codes.int())
        self.register_buffer("level_sizes", torch.tensor(ids.level_sizes))

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *args: Any) -> None:
        before, now = state.get(f"{prefix}codes"), self.codes.cpu()
        if before is not None and not torch.equal(before.cpu(), now):
            raise InputError(
                "the checkpoint was trained with other semantic ids; name their file with "
                "--semantic_ids, or train anew"
            )
        super()._load_from_state_dict(state, prefix, *args)


def kept_ids(state: Mapping[str, Any]) -> SemanticIds | None:
    """The semantic ids in the weights of a model, None if it reads none."""
    end = "semantic_ids.codes"
    prefix = next((key.removesuffix("codes") for key in state if key.endswith(end)), None)
    if prefix is None:
        return None
    sizes = tuple(state[f"{prefix}level_sizes"].tolist())
    return SemanticIds(state[f"{prefix}codes"].long(), sizes)
