"""What HSTU's score has beside the product of two vectors: recent counts, transitions."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.items.recent_counts import RecentCounts
from recbole_hstu.layers.items.transition_term import TransitionTerm
from recbole_hstu.layers.items.transitions import last_items
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
            InputError: see `RecentCounts`; or more steps than a history has events.
        """
        days, steps = config["recent_days"], config["transition_steps"]
        user = items = times = torch.zeros(0, dtype=torch.int64)
        # Without a data set a checkpoint brings what is counted.
        if (days is not None or steps is not None) and isinstance(dataset, SequenceDataset):
            events = dataset.training_events()
            fields = (dataset.uid_field, self.ITEM_ID, dataset.time_field)
            user, items, times = (events[field] for field in fields)
        self.recent = self.transitions = None
        if days is not None:
            self.recent = RecentCounts(n_items=self.n_items, days=days, items=items, times=times)
        if steps is not None:
            if steps > self.max_seq_length:
                raise InputError(
                    f"transition_steps: {steps} is more than MAX_ITEM_LIST_LENGTH "
                    f"({self.max_seq_length}), and no history is longer"
                )
            self.transitions = TransitionTerm(
                n_items=self.n_items, steps=steps, user=user, item=items
            )
        # DDP would send the counts to every process at every step.
        frozen = [
            f"{name}.{each}" for name, term in self._named() for each, _ in term.named_buffers()
        ]
        before = getattr(self, "_ddp_params_and_buffers_to_ignore", [])
        self._ddp_params_and_buffers_to_ignore = [*before, *frozen]

    def score_terms(self) -> list[RecentCounts | TransitionTerm]:
        return [term for _, term in self._named()]

    def _named(self) -> list[tuple[str, Any]]:
        named = [("recent", self.recent), ("transitions", self.transitions)]
        return [(name, term) for name, term in named if term is not None]

    def term_keys(self, interaction) -> torch.Tensor:
        """(B, F) int64, what the terms read of each row's request."""
        keys = []
        if self.recent is not None:
            keys.append(self.recent.places(self.request_times(interaction)).unsqueeze(1))
        if self.transitions is not None:
            keys.append(self.last_of_rows(interaction))
        return torch.cat(keys, dim=1)

    def last_of_rows(self, interaction) -> torch.Tensor:
        """(B, S) the last items of each row's history."""
        assert self.transitions is not None
        at = interaction[self.ITEM_SEQ_LEN] - 1
        rows = torch.arange(len(at), device=at.device)
        return last_items(interaction[self.ITEM_SEQ], rows, at, self.transitions.steps)

    def terms_at(self, keys: torch.Tensor, items: torch.Tensor | slice = slice(None)) -> Any:
        """(B, F) keys and n items that all rows share -> (B, n)."""
        total: Any = 0
        if self.recent is not None:
            total = total + self.recent.at(keys[:, 0], items)
        if self.transitions is not None:
            total = total + self.transitions.at(keys[:, -self.transitions.steps :], items)
        return total

    def terms_of_pairs(self, interaction, items: torch.Tensor) -> Any:
        """Items (B, K) after each row's history -> (B, K)."""
        total: Any = 0
        if self.recent is not None:
            total = total + self.recent.of_pairs(self.request_times(interaction), items)
        if self.transitions is not None:
            total = total + self.transitions.of_pairs(self.last_of_rows(interaction), items)
        return total

    def terms_in_training(
        self, interaction, packing: Packing, mine: Any, items: torch.Tensor, rows: Any
    ) -> Any:
        """The next item and others (T, K) of the positions `mine` -> (T, K).

        Args:
            rows: (U,) the items that ids in a batch are rows of, None where they are ids.
        """
        total: Any = 0
        ids = items if rows is None else rows[items]
        if self.recent is not None:
            total = total + self.recent.of_pairs(self.asked(interaction, packing)[mine], ids)
        if self.transitions is not None:
            places = (packing.source[mine], packing.positions[mine])
            last = last_items(interaction[self.ITEM_SEQ], *places, self.transitions.steps)
            if rows is not None:
                last = rows[last]
            total = total + self.transitions.in_training(last, ids)
        return total
