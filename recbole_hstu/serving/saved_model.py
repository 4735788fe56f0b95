"""A checkpoint -> its model, configuration and tokens, without its data set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import ModelType

from recbole_hstu.config.checkpoint_settings import without_beginning
from recbole_hstu.config.config import Config
from recbole_hstu.config.model_registry import find_model
from recbole_hstu.config.properties import model_files
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.files.item_rows import PADDING
from recbole_hstu.layers.items.semantic_codes import kept_ids
from recbole_hstu.model.parts.text_model import reads_text
from recbole_hstu.serving.dataset_of_checkpoint import DatasetOfCheckpoint, NeedsDataset
from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.random_states import random_states_kept
from recbole_hstu.training import checkpoint, data_of_training

_LEFT_OUT = ("state_dict", "optimizer", "further_optimizers", "random")
_NEEDED = ("config", "state_dict", "other_parameter", "item_tokens")


class SavedConfig(dict):
    """The configuration in a checkpoint; None for what it does not have, as RecBole's.

    Options are attributes, too: EASE reads one like that.
    """

    def __missing__(self, key: str) -> None:
        return None

    def __getattr__(self, key: str) -> Any:
        if key not in self:
            raise AttributeError(key)
        return self[key]


@dataclass
class SavedModel:
    """What a checkpoint holds, ready to be used.

    Attributes:
        path: of the checkpoint.
        config: of the run that wrote it.
        model: in evaluation mode, on its device.
        item_tokens: in the order of the ids, entry 0 is the padding.
        user_tokens: likewise; only the padding where the model keeps nothing of its users.
        state: what else stands in the checkpoint, without weights and optimiser.
    """

    path: Path
    config: SavedConfig
    model: Any
    item_tokens: list[str]
    user_tokens: list[str]
    state: dict[str, Any]

    @property
    def times(self) -> tuple[int, int] | None:
        """The first and the last of the data set; None where it had none, or the checkpoint is of
        an older version."""
        return self.state.get("times")

    @property
    def max_history(self) -> int:
        """How many of the last events it sees; 1 for a model that reads no histories."""
        return self.config["MAX_ITEM_LIST_LENGTH"] or 1

    @property
    def of_recbole(self) -> bool:
        """Whether the model is not one of this package's."""
        return not hasattr(self.model, "sequence_view")

    @property
    def is_sequential(self) -> bool:
        """Whether it scores by histories, and not users by their names."""
        return self.config["MODEL_TYPE"] == ModelType.SEQUENTIAL or not self.of_recbole


def load_model(
    path: str | Path,
    *,
    dataset: str | Path | None = None,
    text_features_file: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> SavedModel:
    """Build the model of a checkpoint and give it its weights.

    Args:
        path: of a `.pth` that a run has written.
        dataset: folder of the atomic files, for models that are built from all interactions.
        text_features_file: of the frozen text vectors, where it is not at its recorded place.
        device: where the model computes.

    Raises:
        InputError: no such checkpoint or folder, a damaged checkpoint, one of another release, a
            model that needs its data set, text vectors that are not there or of another training.
    """
    path = Path(path)
    if dataset is not None and not Path(dataset).exists():
        raise InputError(f"dataset: {dataset}: nothing is there; name a folder of atomic files")
    state = checkpoint.load_checkpoint(path)
    lacking = [key for key in _NEEDED if key not in state]
    if lacking:
        raise InputError(
            f"{path}: lacks {', '.join(lacking)}, so another release wrote it; train anew with "
            "this one"
        )
    config = saved_config(state["config"], device, dataset, text_features_file)
    user_tokens = state.get("user_tokens") or [PADDING]
    try:
        model = _build(path, config, dataset, state, user_tokens)
        model.load_state_dict(state["state_dict"])
    except InputError:
        raise
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: does not fit {config['model']} of this release, train anew with it "
            f"({in_a_line(error)[:200]})"
        ) from error
    model.load_other_parameter(checkpoint.decode(state["other_parameter"], config["device"]))
    rest = {key: value for key, value in state.items() if key not in _LEFT_OUT}
    model = model.to(device).eval().requires_grad_(False)
    return SavedModel(path, config, model, state["item_tokens"], user_tokens, rest)


def saved_config(
    plain: Mapping[str, Any],
    device: str | torch.device,
    dataset: str | Path | None = None,
    text_features_file: str | Path | None = None,
) -> SavedConfig:
    """The configuration as a model reads it: the device and the files of this machine. Options
    that the model has got since the checkpoint was written have their defaults, as in `load`.

    Raises:
        InputError: nobody knows the model, or there is no such device.
    """
    kind: Any = find_model(str(plain["model_class"]))
    config = SavedConfig()
    for file in model_files(kind, plain["model"]):
        config.update(file.of(plain["dataset"]))
    config.update(plain)
    without_beginning(config)
    try:
        config["device"] = torch.device(device)
        torch.empty(1, device=config["device"])
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"device: {device}: {in_a_line(error)[:200]}") from error
    config["torch_compile"] = False  # for a few requests compiling takes longer than it saves
    if dataset is not None:
        config["data_path"] = str(dataset)
    if text_features_file is not None:
        config["text_features_file"] = str(text_features_file)
    config["model_class"], config["MODEL_TYPE"] = kind, kind.type
    return config


def _build(path, config, dataset, state, user_tokens) -> Any:
    item_tokens = state["item_tokens"]
    kind = config["model_class"]
    ids = kept_ids(state["state_dict"])
    data: Any = DatasetOfCheckpoint(config, item_tokens, user_tokens, ids)
    _find_text_file(path, kind, config)
    seed = config["seed"] or 0
    try:
        with _seeded(seed):
            return kind(config, data)
    except NeedsDataset:
        if dataset is None:
            raise
    with _seeded(seed):  # a split may be random
        data = _training_part(path, config, item_tokens, user_tokens)
    with _seeded(seed):  # NNCF draws its neighbours, and keeps them nowhere
        return kind(config, data)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Every generator as a run has it when it builds its model; afterwards as it was before."""
    with random_states_kept():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - RecBole draws from it
        torch.manual_seed(seed)
        yield


def _training_part(path, config, item_tokens, user_tokens) -> Any:
    """The data that the model was trained on, read and split again."""
    Config.compatibility_settings(config)
    folder = Path(config["data_path"])
    if not config["benchmark_filename"] and not (folder / f"{config['dataset']}.inter").is_file():
        raise InputError(
            f"{folder}: no {config['dataset']}.inter there, and {config['model']} is built from "
            "its interactions; name the folder of the data set's atomic files (--dataset=FOLDER)"
        )
    train = create_dataset(config).build()[0]
    now = (data_of_training.item_tokens(train), data_of_training.user_tokens(train))
    for what, before, found in zip(
        ("items", "users"), (item_tokens, user_tokens), now, strict=True
    ):
        if len(before) > 1 and before != found:
            raise InputError(
                f"{config['data_path']}: has other {what} than {path} was trained on; name the "
                "folder of the very data (--dataset=FOLDER)"
            )
    return train


def _find_text_file(path: Path, kind: Any, config: SavedConfig) -> None:
    """The recorded file of text vectors, or one of its name beside the checkpoint."""
    recorded = config["text_features_file"]
    if not reads_text(kind, config) or recorded is None:
        return
    beside = path.parent / Path(recorded).name
    if not Path(recorded).is_file() and beside.is_file():
        config["text_features_file"] = str(beside)
    if not Path(config["text_features_file"]).is_file():
        raise InputError(
            f"{path}: reads the text vectors of {recorded}, which is not there; name the file "
            "(--text_features_file=FILE)"
        )
