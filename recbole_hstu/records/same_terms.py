"""What has to be the same of runs that stand in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_hstu.records.run_record import OK, RunRecord, by_label
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.settings import Settings

# Settings that decide what a metric means: one value for every row of a table.
EVALUATION_OPTIONS = (
    "data_path",
    "protocol",
    "eval_args",
    "mask_seen",
    "mask_history",
    "candidates",
    "train_events",
    "eval_users",
    "metrics",
    "topk",
    "metric_decimal_place",
    "limit_users",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "val_interval",
    "filter_inter_by_user_or_item",
    "rm_dup_inter",
    "benchmark_filename",
    "threshold",
    "LABEL_FIELD",
    "USER_ID_FIELD",
    "ITEM_ID_FIELD",
    "TIME_FIELD",
)
# A report asks nothing of these: data lie elsewhere on another machine, ranks give any metric.
_NOT_ASKED = {"data_path", "metrics", "topk", "metric_decimal_place"}

# Nor do these decide the metrics of a run: what is shown of it, and where its tables lie.
_SHOWN = {"user_segments", "item_segments", "tail_ratio", "loss_decimal_place", "item_table"}

# Where things lie and how they are shown: a run with other values here is the same run. The data
# and the text vectors enter by their hash.
NOT_DECISIVE = frozenset(
    {
        *("device", "use_gpu", "gpu_id", "worker", "nproc", "max_restarts", "world_size"),
        *("local_rank", "ip", "port", "offset", "single_spec"),
        *("data_path", "output_path", "checkpoint_dir", "resume", "eval_batch_size"),
        "prepared",
        *("config_files", "show_progress", "verbose", "state", "log_wandb", "wandb_project"),
        *("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"),
        *("text_features_file", "text_device", "text_batch_size", "text_memory"),
    }
)


def decisive_options(plain: Mapping[str, Any], *, text: bool) -> dict[str, Any]:
    """What of a plain configuration decides the outcome of a run.

    Args:
        text: whether the model reads item text, so that the text settings count.
    """
    return {
        key: value
        for key, value in plain.items()
        if key not in NOT_DECISIVE and (text or not key.startswith(("text_", "item_text")))
    }


def window_of_mask(config: Mapping[str, Any] | Settings) -> tuple[str, ...]:
    """The option that decides how much of a history a mask covers, where it covers a part."""
    cut = config["mask_seen"] and config["mask_history"] == "visible"
    return ("MAX_ITEM_LIST_LENGTH",) if cut else ()


def check_same_terms(records: Sequence[RunRecord]) -> None:
    """Whether runs of one data set and protocol can be the rows of a table.

    Raises:
        InputError: two were judged differently; a label has a seed twice, or seeds with different
            settings.
    """
    asked = [key for key in EVALUATION_OPTIONS if key not in _NOT_ASKED]
    for key in dict.fromkeys((*asked, *(key for record in records for key in _mask_of(record)))):
        knowing = [record for record in records if key in record.config]
        for record in knowing:
            if (both := _differing(record, knowing[0], key)) is not None:
                raise InputError(
                    f"{record.label} and {knowing[0].label} were not judged alike: {key} is "
                    f"{both}; keep them in folders of their own"
                )
    _check_targets(records)
    for label, runs in by_label(records).items():
        _check_row(label, runs)


def _check_targets(records: Sequence[RunRecord]) -> None:
    """Only where every row had one target, `mrr` stands among the metrics."""
    kinds = {"mrr" in record.metrics: record.label for record in records if record.metrics}
    if len(kinds) > 1:
        raise InputError(
            f"the rows were not judged alike: {kinds[False]} was asked for all test items of a "
            f"user at once, {kinds[True]} for each alone; keep them in folders of their own"
        )


def _check_row(label: str, runs: Sequence[RunRecord]) -> None:
    seeds = [run.seed for run in runs]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise InputError(
            f"{label}: two runs with seed {twice}; move one of them into another folder"
        )
    finished = [run for run in runs if run.status == OK]
    for run in finished[1:]:
        for key in sorted({*decisive_options(run.config, text=True)} - _NOT_ASKED - _SHOWN):
            if key != "seed" and (both := _differing(run, finished[0], key)) is not None:
                raise InputError(
                    f"{label}: the runs of one row differ, {key} is {both} (seeds {run.seed} and "
                    f"{finished[0].seed}); keep them in folders of their own"
                )


def _mask_of(record: RunRecord) -> tuple[str, ...]:
    known = "mask_seen" in record.config and "mask_history" in record.config
    return window_of_mask(record.config) if known else ()


def _differing(one: RunRecord, other: RunRecord, key: str) -> str | None:
    """Both values of a setting, where both runs know it and it differs."""
    if key not in one.config or key not in other.config or one.config[key] == other.config[key]:
        return None
    return f"{one.config[key]} and {other.config[key]}"
