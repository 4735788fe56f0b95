"""What models without training have in common."""

from __future__ import annotations

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType, ModelType
from torch import nn

from recbole_hstu.data.sequence_dataset import InteractionDataset
from recbole_hstu.support.errors import InputError


class TrainingFree(SequentialRecommender):
    """A model that scores the catalogue from histories and learns nothing by gradients.

    Raises:
        InputError: data without histories.
    """

    type = ModelType.TRADITIONAL  # RecBole then makes one pass over the data, as for Pop
    input_type = InputType.POINTWISE
    sequence_view = "user"

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if isinstance(dataset, InteractionDataset):
            raise InputError(
                f"{config['model']} recommends from histories, which need eval_args: {{order: TO}} "
                "and no benchmark_filename; leave both out"
            )
        self.nothing = nn.Parameter(torch.zeros(1))  # RecBole wants something to optimise

    def calculate_loss(self, interaction) -> torch.Tensor:
        """Zero: there is nothing to learn."""
        return 0 * self.nothing.sum()

    def predict(self, interaction) -> torch.Tensor:
        """(B,) score of each row's `item_id`."""
        scores = self.full_sort_predict(interaction)
        return scores.gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)
