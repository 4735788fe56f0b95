"""Several models on one data set under one protocol, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hstu.config import Config
from recbole_hstu.errors import InputError
from recbole_hstu.experiments.records import FAILED, RunRecord
from recbole_hstu.experiments.table_formats import to_text
from recbole_hstu.experiments.tables import comparison_table
from recbole_hstu.quick_start import run


def compare(
    models: Sequence[str],
    dataset: str | None,
    config_files: Sequence[str | Path] = (),
    options: Mapping[str, Any] | None = None,
) -> tuple[str, bool]:
    """Run every model and lay their test metrics side by side.

    Every configuration is checked before the first model trains. A model that fails is reported
    in its row and the others go on; a single model's error is raised.

    Returns:
        The table as text, and whether a run failed.
    """
    options = dict(options or {})
    for model in models:  # a misspelt last name must not show after an hour of training
        Config(model or None, dataset, config_files, options)
    if len(models) > 1 and options.get("resume"):
        raise InputError("--resume goes on with one run: name one model")
    records: list[RunRecord] = []
    for model in models:
        try:
            records.append(run(model or None, dataset, config_files, options)["record"])
        except Exception as error:
            if len(models) == 1:
                raise
            getLogger().exception("%s failed", model)
            records.append(_failed(model, str(dataset), options, error))
    return to_text(comparison_table(records)), any(r.status == FAILED for r in records)


def _failed(model: str, dataset: str, options: Mapping[str, Any], error: Exception) -> RunRecord:
    config = Config(model, dataset, config_dict=options)
    return RunRecord(
        model=model,
        dataset=dataset,
        seed=config["seed"],
        protocol=config["protocol"] or "",
        config=config.plain(),
        status=FAILED,
        error=f"{type(error).__name__}: {error}",
    )
