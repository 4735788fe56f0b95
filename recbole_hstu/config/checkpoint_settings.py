"""What of a checkpoint's configuration goes into a new one."""

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
    for key, nothing in (("resume", ("None", "False")), ("nproc", ("None", "1"))):
        if str(options.get(key)) not in nothing:
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
