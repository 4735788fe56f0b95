"""Values that can be told to be wrong before anything is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_hstu.support.errors import InputError

# Whole numbers: the least that makes sense.
_WHOLE = {
    **dict.fromkeys(
        ("hidden_size", "n_layers", "n_heads", "qk_size", "v_size", "num_negatives", "epochs"), 1
    ),
    **dict.fromkeys(("train_batch_size", "eval_batch_size", "MAX_ITEM_LIST_LENGTH"), 1),
    **dict.fromkeys(("extra_positions", "limit_users", "nproc"), 1),
    **dict.fromkeys(("seed", "metric_decimal_place", "loss_decimal_place", "stopping_step"), 0),
    **dict.fromkeys(("eval_step", "max_restarts"), 0),
}
# Numbers above 0.
_NUMBER = ("learning_rate", "temperature", "train_seconds", "stochastic_length_alpha")
# Shares: 0 or above, below 1.
_SHARE = (
    *("input_dropout_prob", "hidden_dropout_prob", "attn_dropout_prob", "dropout_prob"),
    *("hidden_dropout", "attn_dropout"),
)
_FLAG = (
    *("logq_correction", "activation_checkpointing", "torch_compile"),
    *("mask_seen", "item_l2_norm", "show_progress", "shuffle", "reproducibility", "use_gpu"),
    *("enable_amp", "enable_scaler", "save_dataset", "save_dataloaders", "normalize_all"),
)
_TEXT = ("data_path", "checkpoint_dir", "learner", "valid_metric")
_PRECISIONS = ("highest", "high", "medium")
_EVAL_ARGS = ("split", "group_by", "order", "mode")


def check_options(options: Mapping[str, Any]) -> None:
    """Check the values whose range is known, whoever set them; None means "not set".

    Raises:
        InputError: the first value that makes no sense.
    """
    for key, value in options.items():
        if value is None:
            continue
        if key in _WHOLE:
            if not _is_whole(value) or value < _WHOLE[key]:
                raise _wrong(key, value, f"a whole number from {_WHOLE[key]} on")
        elif key in _NUMBER:
            if not _is_number(value) or not value > 0:
                raise _wrong(key, value, "a number above 0")
        elif key in _SHARE:
            if not _is_number(value) or not 0 <= value < 1:
                raise _wrong(key, value, "a number from 0 on and below 1")
        elif key in _FLAG and not isinstance(value, bool):
            raise _wrong(key, value, "True or False")
        elif key in _TEXT and not isinstance(value, str):
            raise _wrong(key, value, "a text")
    betas = options.get("adam_betas")
    pair = isinstance(betas, list | tuple) and len(betas) == 2
    if betas is not None and not (pair and all(_is_number(b) and 0 <= b < 1 for b in betas)):
        raise _wrong("adam_betas", betas, "two numbers from 0 on and below 1")
    precision = options.get("float32_matmul_precision")
    if precision not in (None, *_PRECISIONS):
        raise _wrong("float32_matmul_precision", precision, f"one of {', '.join(_PRECISIONS)}")
    for key in options.get("eval_args") or {}:
        if key not in _EVAL_ARGS:
            raise InputError(f"eval_args: unknown key '{key}'; known are {', '.join(_EVAL_ARGS)}")
    for key in ("save_dataset", "save_dataloaders", "dataset_save_path", "dataloaders_save_path"):
        if options.get(key):
            raise InputError(
                f"{key}: RecBole's caches of data sets are not used here, since they are loaded "
                "whatever configuration they were made with; leave it out"
            )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _wrong(key: str, value: Any, expected: str) -> InputError:
    return InputError(f"{key}: {value!r} must be {expected}")
