"""What a study is going to run: labels, seeds and configurations, all checked beforehand."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole.utils import ModelType

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set_class import asks_for_users, check_mask
from recbole_hstu.records.same_terms import EVALUATION_OPTIONS, window_of_mask
from recbole_hstu.studies.planned_run import PlannedRun, Variant, planned_run
from recbole_hstu.support.commands.command_options import whole_number
from recbole_hstu.support.errors import InputError, UnknownOption, in_a_line
from recbole_hstu.support.yaml_values import load_yaml, merged

logger = logging.getLogger(__name__)


def named_models(models: Sequence[str | type]) -> list[Variant]:
    """A variant a model, as `--model=HSTU,SASRec` names them; a class goes by its own name."""
    return distinct([Variant(_label(model), model, {}) for model in models])


def _label(model: str | type) -> str:
    return model.__name__ if isinstance(model, type) else model.rpartition(":")[2]


def read_seeds(value: Any) -> list[int] | None:
    """`--seeds`: 1,2,3 or [1, 2, 3] or 1; None if not given.

    Raises:
        InputError: anything else, or a seed twice.
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, list) else [parts]
    try:
        seeds = [int(str(part)) for part in parts]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds={value}: expected different whole numbers, as in --seeds=1,2,3")
    return seeds


def read_jobs(value: Any, plan: Sequence[PlannedRun]) -> int:
    """`--jobs`: how many runs at a time, 1 if not given.

    Raises:
        InputError: no whole number from 1 on, or runs of several processes.
    """
    jobs = 1 if value is None else whole_number(value, "--jobs", 1)
    if jobs > 1 and any(planned.config["nproc"] > 1 for planned in plan):
        raise InputError("--jobs: each run then has a process and a GPU; leave out --nproc")
    return jobs


def plan_runs(
    variants: Sequence[Variant],
    dataset: str | None,
    config_files: Sequence[str | Path],
    shared: Mapping[str, Any],
    seeds: Sequence[int] | None,
) -> list[PlannedRun]:
    """Every variant with every seed, seed by seed, so that a study cut short has all models.

    An option of `shared` goes to the models that know it; those that do not are told of in the
    log. A variant's own options win over the shared ones, and these over its chosen ones.

    Raises:
        InputError: a bad configuration, an option that no model knows, variants that would not be
            judged alike, or a seed beside `seeds`.
    """
    if seeds is not None:
        for what, options in (("", shared), *((f"{v.label}: ", v.options) for v in variants)):
            if "seed" in options:
                raise InputError(f"{what}seed={options['seed']} and --seeds: give one of them")
    if len(variants) > 1:
        _log_files_of_one_model(variants, config_files)
    options_of: dict[str, dict[str, Any]] = {}
    refusals: dict[str, list[tuple[str, UnknownOption]]] = {}
    for variant in variants:
        options, unknown = _known_options(variant, dataset, config_files, shared)
        options_of[variant.label] = options
        for error in unknown:
            refusals.setdefault(error.key, []).append((variant.label, error))
    for key, refused in refusals.items():
        if len(refused) == len(variants):
            raise refused[0][1]
        logger.info("--%s is no option of %s", key, ", ".join(label for label, _ in refused))
    runs = [
        planned_run(variant, dataset, config_files, options_of[variant.label], seed)
        for seed in (seeds if seeds is not None else [None])
        for variant in variants
    ]
    _check_evaluated_alike(runs)
    _check_tie_orders(runs)
    _log_unequal_epochs(runs)
    return runs


def _log_files_of_one_model(
    variants: Sequence[Variant], config_files: Sequence[str | Path]
) -> None:
    for file in config_files:
        model = load_yaml(file).get("model")
        others = [variant.label for variant in variants if variant.model != model]
        if model and others:
            logger.warning(
                "%s is of %s, and its options go to %s, too; options_file of --compare gives them "
                "to one row",
                *(file, model, ", ".join(others)),
            )


def _known_options(
    variant: Variant,
    dataset: str | None,
    config_files: Sequence[str | Path],
    shared: Mapping[str, Any],
) -> tuple[dict[str, Any], list[UnknownOption]]:
    """The options of a row, without those of `shared` that its model does not know; and these."""
    shared = dict(shared)
    unknown: list[UnknownOption] = []
    while True:
        options = merged(variant.chosen, shared, variant.options)
        try:
            Config(variant.model or None, dataset, config_files, options)
        except UnknownOption as error:
            if error.key in shared:  # if it is the row's, too, it comes again
                unknown.append(error)
                del shared[error.key]
                continue
            if not variant.label:
                raise
            of_row = error.key in {**variant.chosen, **variant.options}
            hint = "" if of_row else " an option of some rows goes under their options (--compare)"
            where = variant.where or variant.label
            raise UnknownOption(error.key, f"{where}: {error}{hint}") from error
        except InputError as error:
            if not variant.where or _fails_alike(
                error, variant.model, dataset, config_files, shared
            ):
                raise
            raise InputError(f"{variant.where}: {error}") from error
        else:
            return options, unknown


def _fails_alike(error: InputError, *shared: Any) -> bool:
    """Whether a row's error has its cause in what all rows share: it comes without the row's own
    options, too."""
    try:
        Config(*shared)
    except InputError as other:
        return str(other) == str(error)
    return False


def _check_evaluated_alike(runs: Sequence[PlannedRun]) -> None:
    first = runs[0]
    for run in runs:
        for key in (*EVALUATION_OPTIONS, *window_of_mask(first.config)):
            ours, theirs = run.config[key], first.config[key]
            if ours != theirs:
                raise InputError(
                    f"{run.label} and {first.label} would not be judged alike: {key} is {ours} "
                    f"and {theirs}; give every row of a table the same"
                )
        check_mask(run.config)
    of_users = {asks_for_users(run.config): run for run in runs}
    if len(of_users) > 1:
        raise InputError(
            f"the rows would not be judged alike: {of_users[True].label} is asked for all test "
            f"items of a user at once, {of_users[False].label} for each alone; split with LS, or "
            "make a study of each kind"
        )


def _check_tie_orders(runs: Sequence[PlannedRun]) -> None:
    """A table may show models with ties in both orders, then every model in both."""
    models: dict[str, list[str]] = {}
    for run in runs:
        models.setdefault(run.config["tie_order"], []).append(run.model)
    if len({tuple(sorted(names)) for names in models.values()}) > 1:
        shown = "; ".join(f"{order}: {', '.join(names)}" for order, names in models.items())
        raise InputError(
            f"tie_order: the rows would not be judged alike ({shown}); give every model a row in "
            "each order, or all rows the same"
        )


def _log_unequal_epochs(runs: Sequence[PlannedRun]) -> None:
    """Where nothing is validated, the last epoch counts, and some models have 300, others 101."""
    first = runs[0].config
    is_validated = first["eval_args"]["split"] != {"LS": "test_only"} and first["eval_step"]
    kinds = {run.label: run.config for run in runs}
    trained = {k: c for k, c in kinds.items() if c["MODEL_TYPE"] != ModelType.TRADITIONAL}
    epochs = {label: config["epochs"] for label, config in trained.items() if config["epochs"] > 1}
    if not is_validated and len(set(epochs.values())) > 1:
        shown = ", ".join(f"{label} {n}" for label, n in epochs.items())
        logger.warning(
            "nothing is validated, so that the last epoch counts, and the rows have unlike epochs "
            "(%s); --epochs=N gives all the same, --protocol=recbole stops each where it is best",
            shown,
        )


def distinct(variants: list[Variant]) -> list[Variant]:
    labels = [in_a_line(variant.label) for variant in variants]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InputError(
            f"{', '.join(twice)}: named twice; name every row of the table once (--compare=FILE "
            "gives each a name of its own)"
        )
    return variants
