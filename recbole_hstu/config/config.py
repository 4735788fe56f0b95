"""RecBole's Config with our properties, named protocols and no `eval()`.

Later wins: RecBole's defaults, ours, the protocol, the data set, the model, configuration files,
the caller's dictionary. The command line reaches this class as that dictionary; `sys.argv` is
never read here.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import recbole.config
import torch
from recbole.config import Config as RecBoleConfig
from recbole.trainer import Trainer
from recbole.utils import ModelType, get_trainer
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)
from scipy.sparse import dok_matrix

from dataset_converters import source_of
from recbole_hstu.config.model_registry import model_class, unknown_model
from recbole_hstu.config.option_checks import check_options
from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import InputError, UnknownOption
from recbole_hstu.support.plain_values import plain_value
from recbole_hstu.support.secrets import masked
from recbole_hstu.support.yaml_values import YamlLoader, load_yaml, parse_value

_PACKAGE = Path(__file__).parents[1]
# Installed as recbole_hstu/properties; in a checkout the folder stands beside the package.
PROPERTIES = next(
    (p for p in (_PACKAGE / "properties", _PACKAGE.parent / "properties") if p.is_dir()),
    _PACKAGE / "properties",
)
RECBOLE_PROPERTIES = Path(recbole.config.__file__).parents[1] / "properties"

# RecBole reads these with config["..."] but names them in none of its YAML files.
_UNLISTED_KEYS = (
    *("model", "dataset", "config_files", "encoding"),
    *("tail_ratio", "reg_weight", "save_step", "pretrain_epochs"),
)
_TYPE_DEFAULTS = {
    ModelType.SEQUENTIAL: "sequential",
    ModelType.KNOWLEDGE: "knowledge_base",
    ModelType.CONTEXT: "context-aware",
    ModelType.DECISIONTREE: "context-aware",
}
_FEATURE_MODELS = ("GRU4RecF", "SASRecF", "FDSA", "S3Rec")


class Config(RecBoleConfig):
    """Configuration of one run.

    Args:
        model: name of one of our models, of one of RecBole's, of a named configuration
            (`properties/model/NAME.yaml` with `model_class`), or a class.
        dataset: name of the data set.
        config_file_list: YAML files, later ones win.
        config_dict: options that win over the files; text values are read as YAML.

    Raises:
        InputError: an unknown model, protocol, option or value, an unreadable file.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
    ):
        try:
            super().__init__(model, dataset, config_file_list, config_dict)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, NotImplementedError, RuntimeError) as error:
            reason = error.args[0] if error.args else error
            raise InputError(f"configuration: {' '.join(str(reason).split())}") from error

    def compatibility_settings(self) -> None:
        """Define what RecBole uses and newer releases of numpy and scipy dropped, only that."""
        if not hasattr(dok_matrix, "_update"):  # LightGCN and six others fill their graph with it
            dok_matrix._update = lambda self, entries: self._dict.update(entries)
        for name, kind in [
            ("bool", np.bool_),
            ("int", np.int64),
            ("long", np.int64),
            ("float", np.float64),
            ("complex", np.complex128),
            ("object", np.object_),
            ("str", np.str_),
            ("unicode", np.str_),
        ]:
            if name not in np.__dict__:
                setattr(np, name, kind)

    def _init_parameters_category(self) -> None:
        # Copies: RecBole appends to its module-wide lists, so that one run changes the next.
        self.parameters = {
            "General": list(general_arguments),
            "Training": list(training_arguments),
            "Evaluation": list(evaluation_arguments),
            "Dataset": list(dataset_arguments),
        }

    def _build_yaml_loader(self) -> type[YamlLoader]:
        return YamlLoader

    def _load_config_files(self, file_list: Sequence[str | Path] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or ():
            merged.update(load_yaml(file))
        return merged

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _convert_config_dict(self, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        given = {k: str(v) if isinstance(v, Path) else v for k, v in config_dict.items()}
        return {k: parse_value(k, v) if isinstance(v, str) else v for k, v in given.items()}

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        model = model or self.external_config_dict.get("model")
        dataset = dataset or self.external_config_dict.get("dataset")
        if not model or not dataset:
            missing = "model" if not model else "dataset"
            raise InputError(f"--{missing} is missing; name one, as in --{missing}=NAME")
        if not isinstance(model, str):
            return model.__name__, model, str(dataset)
        named = PROPERTIES / "model" / f"{model}.yaml"
        base = load_yaml(named).get("model_class", model) if named.is_file() else model
        cls = model_class(base)
        if cls is None:
            files = (PROPERTIES / "model").glob("*.yaml")
            raise unknown_model(model, [p.stem for p in files if "model_class" in load_yaml(p)])
        return model, cls, str(dataset)

    def _load_internal_config_dict(self, model: str, model_class: Any, dataset: str) -> None:
        layers = [
            load_yaml(RECBOLE_PROPERTIES / "overall.yaml"),
            load_yaml(RECBOLE_PROPERTIES / "dataset" / "sample.yaml"),
        ]
        layers[1].pop("load_col")  # set in `_set_default_parameters`, with the time field
        layers += self._type_defaults(model, model_class, dataset)
        own_overall = load_yaml(PROPERTIES / "overall.yaml")
        own_dataset = self._own_dataset_settings(dataset)
        own_model = self._own_model_settings(model, model_class, dataset)
        protocol_layer = self._protocol(model_class, [own_overall, own_dataset, own_model])
        layers += [own_overall, protocol_layer, own_dataset]
        layers += [_optional_yaml(RECBOLE_PROPERTIES / "model" / f"{model_class.__name__}.yaml")]
        layers += [own_model]
        self.internal_config_dict = {}
        for layer in layers:
            self.internal_config_dict.update(layer)
        self.internal_config_dict["MODEL_TYPE"] = model_class.type
        self.parameters["Dataset"] += [k for k in own_dataset if k not in dataset_arguments]
        self._refuse_unknown_options(model_class)
        self._merge_eval_args(protocol_layer)

    def _type_defaults(self, model: str, model_class: Any, dataset: str) -> list[dict[str, Any]]:
        folder = RECBOLE_PROPERTIES / "quick_start_config"
        names = []
        if model in ("DIN", "DIEN"):
            names += ["sequential_DIN"]
        elif model in ("GRU4RecKG", "KSR"):
            names += ["sequential_embedding_model"]
        elif model_class.type in _TYPE_DEFAULTS:
            names += [_TYPE_DEFAULTS[model_class.type]]
        if dataset == "ml-100k":
            special = {"context-aware": "context-aware_ml-100k"}
            special["sequential_DIN"] = "sequential_DIN_on_ml-100k"
            names += [special[name] for name in names if name in special]
            names += ["special_sequential_on_ml-100k"] if model in _FEATURE_MODELS else []
        return [load_yaml(folder / f"{name}.yaml") for name in names]

    def _own_dataset_settings(self, dataset: str) -> dict[str, Any]:
        """`properties/dataset`: the data set's own file, or that of the source it comes from."""
        for name in (dataset, source_of(dataset)):
            path = PROPERTIES / "dataset" / f"{name}.yaml"
            if path.is_file():
                return load_yaml(path)
        return {}

    def _own_model_settings(self, model: str, model_class: Any, dataset: str) -> dict[str, Any]:
        """`properties/model`: the files of the class and its bases, the named configuration's,
        and what each of them says of this data set under `dataset_settings`."""
        settings: dict[str, Any] = {}
        classes = [cls.__name__ for cls in reversed(model_class.__mro__)]
        for name in dict.fromkeys([*classes, model]):
            layer = _optional_yaml(PROPERTIES / "model" / f"{name}.yaml")
            by_dataset = layer.pop("dataset_settings", {})
            settings.update(layer)
            settings.update(by_dataset.get(dataset, {}))
        return settings

    def _protocol(self, model_class: Any, layers: list[dict[str, Any]]) -> dict[str, Any]:
        if model_class.type in (ModelType.CONTEXT, ModelType.DECISIONTREE):
            return {}  # they predict clicks; ranking the catalogue is not their task
        name = next(
            layer["protocol"]
            for layer in [self.external_config_dict, *reversed(layers)]
            if layer.get("protocol")
        )
        known = sorted(p.stem for p in (PROPERTIES / "protocol").glob("*.yaml"))
        if name not in known:
            raise InputError(f"--protocol={name}: no such protocol; known are {', '.join(known)}")
        return load_yaml(PROPERTIES / "protocol" / f"{name}.yaml")

    def _refuse_unknown_options(self, model_class: type) -> None:
        known = {key for keys in self.parameters.values() for key in keys}
        known.update(self.internal_config_dict, _UNLISTED_KEYS)
        for cls in model_class.__mro__:
            if cls.__module__.split(".")[0] not in ("torch", "builtins", "typing", "abc"):
                known.update(_options_read_in(sys.modules[cls.__module__]))
        for key in self.external_config_dict:
            if key not in known:
                near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
                raise UnknownOption(key, near[0])

    def _merge_eval_args(self, protocol_layer: dict[str, Any]) -> None:
        """`--eval_args="{mode: uni100}"` changes the mode and leaves split and order alone."""
        given = self.external_config_dict.get("eval_args")
        base = self.internal_config_dict["eval_args"]
        for part in (protocol_layer.get("eval_args", {}), base):
            if not isinstance(part, dict):
                raise InputError(f"eval_args: expected a mapping, found {part!r}")
        if isinstance(given, dict):
            self.external_config_dict["eval_args"] = {**base, **given}

    def _set_default_parameters(self) -> None:
        final = self.final_config_dict
        check_options(final)
        final.setdefault(
            "load_col",
            {"inter": [final["USER_ID_FIELD"], final["ITEM_ID_FIELD"], final["TIME_FIELD"]]},
        )
        if final["MODEL_TYPE"] == ModelType.SEQUENTIAL and final.get("loss_type") == "CE":
            # RecBole refuses cross-entropy with its own default of one sampled negative.
            self.internal_config_dict["train_neg_sample_args"] = None
            if "train_neg_sample_args" not in self.external_config_dict:
                final["train_neg_sample_args"] = None
        given_path = self.external_config_dict.get("data_path")
        # Where files made from a data set go; the data set itself may be read only.
        final["output_path"] = final["data_path"]
        super()._set_default_parameters()
        if given_path is not None:
            final["data_path"] = str(Path(given_path) / self.dataset)
        # How the training rows look: see data.sequence_dataset.
        default_view = "prefix" if final["MODEL_TYPE"] == ModelType.SEQUENTIAL else "interaction"
        final["sequence_view"] = getattr(self.model_class, "sequence_view", default_view)

    def _init_device(self) -> None:
        final = self.final_config_dict
        gpu_id = final["gpu_id"]
        final["gpu_id"] = (
            ",".join(map(str, gpu_id)) if isinstance(gpu_id, tuple | list) else str(gpu_id)
        )
        if "gpu_id" in self.external_config_dict:
            os.environ["CUDA_VISIBLE_DEVICES"] = final["gpu_id"]
        usable = final["use_gpu"] and final["gpu_id"] and torch.cuda.is_available()
        final["nproc"] = processes.requested(final["nproc"])
        if final["nproc"] > 1:
            self._check_shareable()
        final["device"] = processes.device(final["nproc"], bool(usable))
        final["single_spec"] = True  # RecBole's own way to several GPUs is not taken
        final["local_rank"] = 0

    def _check_shareable(self) -> None:
        name = self.model_class.__name__
        if get_trainer(self.final_config_dict["MODEL_TYPE"], name) is not Trainer:
            raise InputError(
                f"--nproc: {name} has a way of its own to train, which takes one process; leave "
                "--nproc out for it"
            )

    def plain(self) -> dict[str, Any]:
        """The configuration as a dictionary of plain values: it survives YAML, JSON and
        `torch.load(weights_only=True)`. Secrets in addresses are masked."""
        return {key: plain_value(value) for key, value in self.masked().final_config_dict.items()}

    def masked(self) -> Config:
        """A copy to be shown or kept: no address in it has a secret."""
        shown = copy.copy(self)
        shown.final_config_dict = masked(self.final_config_dict)
        return shown

    def __str__(self) -> str:
        return RecBoleConfig.__str__(self.masked())

    def digest(self) -> str:
        """Six characters that tell the settings of one run from those of another."""
        return hashlib.sha256(str(sorted(self.plain().items())).encode()).hexdigest()[:6]


def _options_read_in(module: Any) -> list[str]:
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):  # typed into an interpreter: there is no source to look into
        return []
    return re.findall(r"config\[\s*[\"'](\w+)[\"']\s*\]", source)


def _optional_yaml(path: Path) -> dict[str, Any]:
    return load_yaml(path) if path.is_file() else {}


def option(config: Any, key: str) -> Any:
    """A setting that a model cannot do without.

    Raises:
        InputError: the configuration does not have it (RecBole's own would give None).
    """
    value = config[key]
    if value is None:
        raise InputError(f"option '{key}' is not set; give it a value in the model's YAML")
    return value
