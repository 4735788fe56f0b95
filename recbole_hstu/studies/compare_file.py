"""The rows of a comparison as the file of `--compare` names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_hstu.config.model_registry import find_model, model_names
from recbole_hstu.studies.plan import distinct
from recbole_hstu.studies.planned_run import Variant
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.yaml_values import load_yaml

_BESIDE_OPTIONS = ("model", "dataset")


def read_variants(path: str | Path) -> list[Variant]:
    """The variants of a `compare.yaml`: label -> {model: NAME, options: {key: value},
    options_file: FILE}.

    A row without a `model` is of the one that its file of options names, such as the `best.yaml`
    of a search, or of the one that its label names: `SASRec:` is enough. The data set of such a
    file is left aside.

    Raises:
        InputError: a file cannot be read, is empty or has another form, a label is empty, label
            and file name two models, or there is no such model.
    """
    variants = []
    for key, entry in load_yaml(path).items():
        label = str(key)
        if not label.strip():
            raise InputError(f"{path}: {label!r}: a row has an empty label; give it a name")
        where = f"{path}: {label}"
        try:
            variants.append(_variant(label, {} if entry is None else entry, where))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    if not variants:
        raise InputError(f"{path}: names no model")
    return distinct(variants)


def _variant(label: str, entry: Any, where: str) -> Variant:
    fits = isinstance(entry, dict) and set(entry) <= {"model", "options", "options_file"}
    if not fits or not isinstance(entry.get("options"), dict | None):
        raise InputError(
            "expected {model: NAME, options: {key: value}, options_file: FILE}, "
            f"found {entry!r}"
        )
    options = entry.get("options") or {}
    named = next((key for key in _BESIDE_OPTIONS if key in options), None)
    if named:
        raise InputError(
            f"options: {named} is no option of a row; name the model beside options, and the data "
            "set with --dataset"
        )
    chosen = _chosen(_name(entry, "options_file")) if "options_file" in entry else {}
    model = _name(entry, "model") if "model" in entry else _model(label, chosen)
    try:
        find_model(model)
    except InputError as error:  # nobody gave --model
        raise InputError(str(error).removeprefix("--model=")) from error
    chosen = {key: chosen[key] for key in chosen if key not in _BESIDE_OPTIONS}
    return Variant(label, model, options, chosen, where)


def _name(entry: Mapping[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{key}: expected a name, found {value!r}; give one, or leave {key} out")
    return value


def _chosen(file: str) -> dict[str, Any]:
    """What a file of options says, its model and data set included."""
    chosen = load_yaml(file)
    if not set(chosen) - set(_BESIDE_OPTIONS):
        raise InputError(f"{file} holds no options; name another file, or leave options_file out")
    return chosen


def _model(label: str, chosen: Mapping[str, Any]) -> str:
    model = str(chosen.get("model") or label)
    if model != label and label in model_names():
        raise InputError(f"its options_file is of {model}; add model: {label} or model: {model}")
    return model
