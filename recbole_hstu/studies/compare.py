"""Several models, several seeds, on one data set under one protocol, in one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_hstu.distributed import processes
from recbole_hstu.quick_start import run
from recbole_hstu.records.run_record import FAILED
from recbole_hstu.reports.comparison_formats import to_text
from recbole_hstu.reports.comparison_table import comparison_table
from recbole_hstu.reports.study_table import (
    ReportOptions,
    check_baselines,
    study_table,
    write_tables,
)
from recbole_hstu.studies.compare_file import read_variants
from recbole_hstu.studies.plan import (
    named_models,
    plan_runs,
    read_jobs,
    read_seeds,
)
from recbole_hstu.studies.planned_run import PlannedRun
from recbole_hstu.studies.study import run_study
from recbole_hstu.studies.study_log import study_log
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.yaml_values import comma_separated, load_yaml

STUDY_OPTIONS = ("seeds", "compare", "baseline", "results_dir", "jobs")


def compare_models(
    models: Sequence[str | type],
    dataset: str | None,
    config_files: Sequence[str | Path] = (),
    options: Mapping[str, Any] | None = None,
) -> tuple[str, bool]:
    """Run every model with every seed and lay their test metrics side by side.

    Every configuration is checked before the first model trains. A single model without any of
    `STUDY_OPTIONS` is a plain run: its error is raised and no folder of results is made. Else the
    records, ranks and tables go to `results_dir`, and a run that fails is reported in its row.

    Args:
        options: those of the models, and `seeds` ("1,2,3"), `compare` (a file of variants in
            place of `models`), `baseline` (labels; gains over the first, tests against the best),
            `results_dir` (`results/DATASET-PROTOCOL` by default), `jobs` (runs at a time).

    Returns:
        The table as text, and whether a run failed.

    Raises:
        InputError: bad input; nothing has been trained.
    """
    _check_files(config_files)
    options = dict(options or {})
    study = {key: options.pop(key) for key in STUDY_OPTIONS if options.get(key) is not None}
    if not study and len(models) < 2:
        record = run(models[0] if models else None, dataset, config_files, options)["record"]
        return to_text(comparison_table([record])), False
    check_many_trainings(options)
    plan = _plan(models, dataset, config_files, options, study)
    labels = list(dict.fromkeys(planned.label for planned in plan))
    baselines = comma_separated("baseline", study.get("baseline"))
    shown = ReportOptions(
        baseline=baselines[0] if baselines else None, baselines=baselines, order=labels
    )
    check_baselines(labels, shown)
    folder = study_folder(plan, study.get("results_dir"))
    return _run_and_compare(plan, folder, shown, read_jobs(study.get("jobs"), plan))


def _check_files(config_files: Sequence[str | Path]) -> None:
    for file in config_files:
        content = load_yaml(file)
        several = ("model",) if "," in str(content.get("model")) else ()
        for key in (*several, *STUDY_OPTIONS):
            if key in content:
                raise InputError(
                    f"{file}: {key}: is for the command line, as in --{key}={content[key]}"
                )


def check_many_trainings(options: Mapping[str, Any]) -> None:
    """Whether several trainings can be started here with these options.

    Raises:
        InputError: they cannot.
    """
    if options.get("resume"):
        raise InputError("--resume goes on with one run: name one model, without a study's options")
    if processes.started():
        raise InputError("torchrun starts one training; several of them take --nproc instead")


def _run_and_compare(
    plan: Sequence[PlannedRun], folder: Path, shown: ReportOptions, jobs: int
) -> tuple[str, bool]:
    with study_log():
        records = run_study(plan, folder, jobs)
        place = {label: i for i, label in enumerate(shown.order)}
        records.sort(key=lambda record: place[record.label])  # stable: seeds stay in order
        table = study_table(records, folder, shown)
        write_tables(table, records, folder / "table")
        logging.getLogger(__name__).info("tables: %s", folder / "table.md")
    return to_text(table), any(record.status == FAILED for record in records)


def study_folder(plan: Sequence[PlannedRun], given: Any) -> Path:
    """`--results_dir`, or a folder named after data set and protocol."""
    config = plan[0].config
    return Path(str(given or f"results/{plan[0].dataset}-{config['protocol']}"))


def _plan(
    models: Sequence[str | type],
    dataset: str | None,
    config_files: Sequence[str | Path],
    options: Mapping[str, Any],
    study: Mapping[str, Any],
) -> list[PlannedRun]:
    if "compare" not in study:
        if len(models) > 1:
            comma_separated("model", list(models))
        variants = named_models(models)
    elif any(models):
        raise InputError("--compare names the models itself: leave out --model")
    else:
        variants = read_variants(str(study["compare"]))
    with study_log():
        return plan_runs(variants, dataset, config_files, options, read_seeds(study.get("seeds")))
