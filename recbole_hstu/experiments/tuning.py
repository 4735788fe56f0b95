"""Hyper-parameter tuning: trials one after the other or side by side, judged by validation."""

from __future__ import annotations

import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recbole_hstu.config import Config
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.errors import InputError
from recbole_hstu.experiments.compare import study_log
from recbole_hstu.experiments.plan import JUDGED, PlannedRun, Variant, plan_runs
from recbole_hstu.experiments.search_space import Space, read_space
from recbole_hstu.experiments.study import wanted_settings
from recbole_hstu.quick_start import load_dataset, provide_text, run
from recbole_hstu.run_record import check_segments

try:
    from optuna.exceptions import TrialPruned
    from optuna.trial import TrialState

    from recbole_hstu.experiments.search import ALGORITHMS, Claim, Search, SearchPlan
    from recbole_hstu.experiments.tuning_report import plot, write_results
except ImportError as error:
    raise InputError('tuning needs optuna: pip install "recbole-hstu[hyper]"') from error

logger = logging.getLogger(__name__)

_DEFAULTS: dict[str, Any] = {
    "params_file": None,
    "algo": "bayes",
    "max_trials": None,
    "early_stop": None,
    "jobs": 1,
    "min_epochs": None,
    "reduction_factor": 3,
    "results_dir": None,
    "output_file": None,
    "storage": None,
    "study_name": None,
}
_TRIALS = 20
# Beside what decides how a trial is judged: what a search keeps for itself.
_NOT_SEARCHED = (*JUDGED, "model", "dataset", "valid_metric", "checkpoint_dir", "resume", "seed")


def tune(
    model: str,
    dataset: str | None,
    config_files: Sequence[str | Path] = (),
    options: Mapping[str, Any] | None = None,
) -> tuple[str, bool]:
    """Search for the options with the best validation score; the test set is never ranked.

    The same call again goes on with the search; see docs/tuning.md for what lies in `results_dir`.

    Args:
        options: those of the model, and `params_file` (the space), `algo`, `max_trials` (RecBole's
            `max_evals` is understood), `early_stop`, `jobs` (processes), `min_epochs` and
            `reduction_factor` (of `halving`), `results_dir`, `output_file`, `storage`,
            `study_name`.

    Returns:
        The table of trials as text, and whether no trial has come to its end.

    Raises:
        InputError: bad input, and nothing has been trained; or what stops every trial, such as a
            full disk.
    """
    options = dict(options or {})
    if "max_evals" in options:
        options.setdefault("max_trials", options.pop("max_evals"))
    search = {key: options.pop(key, default) for key, default in _DEFAULTS.items()}
    options.setdefault("show_progress", False)
    jobs = _whole("jobs", search["jobs"])
    planned, plan = _plan(model, dataset, config_files, options, search)
    _check_data(planned)
    with study_log():
        opened = Search(plan)
        logger.info("%s", _heading(opened))
        if jobs == 1:
            _work(opened)
        elif opened.open_trials():
            _work_side_by_side(plan, jobs)
        with opened.lock:
            text = write_results(opened, search["output_file"])
        plot(opened)
    left = len(opened.open_trials())
    if left:
        raise InputError(
            f"{plan.folder}: {left} trials are not finished, and all workers have ended; start "
            "the same command again to go on"
        )
    return text, opened.best() is None


def _plan(
    model: str,
    dataset: str | None,
    config_files: Sequence[str | Path],
    options: Mapping[str, Any],
    search: Mapping[str, Any],
) -> tuple[PlannedRun, SearchPlan]:
    """What is going to be searched.

    Raises:
        InputError: options or a space that make no sense.
    """
    for key in ("checkpoint_dir", "resume"):
        if options.get(key):
            raise InputError(f"--{key}: a search keeps checkpoints of its own; leave it out")
    if search["params_file"] is None:
        raise InputError("--params_file is missing: a search space, such as --params_file=HSTU")
    if search["algo"] not in ALGORITHMS:
        raise InputError(f"--algo={search['algo']}: known are {', '.join(ALGORITHMS)}")
    (planned,) = plan_runs([Variant(model, model, {})], dataset, config_files, options, None)
    config = planned.config
    space = read_space(str(search["params_file"]))
    _check_space(space, planned)
    grid = len(list(space.grid())) if search["algo"] == "exhaustive" else None
    wanted = _whole("max_trials", search["max_trials"])
    max_trials = min(wanted or grid or _TRIALS, grid or math.inf)
    folder = search["results_dir"] or f"results/tune-{planned.model}-{planned.dataset}"
    halving = {
        "min_epochs": _whole("min_epochs", search["min_epochs"]) or max(1, config["epochs"] // 27),
        "reduction_factor": _whole("reduction_factor", search["reduction_factor"], least=2),
    }
    settings = {"algo": search["algo"], **(halving if search["algo"] == "halving" else {})}
    settings |= {f"{name} in {space.file}": spec for name, spec in space.plain().items()}
    return planned, SearchPlan(
        model=planned.model,
        dataset=planned.dataset,
        config_files=tuple(config_files),
        options=planned.options,
        space=space,
        algo=search["algo"],
        max_trials=int(max_trials),
        early_stop=_whole("early_stop", search["early_stop"]),
        **halving,
        seed=planned.seed,
        metric=str(config["valid_metric"]).lower(),
        bigger=config["valid_metric_bigger"],
        folder=Path(str(folder)),
        storage=search["storage"],
        study_name=str(search["study_name"] or f"{planned.model}-{planned.dataset}"),
        settings=wanted_settings(planned) | settings,
    )


def _whole(key: str, value: Any, least: int = 1) -> Any:
    if value is not None and (type(value) is not int or value < least):
        raise InputError(f"--{key}={value}: expected a whole number from {least} on")
    return value


def _check_space(space: Space, planned: PlannedRun) -> None:
    """Whether every option is one of the model's and every value one that it takes."""
    masked = ("MAX_ITEM_LIST_LENGTH",) if planned.config["mask_seen"] else ()
    for parameter in space.parameters:
        where = f"{space.file}: {parameter.name}"
        if parameter.name in (*_NOT_SEARCHED, *masked):
            raise InputError(f"{where}: decides how trials are judged or kept; leave it out")
        if parameter.name in planned.options:
            raise InputError(f"{where}: is given as an option, too; leave one of them out")
        for value in parameter.extremes():
            options = {**planned.options, parameter.name: value}
            try:
                Config(planned.model, planned.dataset, planned.config_files, options)
            except InputError as error:
                raise InputError(f"{where}: {error}") from error


def _check_data(planned: PlannedRun) -> None:
    """Whether the data can be used and validate; text vectors are made here, once for all."""
    config = planned.config
    check_segments(config)
    train, valid, _ = make_loaders(config, load_dataset(config))
    if valid is None or not config["eval_step"]:
        name = f"--protocol={config['protocol']}" if config["eval_step"] else "--eval_step=0"
        raise InputError(
            f"{name}: nothing is validated, and validation decides a search, never the test set; "
            "use --protocol=recbole --eval_step=1"
        )
    provide_text(config, train._dataset)


def _heading(search: Search) -> str:
    plan, trials = search.plan, search.trials()
    done = sum(t.state.is_finished() for t in trials)
    before = f", {done} of them finished before" if done else ""
    return f"{plan.folder}: {plan.algo}, {plan.max_trials} trials{before}"


def _work(search: Search) -> None:
    while (claim := search.next()) is not None:
        with claim.lock:
            _run_trial(search, claim)
            _tidy(search)


def _run_trial(search: Search, claim: Claim) -> None:
    plan, study, trial = search.plan, search.study, claim.trial
    place = f"trial {claim.number + 1} of {plan.max_trials}"
    params = plan.space.suggest(trial)
    logger.info("%s: running parameters: %s", place, params)
    folder = _checkpoints(search, claim.number)
    options = {**plan.options, **params, "checkpoint_dir": str(folder)}
    cut_off = sorted(folder.glob("*.last.pth"), key=lambda file: file.stat().st_mtime_ns)
    if cut_off:
        logger.info("%s: was cut off, goes on from %s", place, cut_off[-1])
        options["resume"] = str(cut_off[-1])

    def judge(epoch: int, score: float) -> None:
        if epoch + 1 not in claim.reported:
            trial.report(score, epoch + 1)
        if trial.should_prune():
            raise TrialPruned

    try:
        result = run(plan.model, plan.dataset, plan.config_files, options, on_validation=judge)
        score, record = float(result["best_valid_score"]), result["record"]
        if not math.isfinite(score):
            raise InputError(f"the validation score is {score}")
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        logger.info("%s: stopped early, others are better", place)
    except Exception as error:
        _raise_if_outside(error, place)
        known = isinstance(error, InputError)
        logger.error("%s failed: %s", place, error, exc_info=None if known else error)
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
    else:
        trial.set_user_attr("epochs", record.epochs)
        trial.set_user_attr("valid", dict(record.valid_metrics))
        study.tell(trial, score)
        best = search.best()
        assert best is not None
        logger.info(
            "%s: %s %.6f after %d epochs; current best valid score: %.6f (trial %d)",
            *(place, plan.metric, score, record.epochs, best.value, best.number + 1),
        )
    with search.lock:
        write_results(search)


def _raise_if_outside(error: BaseException, place: str) -> None:
    """A full disk or a lost folder is no trial's fault: the search ends and the trial can go on."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            raise InputError(
                f"{place}: {error}; mend it and start the same command again to go on"
            ) from error
        cause = cause.__cause__ or cause.__context__


def _checkpoints(search: Search, number: int) -> Path:
    return search.folder / "checkpoints" / f"trial-{number + 1}"


def _tidy(search: Search) -> None:
    """Keep the checkpoints of the best trial and of unfinished ones."""
    best = search.best()
    for trial in search.trials():
        if trial.state.is_finished() and (best is None or trial.number != best.number):
            shutil.rmtree(_checkpoints(search, trial.number), ignore_errors=True)


def _work_side_by_side(plan: SearchPlan, jobs: int) -> None:
    """Work with `jobs` processes; one that is killed is reported, the others take up its trial."""
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_worker, args=(plan, threads)) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.start()
        running = list(workers)
        while running:
            multiprocessing.connection.wait([worker.sentinel for worker in running])
            for worker in [w for w in running if not w.is_alive()]:
                running.remove(worker)
                if worker.exitcode:
                    logger.error(
                        "worker %s ended with status %s; the others go on: %d",
                        *(worker.pid, worker.exitcode, len(running)),
                    )
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
                worker.join()


def _worker(plan: SearchPlan, threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")  # as cli does
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    with study_log():
        try:
            _work(Search(plan))
        except InputError as error:
            logger.error("%s", error)
            raise SystemExit(2) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None
