"""ItemGraph: recommend what other users had next to the last events. No training.

How far such a graph goes on the usual data sets: Han et al., 2026,
https://arxiv.org/abs/2605.07125, whose own heuristic walks several steps of it and compares texts.
"""

from __future__ import annotations

import torch

from recbole_hstu.config.config import option
from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.layers.items.transitions import Transitions, last_items, reached_from
from recbole_hstu.model.parts.training_free import TrainingFree

# Lighter transitions count as none: popularity, which comes after all others, must be lighter yet.
_LEAST = 1e-30


class ItemGraph(TrainingFree):
    """Scores an item by its transitions from the last events of the history:

        score(j) = sum over steps s back from the end of s^-a * w(i_s, j)

    with w and a of `Transitions`. Items that no transition reaches follow by popularity.
    Options: `properties/model/ItemGraph.yaml`.
    """

    neighbours: torch.Tensor
    weights: torch.Tensor
    popularity: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.max_distance = option(config, "max_distance")
        self.decay = option(config, "distance_decay")
        width = min(option(config, "n_neighbours"), self.n_items)
        self.register_buffer("neighbours", torch.zeros(self.n_items, width, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(self.n_items, width))
        self.register_buffer("popularity", torch.zeros(self.n_items))
        if isinstance(dataset, SequenceDataset):  # without one a checkpoint brings the graph
            self._learn(config, dataset)

    def _learn(self, config, dataset: SequenceDataset) -> None:
        events = dataset.training_events()
        fields = (dataset.uid_field, self.ITEM_ID, dataset.time_field)
        transitions = Transitions(
            *(events[field].numpy() for field in fields),
            n_items=self.n_items,
            max_distance=self.max_distance,
            distance_decay=self.decay,
            half_life=option(config, "half_life"),
            backward=option(config, "backward"),
            popularity_exponent=option(config, "popularity_exponent"),
        )
        neighbours, weights = transitions.heaviest(self.weights.shape[1])
        weights[weights < _LEAST] = 0
        self.neighbours.copy_(neighbours)
        self.weights.copy_(weights)
        known = self.weights[self.weights > 0]
        back = min(self.max_distance, self.max_seq_length)
        least = known.min() * back**-self.decay if len(known) else torch.ones(())
        counts = torch.from_numpy(transitions.counts).float()
        self.popularity.copy_(counts / counts.max() * least / 2)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) scores of the whole catalogue."""
        history, at = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN] - 1
        rows = torch.arange(len(at), device=at.device)
        last = last_items(history, rows, at, min(self.max_distance, history.shape[1]))
        return self.popularity + reached_from(last, self.neighbours, self.weights, self.decay)
