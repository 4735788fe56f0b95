"""What HSTU's score has beside the product of two vectors: recent counts, transitions."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.items.recent_counts import RecentCounts
from recbole_hstu.layers.items.transition_term import TransitionTerm
from recbole_hstu.layers.items.transitions import last_items
from recbole_hstu.layers.losses import WeighedFeatures
from recbole_hstu.model.parts.counted_events import counted_events
from recbole_hstu.support.errors import InputError


class ScoreTerms:
    """Mix-in of HSTU. A term reads the key of a request: the bin of its time, or its last items."""

    ITEM_ID: str
    ITEM_SEQ: str
    ITEM_SEQ_LEN: str
    TIME: str
    n_items: int
    max_seq_length: int
    recent: RecentCounts | None
    transitions: TransitionTerm | None
    request_times: Any
    asked: Any

    def build_score_terms(self, config, dataset) -> None:
        """`recent` and `transitions`, None where the options do not ask for them.

        Raises:
            InputError: see `RecentCounts` and `counted_events`; or more steps than a history has
                events.
        """
        days, steps = config["recent_days"], config["transition_steps"]
        self.recent = self.transitions = None
        counted = counted_events(config, dataset)
        if counted is not None:
            self.recent = RecentCounts(n_items=self.n_items, days=days, **counted)
        if steps is not None:
            if steps > self.max_seq_length:
                raise InputError(
                    f"transition_steps: {steps} is more than MAX_ITEM_LIST_LENGTH "
                    f"({self.max_seq_length}), and no history is longer"
                )
            user = items = torch.zeros(0, dtype=torch.int64)
            if isinstance(dataset, SequenceDataset):  # without one a checkpoint brings them
                events = dataset.training_events()
                user, items = events[dataset.uid_field], events[self.ITEM_ID]
            self.transitions = TransitionTerm(
                n_items=self.n_items, steps=steps, user=user, item=items
            )

    def score_terms(self) -> list[RecentCounts | TransitionTerm]:
        return [term for term in (self.recent, self.transitions) if term is not None]

    def term_keys(self, interaction) -> torch.Tensor:
        """(B, F) int64, what the terms read of each row's request."""
        at = interaction[self.ITEM_SEQ_LEN] - 1
        rows = torch.arange(len(at), device=at.device)
        time = None if self.recent is None else self.request_times(interaction)
        return self._keys(interaction[self.ITEM_SEQ], rows, at, time)

    def term_keys_in_training(
        self, interaction, packing: Packing, mine: Any, rows: torch.Tensor | None
    ) -> torch.Tensor:
        """(T, F) of the positions `mine`.

        Args:
            rows: (U,) the items that ids in a batch are rows of, None where they are ids.
        """
        history = interaction[self.ITEM_SEQ]
        time = None if self.recent is None else self.asked(interaction, packing)[mine]
        of = history if rows is None else rows[history]
        return self._keys(of, packing.source[mine], packing.positions[mine], time)

    def _keys(self, history, row, at, time) -> torch.Tensor:
        """Of places `at` in rows of histories (B, L), asked at a time, all three (T,). Models that
        see no times have none here either."""
        keys = []
        if self.recent is not None:
            keys.append(self.recent.places(time).unsqueeze(1))
        if self.transitions is not None:
            keys.append(last_items(history, row, at, self.transitions.steps))
        return torch.cat(keys, dim=1)

    def _given(self, keys: torch.Tensor) -> list[tuple[Any, torch.Tensor]]:
        """Each term, and its own part of the keys."""
        given: list[tuple[Any, torch.Tensor]] = []
        if self.recent is not None:
            given.append((self.recent, keys[:, 0]))
        if self.transitions is not None:
            given.append((self.transitions, keys[:, -self.transitions.steps :]))
        return given

    def terms_at(self, keys: torch.Tensor, items: torch.Tensor | slice = slice(None)) -> Any:
        """(B, F) keys and n items that all rows share -> (B, n)."""
        return sum(term.at(key, items) for term, key in self._given(keys))

    def terms_of_pairs(self, keys: torch.Tensor, items: torch.Tensor) -> Any:
        """(B, F) keys and items (B, K) of each -> (B, K)."""
        return sum(term.of_pairs(key, items) for term, key in self._given(keys))

    def terms_in_training(self, keys: torch.Tensor, items: torch.Tensor) -> Any:
        """`terms_of_pairs`, where the first of the items is the next event."""
        return sum(term.in_training(key, items) for term, key in self._given(keys))

    def terms_of_all(
        self, keys: torch.Tensor, next_items: torch.Tensor, temperature: float
    ) -> WeighedFeatures:
        """(T, F) keys and the next items (T,) -> `terms_in_training` of all items, divided by the
        temperature."""
        weights = torch.cat([term.weight.view(-1) for term, _ in self._given(keys)])

        def features(part: slice) -> list[torch.Tensor]:
            given, items = self._given(keys[part]), next_items[part]
            return [f for term, key in given for f in term.features_in_training(key, items)]

        return WeighedFeatures(weights / temperature, features)
