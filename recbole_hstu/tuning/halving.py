"""Asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter
Tuning, MLSys 2020) that a kill cannot sway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optuna.pruners import BasePruner
from optuna.study import StudyDirection


class Halving(BasePruner):
    """Stops a trial that is not among the best at a rung.

    The rungs lie at `min_epochs`, `min_epochs * factor`, `min_epochs * factor ** 2`, ... epochs. A
    trial goes on beyond one if its score there is among the best 1 / `factor` of all that got so
    far; of the first few, if it is the best. Optuna's `SuccessiveHalvingPruner` decides the same
    but remembers in the trial which rungs it has passed, so that a trial that is killed between
    that note and its end passes when it is taken up again. This one looks at the scores alone.

    Args:
        first_stays: whether the first trial always goes on.
    """

    def __init__(self, min_epochs: int, factor: int, *, first_stays: bool = False):
        self.min_epochs = min_epochs
        self.factor = factor
        self.first_stays = first_stays

    def prune(self, study: Any, trial: Any) -> bool:
        """Whether the trial's last report (its step is the epoch, from 1) ends it."""
        if self.first_stays and trial.number == 0:
            return False
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        for rung in self._rungs_reached_by_last_report(trial.intermediate_values):
            mine = trial.intermediate_values[max(trial.intermediate_values)]
            reached = [_score_at(t.intermediate_values, rung) for t in trials]
            scores = sorted([mine, *(score for score in reached if score is not None)])
            if study.direction == StudyDirection.MAXIMIZE:
                scores = [-score for score in reversed(scores)]
                mine = -mine
            if not mine <= scores[max(1, len(scores) // self.factor) - 1]:
                return True
        return False

    def _rungs_reached_by_last_report(self, values: dict[int, float]) -> Iterator[int]:
        *before, last = sorted(values)
        rung = self.min_epochs
        while rung <= last:
            if not before or before[-1] < rung:
                yield rung
            rung *= self.factor


def _score_at(values: dict[int, float], rung: int) -> float | None:
    """The first score at or after a rung: validation need not come every epoch."""
    step = min((step for step in values if step >= rung), default=None)
    return None if step is None else values[step]
