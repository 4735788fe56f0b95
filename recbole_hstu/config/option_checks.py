"""RecBole's own options: what they take, and what its models read without naming it in a YAML.

Our options, and those of models from elsewhere, are declared in their YAML files (`options`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral
from typing import Any

from recbole.evaluator.register import metrics_dict
from recbole.utils import ModelType

from recbole_hstu.config.options import Option, read_kind
from recbole_hstu.config.properties import recbole_name
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.near_names import near_names

# They predict clicks; ranking the catalogue is not their task.
CLICKS = (ModelType.CONTEXT, ModelType.DECISIONTREE)
_KINDS = {
    "int, from 1": ("epochs", "train_batch_size", "MAX_ITEM_LIST_LENGTH"),
    "int, from 0": (
        *("metric_decimal_place", "loss_decimal_place", "stopping_step", "eval_step", "worker"),
    ),
    "int, from 0 to 4294967295": ("seed",),  # numpy's
    "float, above 0": ("learning_rate", "tail_ratio"),
    "float, from 0": ("weight_decay",),
    "bool": (
        *("show_progress", "shuffle", "reproducibility", "use_gpu", "enable_amp", "require_pow"),
        *("enable_scaler", "save_dataset", "save_dataloaders", "normalize_all", "log_wandb"),
    ),
    "str": ("data_path", "checkpoint_dir", "valid_metric"),
    "dict": ("clip_grad_norm", "eval_args", "load_col", "val_interval", "train_neg_sample_args"),
}
_NONE_MEANS_NOT_SET = (
    *("clip_grad_norm", "load_col", "val_interval", "train_neg_sample_args", "normalize_all"),
    *("tail_ratio", "show_progress", "shuffle", "reproducibility", "use_gpu", "require_pow"),
    *("enable_scaler", "save_dataset", "save_dataloaders", "log_wandb"),
)
# Of models: what several of RecBole's read.
_MODEL_KINDS = {
    "int, from 1": ("hidden_size", "embedding_size", "n_layers", "n_heads"),
    "float, from 0 below 1": (
        *("dropout_prob", "hidden_dropout_prob", "attn_dropout_prob"),
        *("hidden_dropout", "attn_dropout"),
    ),
    "float, from 0 to 1": ("mask_ratio", "ft_ratio"),
}
# Another one RecBole takes for adam, with a warning. Its sparse_adam takes sparse gradients, which
# no model of its or ours has.
_LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "lazy_adamw")
_LEVELS = ("debug", "info", "warning", "warn", "error", "critical")
# The parts of options that are mappings.
_PARTS = {
    "clip_grad_norm": ("max_norm", "norm_type", "error_if_nonfinite", "foreach"),
    "eval_args": ("split", "group_by", "order", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
}
_PART_KINDS = {
    ("clip_grad_norm", "max_norm"): "float, above 0",
    ("clip_grad_norm", "norm_type"): "float, above 0",
    ("clip_grad_norm", "error_if_nonfinite"): "bool",
    ("clip_grad_norm", "foreach"): "bool",
    ("train_neg_sample_args", "sample_num"): "int, from 1",
}
_MODE = re.compile(r"full|labeled|(uni|pop)\d*[1-9]\d*")

# Names of RecBole's releases before 1.0 and of other libraries, in small letters.
_OTHER_NAMES = {
    **dict.fromkeys(("eval_setting", "split_ratio", "group_by_user", "leave_one_num"), "eval_args"),
    **dict.fromkeys(("lowest_val", "highest_val", "equal_val", "not_equal_val"), "val_interval"),
    **dict.fromkeys(("min_user_inter_num", "max_user_inter_num"), "user_inter_num_interval"),
    **dict.fromkeys(("min_item_inter_num", "max_item_inter_num"), "item_inter_num_interval"),
    "training_neg_sample_num": "train_neg_sample_args",
    "k": "topk",
}

# RecBole reads these with config["..."] but names them in none of its YAML files.
_UNLISTED = (
    *("model", "dataset", "encoding"),
    *("tail_ratio", "reg_weight", "save_step", "pretrain_epochs"),
)
_UNLISTED_OF = {
    "AutoInt": ("has_residual",),
    "BERT4Rec": ("MASK_ITEM_SEQ", "POS_ITEMS", "NEG_ITEMS", "MASK_INDEX"),
    "DiffRec": ("norm",),
    "FEARec": ("contrast", "tau", "sim", "use_filter"),
    "KD_DAGFM": ("cin", "feature_num"),
    "LDiffRec": ("norm",),
    "SHAN": ("INVERSE_ITEM_SEQ",),
}


def unlisted_options(model_class: Any) -> tuple[str, ...]:
    """Options that a model of RecBole, or one derived from it, reads but declares nowhere."""
    clicks = ("double_tower",) if model_class.type == ModelType.CONTEXT else ()
    return (*_UNLISTED, *_UNLISTED_OF.get(recbole_name(model_class), ()), *clicks)


def meant_option(key: str, known: Collection[str], model: str) -> str:
    """For the end of an error's line: which option may be meant by an unknown one."""
    if near := near_names(key, {*_OTHER_NAMES, *known}):
        return f"did you mean '{near[0] if near[0] in known else _OTHER_NAMES[near[0]]}'?"
    return f"{command('run')} --model={model} --help shows all"


def check_options(options: Mapping[str, Any], model_class: Any) -> None:
    """Check the values of RecBole's options whose range is known.

    Raises:
        InputError: the first value that makes no sense.
    """
    of_recbole = model_class.__module__.startswith("recbole.")
    for kinds in (_KINDS, _MODEL_KINDS if of_recbole else {}):
        for text, names in kinds.items():
            for name in names:
                optional = name not in options or name in _NONE_MEANS_NOT_SET
                Option(name, None, read_kind(text), optional=optional).check(options.get(name))
    _check_parts(options)
    if model_class.type not in CLICKS:
        _check_ids(options)
    dense = model_class.__module__.startswith(("recbole.", "recbole_hstu."))
    learners = _LEARNERS if dense else (*_LEARNERS, "sparse_adam")
    _check_known("learner", [options.get("learner")], learners)
    metrics = options.get("metrics")
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    if not metrics or None in metrics:
        given = options.get("metrics")
        raise InputError(f"metrics: {given} names none; give some, as in --metrics=[Hit,NDCG]")
    _check_known("metrics", metrics, [metric.__name__ for metric in metrics_dict.values()])
    _check_known("state", [options.get("state")], _LEVELS)
    _check_evaluation(options.get("eval_args") or {})
    for key in ("save_dataset", "save_dataloaders", "dataset_save_path", "dataloaders_save_path"):
        if options.get(key):
            raise InputError(
                f"{key}: RecBole's caches of data sets are not used here, since they are loaded "
                "whatever configuration they were made with; leave it out"
            )


def _check_parts(options: Mapping[str, Any]) -> None:
    """Of options that are lists or mappings."""
    topk = options.get("topk")
    cuts = topk if isinstance(topk, list | tuple) else [topk]
    if not cuts or not all(_is_count(cut) for cut in cuts):
        raise InputError(f"topk: {topk!r} must be whole numbers from 1 on, as in --topk=[10,50]")
    _check_columns(options.get("load_col"))
    for name, known in _PARTS.items():
        for key in options.get(name) or {}:
            if key not in known:
                raise InputError(f"{name}: unknown key '{key}'; known are {', '.join(known)}")
    files = options.get("benchmark_filename")
    if files is not None and not (isinstance(files, list | tuple) and len(files) == 3):
        raise InputError(
            f"benchmark_filename: {files!r} must name three files, as in "
            "--benchmark_filename=[train,valid,test]"
        )
    clip = options.get("clip_grad_norm")
    if clip and "max_norm" not in clip:
        raise InputError("clip_grad_norm: max_norm is missing, as in {max_norm: 5}")
    for (name, key), kind in _PART_KINDS.items():
        value = (options.get(name) or {}).get(key, "none")
        if value not in ("none", "inf", math.inf):  # as RecBole writes it, and a norm of torch
            optional = key == "foreach"
            Option(f"{name}: {key}", None, read_kind(kind), optional=optional).check(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def _check_columns(load_col: Mapping[str, Any] | None) -> None:
    for kind, columns in (load_col or {}).items():
        if columns != "*" and not isinstance(columns, list | tuple):
            raise InputError(f"load_col: {kind}: {columns!r} must be a list of columns, or '*'")
    if load_col is not None and not load_col.get("inter"):
        raise InputError("load_col: names no columns of inter, as in {inter: [user_id, item_id]}")


def _check_ids(options: Mapping[str, Any]) -> None:
    """Users and items are read from the interactions."""
    columns = (options.get("load_col") or {}).get("inter", "*")
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        field = options.get(key)
        if field is not None and columns != "*" and field not in columns:
            raise InputError(
                f"load_col: inter: lacks {field}, the column of {key}; name it, as in "
                "{inter: [user_id, item_id]}"
            )


def _check_evaluation(eval_args: Mapping[str, Any]) -> None:
    """`mode` may differ between validation and test."""
    mode, group = eval_args.get("mode"), eval_args.get("group_by")
    for one in mode.values() if isinstance(mode, Mapping) else [mode]:
        if one is not None and not _MODE.fullmatch(str(one)):
            raise InputError(
                f"eval_args: mode: {one!r} must be full, labeled, or uni100 or pop100 with any "
                "number from 1 on"
            )
    if str(group).lower() not in ("none", "user"):
        raise InputError(f"eval_args: group_by: {group!r} must be user or none")


def _check_known(key: str, values: Sequence[Any], known: Sequence[str]) -> None:
    """Refuse names that RecBole does not know, in whatever case they are written."""
    lower = {name.lower() for name in known}
    for value in values:
        if value is not None and str(value).lower() not in lower:
            (near,) = near_names(str(value), known, cutoff=0)
            raise InputError(
                f"{key}: {value!r} is unknown; did you mean {near}? Known are {', '.join(known)}"
            )
