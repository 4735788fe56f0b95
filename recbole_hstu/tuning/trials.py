"""The work of a search: its trials, one after the other."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

from optuna.exceptions import TrialPruned
from optuna.trial import TrialState

from recbole_hstu.quick_start import run
from recbole_hstu.support.errors import CannotWrite, InputError
from recbole_hstu.support.secrets import masked
from recbole_hstu.tuning.search import Claim, Search, SearchPlan
from recbole_hstu.tuning.storage import STORAGE_ERRORS, storage_failures
from recbole_hstu.tuning.trials_report import write_results

logger = logging.getLogger(__name__)


def work(search: Search) -> None:
    """Run trials until the search is over.

    Raises:
        InputError: what would stop every trial, such as a full disk; this one can go on later.
        STORAGE_ERRORS: the storage has failed; so it can then.
    """
    while (claim := search.next()) is not None:
        with claim.lock:
            _run_trial(search, claim)
            with search.lock:
                write_results(search)
                _remove_checkpoints(search)


def _run_trial(search: Search, claim: Claim) -> None:
    plan, study, trial = search.plan, search.study, claim.trial
    place = f"trial {claim.number + 1} of {plan.max_trials}"
    params = plan.space.suggest(trial)
    logger.info("%s: running parameters: %s", place, params)
    folder = _checkpoint_folder(search, claim.number)
    options = {**plan.options, **params, "checkpoint_dir": str(folder)}
    cut_off = sorted(folder.glob("*.last.pth"), key=lambda file: file.stat().st_mtime_ns)
    if cut_off:
        logger.info("%s: was cut off, goes on from %s", place, cut_off[-1])
        options["resume"] = str(cut_off[-1])

    epochs = params.get("epochs", plan.epochs)

    def judge(epoch: int, score: float) -> None:
        if epoch not in claim.reported:
            trial.report(score, epoch)
        if epoch < epochs and trial.should_prune():  # after the last there is nothing to save
            raise TrialPruned

    try:
        result = run(plan.model, plan.dataset, plan.config_files, options, on_validation=judge)
        if not math.isfinite(result["best_valid_score"]):
            raise InputError(f"the validation score is {result['best_valid_score']}")
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        logger.info("%s: stopped early, others are better", place)
    except STORAGE_ERRORS:
        raise  # no trial's fault either
    except Exception as error:
        _raise_if_outside(error, place)
        known = isinstance(error, InputError)
        logger.error("%s failed: %s", place, error, exc_info=None if known else error)
        trial.set_user_attr("error", masked(f"{type(error).__name__}: {error}"))
        study.tell(trial, state=TrialState.FAIL)
    else:
        trial.set_user_attr("epochs", result["record"].epochs)
        trial.set_user_attr("valid", dict(result["record"].valid_metrics))
        study.tell(trial, float(result["best_valid_score"]))
        _log_score(search, claim.number, place)


def _log_score(search: Search, number: int, place: str) -> None:
    trial, best = search.trials()[number], search.best()
    assert best is not None
    logger.info(
        "%s: %s %.6f after %d epochs; current best valid score: %.6f (trial %d)",
        *(place, search.plan.metric, trial.value, trial.user_attrs["epochs"]),
        *(best.value, best.number + 1),
    )


def _raise_if_outside(error: BaseException, place: str) -> None:
    """A full disk or a lost folder is no trial's fault: the search ends and the trial can go on."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError | CannotWrite):
            raise InputError(
                f"{place}: {error}; mend it and start the same command again to go on"
            ) from error
        cause = cause.__cause__ or cause.__context__


def _checkpoint_folder(search: Search, number: int) -> Path:
    return search.folder / "checkpoints" / f"trial-{number + 1}"


def _remove_checkpoints(search: Search) -> None:
    """Keep the checkpoints of the best trial and of unfinished ones."""
    trials = search.trials()  # once: another process may end a better one meanwhile
    best = search.best(trials)
    for trial in trials:
        if trial.state.is_finished() and (best is None or trial.number != best.number):
            shutil.rmtree(_checkpoint_folder(search, trial.number), ignore_errors=True)


def work_on(plan: SearchPlan) -> None:
    """`work` in a process beside others."""
    with storage_failures(plan.storage_name):
        work(Search(plan))
