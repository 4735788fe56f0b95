"""Hyper-parameter tuning: trials one after the other or side by side, judged by validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.records.make_record import check_segment_options
from recbole_hstu.records.same_terms import EVALUATION_OPTIONS, window_of_mask
from recbole_hstu.studies.plan import named_models, plan_runs
from recbole_hstu.studies.planned_run import PlannedRun
from recbole_hstu.studies.run_identity import run_identity
from recbole_hstu.studies.side_by_side import on_gpu, side_by_side
from recbole_hstu.studies.study_log import study_log
from recbole_hstu.support.commands.command_options import true_or_false, whole_number
from recbole_hstu.support.errors import InputError, packages_needed
from recbole_hstu.support.files.writable import check_file, check_folders
from recbole_hstu.support.secrets import masked
from recbole_hstu.training.preparation import provide_text
from recbole_hstu.tuning.space import Space
from recbole_hstu.tuning.space_file import read_space

with packages_needed("tuning", "hyper"):
    from recbole_hstu.tuning.search import ALGORITHMS, Search, SearchPlan
    from recbole_hstu.tuning.storage import storage_failures
    from recbole_hstu.tuning.trials import work, work_on
    from recbole_hstu.tuning.trials_report import plot, write_results

logger = logging.getLogger(__name__)

_DEFAULTS: dict[str, Any] = {
    "params_file": None,
    "algo": "bayes",
    "max_trials": None,
    "defaults_first": False,
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
_NOT_SEARCHABLE = (
    *EVALUATION_OPTIONS,
    "tie_order",
    "model",
    "dataset",
    "valid_metric",
    "checkpoint_dir",
    "resume",
    "seed",
)


def tune(
    model: str | type,
    dataset: str | None,
    config_files: Sequence[str | Path] = (),
    options: Mapping[str, Any] | None = None,
) -> tuple[str, bool]:
    """Search for the options with the best validation score; the test set is never ranked.

    The same call again goes on with the search; see docs/tuning.md for what lies in `results_dir`.

    Args:
        options: those of the model, and `params_file` (the space), `algo`, `max_trials` (RecBole's
            `max_evals` is understood), `defaults_first` (the first trial has the model's own
            settings), `early_stop`, `jobs` (processes), `min_epochs` and
            `reduction_factor` (of `halving`), `results_dir`, `output_file`, `storage`,
            `study_name`.

    Returns:
        The table of trials as text, and whether no trial has come to its end.

    Raises:
        InputError: bad input, and nothing has been trained; or what stops every trial, such as a
            full disk or a storage that fails.
    """
    options = dict(options or {})
    if {"max_evals", "max_trials"} <= set(options):
        raise InputError("--max_evals and --max_trials mean the same: give one of them")
    if "max_evals" in options:
        options["max_trials"] = options.pop("max_evals")
    search = {key: options.pop(key, default) for key, default in _DEFAULTS.items()}
    options.setdefault("show_progress", False)
    jobs = whole_number(search["jobs"], "--jobs", 1)
    with study_log():
        planned, plan = _plan(model, dataset, config_files, options, search)
    _check_data(planned)
    check_folders("log", "log_tensorboard")
    check_folders(str(plan.folder), option="--results_dir")
    with study_log(), storage_failures(plan.storage_name):
        return _run_search(plan, jobs)


def _run_search(plan: SearchPlan, jobs: int) -> tuple[str, bool]:
    """Work until no trial is left; see `tune` for what is returned."""
    search = Search(plan)
    logger.info("%s", _heading(search))
    try:
        if jobs == 1:
            work(search)
        elif search.open_trials():
            side_by_side(
                jobs, work_on, lambda gpu: (replace(plan, options=on_gpu(plan.options, gpu)),)
            )
    except KeyboardInterrupt:
        logger.info("interrupted; the same command again goes on")
        raise
    with search.lock:
        text = write_results(search)
    plot(search)
    left = len(search.open_trials())
    if left:
        raise InputError(
            f"{plan.folder}: {left} trials are not finished, and all workers have ended; start "
            "the same command again to go on"
        )
    return text, search.best() is None


def _plan(
    model: str | type,
    dataset: str | None,
    config_files: Sequence[str | Path],
    options: Mapping[str, Any],
    search: Mapping[str, Any],
) -> tuple[PlannedRun, SearchPlan]:
    """What is going to be searched.

    Raises:
        InputError: options or a space that make no sense.
    """
    _check_search_options(options, search)
    (planned,) = plan_runs(named_models([model]), dataset, config_files, options, None)
    config = planned.config
    if config["nproc"] > 1:
        raise InputError("--nproc: every trial trains in one process; use --jobs, or leave it out")
    space = read_space(str(search["params_file"]))
    _check_space(space, planned)
    folder = search["results_dir"] or f"results/tune-{planned.model}-{planned.dataset}"
    min_epochs = _from_one("min_epochs", search)
    plan = SearchPlan(
        model=config.reference,
        dataset=planned.dataset,
        config_files=planned.config_files,
        options=planned.options,
        space=space,
        algo=search["algo"],
        max_trials=_max_trials(search, space),
        first=space.at(config) if search["defaults_first"] else None,
        early_stop=_from_one("early_stop", search),
        min_epochs=min_epochs or max(1, config["epochs"] // 27),
        reduction_factor=whole_number(search["reduction_factor"], "--reduction_factor", 2),
        epochs=config["epochs"],
        seed=planned.seed,
        metric=str(config["valid_metric"]).lower(),
        bigger=config["valid_metric_bigger"],
        folder=Path(str(folder)),
        output_file=search["output_file"],
        storage=search["storage"],
        study_name=str(search["study_name"] or f"{planned.model}-{planned.dataset}"),
        identity={},
    )
    return planned, replace(plan, identity=_search_identity(planned, plan))


def _check_search_options(options: Mapping[str, Any], search: Mapping[str, Any]) -> None:
    for key in ("checkpoint_dir", "resume"):
        if options.get(key):
            raise InputError(f"--{key}: a search keeps checkpoints of its own; leave it out")
    if search["params_file"] is None:
        raise InputError("--params_file is missing: a search space, such as --params_file=HSTU")
    defaults_first = true_or_false(search["defaults_first"], "--defaults_first")
    if defaults_first and search["algo"] == "exhaustive":
        raise InputError("--defaults_first: exhaustive tries every combination; leave it out")
    if search["output_file"] is not None:
        check_file(Path(str(search["output_file"])), option="--output_file")
    if search["algo"] not in ALGORITHMS:
        raise InputError(f"--algo={search['algo']}: known are {', '.join(ALGORITHMS)}")


def _max_trials(search: Mapping[str, Any], space: Space) -> int:
    wanted = _from_one("max_trials", search)
    if search["algo"] != "exhaustive":
        return wanted or _TRIALS
    size = space.grid_size()
    return min(wanted or size, size)


def _search_identity(planned: PlannedRun, plan: SearchPlan) -> dict[str, Any]:
    """What must not change between the invocations of one search."""
    identity = {**run_identity(planned), "algo": plan.algo}
    if plan.algo == "halving":
        identity |= {"min_epochs": plan.min_epochs, "reduction_factor": plan.reduction_factor}
    if plan.first is not None:
        identity["defaults_first"] = True
    return identity | {f"space of {name}": kind for name, kind in plan.space.plain().items()}


def _from_one(key: str, search: Mapping[str, Any]) -> int | None:
    return None if search[key] is None else whole_number(search[key], f"--{key}", 1)


def _check_space(space: Space, planned: PlannedRun) -> None:
    """Whether every option is one of the model's and every value one that it takes."""
    for parameter in space.parameters:
        where = f"{space.file}: {parameter.name}"
        if parameter.name in (*_NOT_SEARCHABLE, *window_of_mask(planned.config)):
            raise InputError(f"{where}: decides how trials are judged or kept; leave it out")
        if parameter.name in planned.options:
            raise InputError(f"{where}: is given as an option, too; leave one of them out")
        if masked(list(parameter.values)) != list(parameter.values):
            raise InputError(f"{where}: a secret would be kept with every trial; leave it out")
        for value in parameter.extremes():
            options = {**planned.options, parameter.name: value}
            try:
                Config(planned.config.reference, planned.dataset, planned.config_files, options)
            except InputError as error:
                raise InputError(f"{where}: {error}") from error


def _check_data(planned: PlannedRun) -> None:
    """Whether the data can be used and validate; text vectors are made here, once for all."""
    config = planned.config
    why = getattr(config.model_class, "not_searchable", None)
    if why is not None:
        raise InputError(f"--model={config['model']}: no search on validation will do, since {why}")
    check_segment_options(config)
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
    if done > plan.max_trials:
        told = f"{done} trials finished before ({plan.max_trials} asked for)"
    else:
        told = f"{plan.max_trials} trials" + (f", {done} of them finished before" if done else "")
    return f"{plan.folder}: {plan.algo}, {told}"
