"""What of a checkpoint's configuration goes into a new one, and has to be the same there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_hstu.config.model_registry import address
from recbole_hstu.config.properties import protocol_settings
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.yaml_values import parse_value

# Every configuration finds these anew: from the model, from other settings, from the machine.
_FOUND_ANEW = {
    *("dataset", "model_class", "MODEL_TYPE", "MODEL_INPUT_TYPE", "sequence_view"),
    *("eval_type", "valid_metric_bigger", "valid_neg_sample_args", "test_neg_sample_args"),
    *("data_path", "output_path", "resume", "config_files", "nproc", "verbose"),
    *("device", "single_spec", "local_rank"),
}

# Made of the training's events and kept beside the weights.
_COUNTED = (
    *("recent_days", "recent_share", "transition_steps", "max_distance", "distance_decay"),
    *("half_life", "backward", "popularity_exponent", "n_neighbours"),
)

# A training alone reads these.
_OF_TRAINING = {
    *("epochs", "train_seconds", "stopping_step", "eval_step", "train_batch_size"),
    *("learner", "learning_rate", "weight_decay", "weight_average", "adam_betas", "clip_grad_norm"),
}

# What a resumed run may set anew: how long it goes on, where it runs and what it shows.
_MAY_CHANGE = {
    *("epochs", "train_seconds", "stopping_step", "resume", "show_progress", "verbose"),
    *("state", "worker", "prepared"),
    *("checkpoint_dir", "data_path", "output_path", "device", "gpu_id", "use_gpu", "log_wandb"),
    *("text_features_file", "semantic_ids", "eval_batch_size", "config_files", "metrics", "topk"),
    *("text_batch_size", "text_device", "text_memory", "nproc", "max_restarts", "item_table"),
    *("wandb_project", "save_dataset", "dataset_save_path"),
    *("save_dataloaders", "dataloaders_save_path"),
}


def check_evaluation(
    file: str | Path, plain: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Whether options can win over those that a checkpoint was trained with.

    Raises:
        InputError: they name another model or data set, are for trainings, or change what the
            checkpoint has counted.
    """
    for key in options.keys() & plain.keys() & {"model", "dataset", *_COUNTED}:
        given, own = options[key], plain[key]
        given = address(given) if isinstance(given, type) else given
        given = parse_value(key, given) if isinstance(given, str) else given
        given = list(given) if isinstance(given, tuple) else given
        if given != own and (key, given) != ("model", plain["model_class"]):
            raise InputError(f"--{key}={given}: {file} is of {own}; leave --{key} out")
    given_anew = sorted(options.keys() & _OF_TRAINING)
    harmless: dict[str, tuple[str, ...]] = {key: (str(plain.get(key)),) for key in given_anew}
    harmless |= {"resume": ("None", "False"), "nproc": ("None", "1")}
    for key, values in harmless.items():
        if str(options.get(key)) not in values:
            raise InputError(f"--{key} is for trainings; leave it out")


def checkpoint_settings(plain: Mapping[str, Any], protocol: Any = None) -> dict[str, Any]:
    """The `base` of a `Config` that is to be what a checkpoint was trained with.

    Args:
        plain: the checkpoint's `config`.
        protocol: judge it by this one: whatever its own protocol sets is left out.

    Raises:
        InputError: there is no such protocol.
    """
    base = {key: value for key, value in plain.items() if key not in _FOUND_ANEW}
    folder = str(plain["output_path"])
    if Path(folder) / plain["dataset"] == Path(plain["data_path"]):  # not ml-100k of the wheel
        base["data_path"] = folder
    if base["train_neg_sample_args"]["distribution"] == "none":
        base["train_neg_sample_args"] = None
    if not Path(base.get("text_features_file") or "").is_file():
        base.pop("text_features_file", None)
    if protocol is not None and protocol != plain["protocol"]:
        for name in (plain["protocol"], protocol):
            for key in ("protocol", *(protocol_settings(name) if name else ())):
                base.pop(key, None)
    return base


def without_beginning(config: Any) -> None:
    """S3Rec reads the file with which its fine-tuning begins as it is built: not where its weights
    come from a checkpoint."""
    if config["pre_model_path"]:
        config["train_stage"] = "pretrain"


def changed_settings(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not the same in two plain configurations, but for what a resumed run may set anew."""
    return [key for key in sorted(set(was) & set(now) - _MAY_CHANGE) if was[key] != now[key]]


def check_settings(state: Mapping[str, Any], path: str | Path, config: Any) -> None:
    """Whether a training that goes on has the settings that it began with.

    Raises:
        InputError: it has not; the message names all that differ.
    """
    was, now = state["config"], config.plain()
    differ = changed_settings(was, now)
    changed = [key for key in ("model", "dataset") if key in differ] or differ
    if changed:
        before, after = (
            ", ".join(f"--{key}={values[key]}" for key in changed) for values in (was, now)
        )
        raise InputError(
            f"{path}: a checkpoint of {before}, not of {after}; --resume={path} alone goes on with "
            "the same settings"
        )
