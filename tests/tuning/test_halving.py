"""Successive halving: Optuna's decisions, and the same ones after a kill."""

import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from recbole_hstu.tuning.halving import Halving

optuna.logging.set_verbosity(optuna.logging.WARNING)
SCORES = st.lists(st.lists(st.integers(0, 9), min_size=10, max_size=10), min_size=1, max_size=12)


def epochs_of(pruner, scores, direction="maximize", ask_again=0, every=1):
    """How many epochs each trial gets; with `ask_again`, every decision is asked for anew."""
    study = optuna.create_study(direction=direction, pruner=pruner)
    for curve in scores:
        trial = study.ask()
        for epoch, score in list(enumerate(curve, 1))[every - 1 :: every]:
            trial.report(score, epoch)
            stop = trial.should_prune()
            for _ in range(ask_again):
                again = optuna.trial.Trial(study, trial._trial_id)
                assert again.should_prune() == stop
            if stop:
                break
        study.tell(trial, state=TrialState.PRUNED if stop else TrialState.FAIL)
    return [trial.last_step for trial in study.trials]


@settings(max_examples=60)
@given(SCORES, st.integers(1, 3), st.integers(2, 4), st.sampled_from(["maximize", "minimize"]))
def test_it_decides_as_optuna_does(scores, min_epochs, factor, direction):
    theirs = optuna.pruners.SuccessiveHalvingPruner(
        min_resource=min_epochs, reduction_factor=factor
    )
    ours = epochs_of(Halving(min_epochs, factor), scores, direction)
    assert ours == epochs_of(theirs, scores, direction)


@settings(max_examples=20)
@given(SCORES)
def test_a_decision_asked_for_twice_is_the_same(scores):
    assert epochs_of(Halving(1, 2), scores, ask_again=2) == epochs_of(Halving(1, 2), scores)


def test_rungs_between_two_validations():
    falling = [[9 - i] * 10 for i in range(3)]
    # rungs at 1, 3 and 9 epochs, validation every second epoch: judged at 2, 4 and 10
    assert epochs_of(Halving(1, 3), falling, every=2) == [10, 2, 2]
    rising = [[i] * 10 for i in range(3)]
    assert epochs_of(Halving(1, 3), rising, every=2) == [10, 10, 10]


def test_the_first_trial_may_stay_though_another_was_at_the_rung_before_it():
    for stays in (False, True):
        study = optuna.create_study(direction="maximize", pruner=Halving(2, 3, first_stays=stays))
        first, second = study.ask(), study.ask()
        second.report(0.9, 2)
        first.report(0.1, 2)
        assert first.should_prune() is not stays
        second.report(0.05, 6)
        assert not second.should_prune()
