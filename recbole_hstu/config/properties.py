"""The YAML files that a configuration is made of, RecBole's and ours."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import recbole.config

from dataset_converters import source_of
from recbole_hstu.config.options import Option, inherit, read_declarations
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.yaml_values import load_yaml

RECBOLE_PROPERTIES = Path(recbole.config.__file__).parents[1] / "properties"

_TYPE_DEFAULTS = {
    "SEQUENTIAL": "sequential",
    "KNOWLEDGE": "knowledge_base",
    "CONTEXT": "context-aware",
    "DECISIONTREE": "context-aware",
}
_FEATURE_MODELS = ("GRU4RecF", "SASRecF", "FDSA", "S3Rec")
# Keys of a model's file that are no options.
_NO_OPTIONS = ("model_class", "dataset_settings")


@dataclass(frozen=True)
class SettingsFile:
    """One layer of settings: a YAML file, or the `options` of a class.

    Attributes:
        place: where they stand, for messages.
        settings: values by name, `dataset_settings` (data set -> values) among them.
    """

    place: str
    settings: Mapping[str, Any]
    options: Mapping[str, Option]

    def of(self, dataset: str) -> dict[str, Any]:
        """The settings for one data set.

        Raises:
            InputError: `dataset_settings` is no such mapping.
        """
        plain = {key: value for key, value in self.settings.items() if key not in _NO_OPTIONS}
        by_name = self.settings.get("dataset_settings", {})
        of_dataset = by_name.get(dataset, {}) if isinstance(by_name, Mapping) else None
        if not isinstance(of_dataset, Mapping):
            raise InputError(
                f"{self.place}: dataset_settings: expected options by the name of a data set"
            )
        return {**plain, **of_dataset}


def recbole_name(model_class: type) -> str:
    """The class of RecBole that a class is or derives from: RecBole finds data sets, loaders,
    trainers and defaults by its name."""
    return next((c.__name__ for c in model_class.__mro__ if _package(c) == "recbole"), "")


def model_files(model_class: type, name: str = "") -> list[SettingsFile]:
    """Of a class and its bases, later ones win; `name`: of a named configuration."""
    files = []
    for cls in reversed(model_class.__mro__):
        files += _files_of_class(cls, recbole_name(model_class))
    if name and name != model_class.__name__:
        files += _own_file(name)
    return files


def model_settings(
    files: list[SettingsFile], dataset: str, text_encoder: str | None
) -> list[dict[str, Any]]:
    """The settings of a model's files for one data set.

    Args:
        text_encoder: the one that is asked for, None: that of the files. What a file says to
            another one (its model, its pooling) does not hold then.
    """
    known = settings_file(PROPERTIES / "model" / "TextModel.yaml").options
    of_encoders = known.keys() - {"text_missing", "text_storage_dtype", "text_features_file"}
    layers = []
    for file in files:
        layer, declared = file.of(dataset), file.options.get("text_encoder")
        other = layer.get("text_encoder", text_encoder) != text_encoder
        if text_encoder is not None and other and not (declared and declared.kind):
            layer = {key: value for key, value in layer.items() if key not in of_encoders}
        layers.append(layer)
    return layers


def settings_file(path: Path, *, strict: bool = True) -> SettingsFile:
    """A YAML file and what it declares (`strict`: see `read_declarations`)."""
    options = read_declarations(path, strict=strict)
    settings = {key: option.default for key, option in options.items()}
    declared = {key: option for key, option in options.items() if key not in _NO_OPTIONS}
    return SettingsFile(str(path), settings, declared)


def take_declared(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The options that a file declares, taken out of those given; the others are the defaults.

    Raises:
        InputError: a value that is not what the file declares.
    """
    declared = settings_file(path).options
    own = {name: given.pop(name, option.default) for name, option in declared.items()}
    for name, option in declared.items():
        option.check(own[name])
    return own


def declared_options(files: list[SettingsFile]) -> dict[str, Option]:
    """The options that the files declare together, those taken back included."""
    options: dict[str, Option] = {}
    for file in files:
        options = inherit(options, file.options)
    return options


def named_configurations() -> list[str]:
    """The files of `properties/model` that are a configuration of a class of another name."""
    files = (PROPERTIES / "model").glob("*.yaml")
    return sorted(path.stem for path in files if "model_class" in load_yaml(path))


def recbole_defaults(recbole_model: str, model_type: str, dataset: str) -> list[dict[str, Any]]:
    """What RecBole sets for every model, and for those of one type, in its order.

    Args:
        recbole_model: see `recbole_name`.
    """
    sample = load_yaml(RECBOLE_PROPERTIES / "dataset" / "sample.yaml")
    sample.pop("load_col")  # the configuration sets it, with the time field
    names = []
    if recbole_model in ("DIN", "DIEN"):
        names += ["sequential_DIN"]
    elif recbole_model in ("GRU4RecKG", "KSR"):
        names += ["sequential_embedding_model"]
    elif model_type in _TYPE_DEFAULTS:
        names += [_TYPE_DEFAULTS[model_type]]
    if dataset == "ml-100k":
        special = {"context-aware": "context-aware_ml-100k"}
        special["sequential_DIN"] = "sequential_DIN_on_ml-100k"
        names += [special[name] for name in names if name in special]
        names += ["special_sequential_on_ml-100k"] if recbole_model in _FEATURE_MODELS else []
    folder = RECBOLE_PROPERTIES / "quick_start_config"
    by_type = [load_yaml(folder / f"{name}.yaml") for name in names]
    return [load_yaml(RECBOLE_PROPERTIES / "overall.yaml"), sample, *by_type]


def dataset_settings(dataset: str) -> dict[str, Any]:
    """`properties/dataset`: the data set's own file, or that of the source it comes from."""
    for name in (dataset, source_of(dataset)):
        path = PROPERTIES / "dataset" / f"{name}.yaml"
        if path.is_file():
            return load_yaml(path)
    return {}


def protocol_settings(name: Any) -> dict[str, Any]:
    """`properties/protocol`.

    Raises:
        InputError: there is no such protocol.
    """
    known = sorted(p.stem for p in (PROPERTIES / "protocol").glob("*.yaml"))
    if name not in known:
        raise InputError(f"--protocol={name}: no such protocol; known are {', '.join(known)}")
    return load_yaml(PROPERTIES / "protocol" / f"{name}.yaml")


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _files_of_class(cls: type, recbole_model: str) -> list[SettingsFile]:
    if _package(cls) == "recbole" and cls.__name__ == recbole_model:
        path = RECBOLE_PROPERTIES / "model" / f"{cls.__name__}.yaml"
        return [*_file(path, strict=False), *_own_file(cls.__name__)]
    if _package(cls) in ("recbole", "recbole_hstu"):
        return _own_file(cls.__name__) if _package(cls) == "recbole_hstu" else []
    return _outside_files(cls)


def _outside_files(cls: type) -> list[SettingsFile]:
    """Of a class from elsewhere: `CLASS.yaml` beside its module, and its attribute `options`."""
    module = getattr(sys.modules.get(cls.__module__), "__file__", None)
    files = _file(Path(module).with_name(f"{cls.__name__}.yaml")) if module else []
    attribute = vars(cls).get("options", {})
    if not isinstance(attribute, Mapping):
        raise InputError(f"{cls.__name__}.options: expected a dict of names and defaults")
    options = {key: Option(key, value, optional=True) for key, value in attribute.items()}
    place = f"{cls.__name__}.options"
    return [*files, SettingsFile(place, attribute, options)] if attribute else files


def _own_file(name: str) -> list[SettingsFile]:
    return _file(PROPERTIES / "model" / f"{name}.yaml")


def _file(path: Path, *, strict: bool = True) -> list[SettingsFile]:
    return [settings_file(path, strict=strict)] if path.is_file() else []
