"""Candidates that are sampled beside a target (`eval_args` mode `uni100` or `pop100`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.sampler import RepeatableSampler

from recbole_hstu.support.settings import Settings

_SEED = 2020  # RecBole's; that of the run has no say
_PHASES = ("valid", "test")


class SampledCandidates(RepeatableSampler):
    """RecBole's sampler with a generator for each target, so that every model, seed and epoch has
    the same candidates beside it. RecBole's draw from numpy's global one, which training moves.

    All items but the target are drawn from, for all models alike: RecBole's general models would
    have none of a user's own items among theirs.
    """

    def get_used_ids(self) -> None:
        """RecBole's makes a set for every user."""

    def _build_alias_table(self) -> None:
        self._items, counts = np.unique(self._get_candidates_list(), return_counts=True)
        self._weights = counts**self.alpha
        self._reached = np.cumsum(self._weights)

    def sample_by_user_ids(
        self, user_ids: np.ndarray, item_ids: np.ndarray, num: int
    ) -> torch.Tensor:
        """(num * B,) items beside the targets (B,) of users (B,), those of a target B apart."""
        draw = self._by_popularity if self.distribution == "popularity" else self._uniform
        pairs = zip(user_ids.tolist(), item_ids.tolist(), strict=True)
        drawn = [draw(np.random.default_rng((_SEED, *pair)), pair[1], num) for pair in pairs]
        return torch.from_numpy(np.stack(drawn, axis=1).reshape(-1))

    def _uniform(self, generator: np.random.Generator, target: int, num: int) -> np.ndarray:
        others = generator.integers(1, self.item_num - 1, num)
        return others + (others >= target)

    def _by_popularity(self, generator: np.random.Generator, target: int, num: int) -> np.ndarray:
        place = np.searchsorted(self._items, target)
        own, end = self._weights[place], self._reached[place]
        drawn = generator.random(num) * (self._reached[-1] - own)
        drawn[drawn >= end - own] += own  # past the target
        return self._items[np.searchsorted(self._reached, drawn, side="right")]


def evaluation_samplers(config: Settings, dataset: Any) -> list[SampledCandidates | None]:
    """Of validation and test, None where nothing is drawn."""
    kind_of = {phase: config[f"{phase}_neg_sample_args"]["distribution"] for phase in _PHASES}
    kinds = set(kind_of.values()) - {"none"}
    made = {kind: SampledCandidates(list(_PHASES), dataset, kind) for kind in kinds}
    return [
        made[kind].set_phase(phase) if kind in made else None for phase, kind in kind_of.items()
    ]
