"""RecBole's Config with our properties, named protocols and no `eval()`.

Later wins: RecBole's defaults, ours, the protocol, the data set, the model, configuration files,
the caller's dictionary. The command line reaches this class as that dictionary; `sys.argv` is
never read here.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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

from recbole_hstu.config.model_registry import address, check_methods, find_model
from recbole_hstu.config.option_checks import (
    CLICKS,
    check_options,
    meant_option,
    unlisted_options,
)
from recbole_hstu.config.properties import (
    PROPERTIES,
    dataset_settings,
    declared_options,
    model_files,
    model_settings,
    protocol_settings,
    recbole_defaults,
    recbole_name,
    settings_file,
)
from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import InputError, UnknownOption, refused_by_recbole
from recbole_hstu.support.plain_values import plain_value, python_value
from recbole_hstu.support.secrets import masked
from recbole_hstu.support.settings import Settings
from recbole_hstu.support.yaml_values import (
    YamlLoader,
    list_of_files,
    load_yaml,
    merge_yaml,
    merged,
    parse_value,
)


class Config(RecBoleConfig):
    """Configuration of one run.

    Args:
        model: a name or address that `find_model` knows, or a class.
        dataset: name of the data set.
        config_file_list: YAML files, later ones win.
        config_dict: options that win over the files; text values are read as YAML.
        base: settings under the files and over the model's, as `checkpoint_settings` gives them.
        taken_out: options that the caller keeps to itself; one may be meant by a misspelt name.

    Raises:
        InputError: an unknown model, protocol, option or value, an unreadable file.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        base: Mapping[str, Any] | None = None,
        taken_out: Collection[str] = (),
    ):
        self.base, self.taken_out = dict(base or {}), taken_out
        with refused_by_recbole("configuration"):
            super().__init__(model, dataset, config_file_list, config_dict)

    @property
    def reference(self) -> str | type:
        """What `Config` takes for the same model: a name or address, so that other processes find
        it, too; the class itself where it has none, inside a function."""
        return self.model_class if "<locals>" in self._reference else self._reference

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
        self._files = list_of_files(file_list)
        return merge_yaml(self._files)

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _merge_external_config_dict(self) -> None:
        self.external_config_dict = merged(self.file_config_dict, self.variable_config_dict)

    def _convert_config_dict(self, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        # RecBole fills in what mappings lack: the caller's stay as they are.
        given = {
            k: str(v) if isinstance(v, Path) else python_value(v) for k, v in config_dict.items()
        }
        return {k: parse_value(k, v) if isinstance(v, str) else v for k, v in given.items()}

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        model = model or self.external_config_dict.get("model")
        dataset = dataset or self.external_config_dict.get("dataset")
        if not model or not dataset:
            missing = "model" if not model else "dataset"
            raise InputError(f"--{missing} is missing; name one, as in --{missing}=NAME")
        cls = model if isinstance(model, type) else find_model(str(model))
        self._reference = address(cls) if isinstance(model, type) else str(model)
        check_methods(cls, self._reference)
        name = cls.__name__ if ":" in self._reference else self._reference
        return self.base.pop("model", name), cls, str(dataset)

    def _load_internal_config_dict(self, model: str, model_class: Any, dataset: str) -> None:
        overall = settings_file(PROPERTIES / "overall.yaml")
        files = model_files(model_class, model)
        self._declared = declared_options([overall, *files])
        of_dataset = dataset_settings(dataset)
        beside = self._settings_beside_data(overall.settings, dataset)
        text_encoder = {**self.base, **self.external_config_dict}.get("text_encoder")
        of_model = model_settings(files, dataset, text_encoder)
        own = [overall.settings, of_dataset, beside, *of_model, self.base]
        protocol = self._protocol(model_class, own)
        defaults = recbole_defaults(recbole_name(model_class), model_class.type.name, dataset)
        layers = (*defaults, own[0], protocol, *own[1:])
        self.internal_config_dict: dict[str, Any] = merged(*layers)
        self.internal_config_dict["MODEL_TYPE"] = model_class.type
        self.internal_config_dict["model_class"] = address(model_class)
        self.parameters["Dataset"] += [k for k in of_dataset if k not in dataset_arguments]
        known = {key for layer in layers if layer is not beside for key in layer}
        self._refuse_unknown_options(known, {**beside, **self.external_config_dict}, model_class)
        self._merge_eval_args(protocol)

    def _settings_beside_data(self, ours: Mapping[str, Any], dataset: str) -> dict[str, Any]:
        """`NAME.yaml` beside the atomic files: their conversion writes it."""
        layers = (self.external_config_dict, self.base, ours, {"data_path": "dataset"})
        folder = next(str(layer["data_path"]) for layer in layers if layer.get("data_path"))
        file = Path(folder) / dataset / f"{dataset}.yaml"
        return load_yaml(file) if file.is_file() else {}

    def _protocol(self, model_class: Any, layers: list[Mapping[str, Any]]) -> dict[str, Any]:
        if model_class.type in CLICKS:
            return {}
        return protocol_settings(
            next(
                layer["protocol"]
                for layer in [self.external_config_dict, *reversed(layers)]
                if layer.get("protocol")
            )
        )

    def _refuse_unknown_options(
        self, known: set[str], given: Mapping[str, Any], model_class: type
    ) -> None:
        known.update(*self.parameters.values(), unlisted_options(model_class))
        known |= {"MODEL_TYPE", "model_class"}
        gone = {key: option for key, option in self._declared.items() if option.is_taken_back}
        for key, value in given.items():
            if key in gone and value is not None:  # None is RecBole's word for "not set"
                message = f"{key}: {self.model} has no such option; {gone[key].meaning}"
                raise UnknownOption(key, self._place(key) + message)
            if key not in known:
                hint = meant_option(key, (known - set(gone)).union(self.taken_out), self.model)
                raise UnknownOption(key, f"{self._place(key)}unknown option '{key}'; {hint}")

    def _place(self, key: str) -> str:
        """The configuration file that an option comes from."""
        if key in self.variable_config_dict:
            return ""
        return next((f"{file}: " for file in reversed(self._files) if key in load_yaml(file)), "")

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
        for option in self._declared.values():
            option.check(final.get(option.name))
        check_options(final, self.model_class)
        columns = [final[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
        final.setdefault("load_col", {"inter": columns})
        if final["MODEL_TYPE"] == ModelType.SEQUENTIAL and final.get("loss_type") == "CE":
            # RecBole refuses cross-entropy with its own default of one sampled negative.
            self.internal_config_dict["train_neg_sample_args"] = None
            if "train_neg_sample_args" not in self.external_config_dict:
                final["train_neg_sample_args"] = None
        given_path = self.external_config_dict.get("data_path", self.base.get("data_path"))
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
        kind = self.final_config_dict["MODEL_TYPE"]
        if get_trainer(kind, recbole_name(self.model_class)) is not Trainer:
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


def option(config: Settings, key: str) -> Any:
    """A setting that a model cannot do without.

    Raises:
        InputError: the configuration does not have it (RecBole's own would give None).
    """
    value = config[key]
    if value is None:
        raise InputError(f"option '{key}' is not set; give it a value in the model's YAML")
    return value
