"""What a training needs before its first step: options, text vectors, a model, folders."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_hstu.config.checkpoint_settings import check_settings, checkpoint_settings
from recbole_hstu.config.config import Config
from recbole_hstu.config.model_registry import address
from recbole_hstu.config.properties import recbole_name
from recbole_hstu.distributed import processes
from recbole_hstu.encoders import ensure_text_features
from recbole_hstu.model.parts.text_model import reads_text
from recbole_hstu.support.commands.interrupts import Terminated
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import (
    ANY_REASON,
    REFUSALS,
    InputError,
    ProcessDied,
    refused_by_recbole,
)
from recbole_hstu.support.yaml_values import merge_yaml
from recbole_hstu.training import checkpoint
from recbole_hstu.training.checked_answers import check_answers
from recbole_hstu.training.trainer import trainer_class

logger = logging.getLogger(__name__)


def configuration(
    model: str | type | None,
    dataset: str | None,
    config_file_list: Sequence[str | Path] | None,
    config_dict: Mapping[str, Any] | None,
) -> Config:
    """The configuration of a training; one that is resumed has what it is not given from its
    checkpoint.

    Raises:
        InputError: options that make no sense, or are others than those of the checkpoint.
    """
    if not isinstance(config_dict or {}, Mapping):
        raise InputError(f"config_dict: {config_dict!r} is no mapping; write {{'epochs': 1}}")
    given = merge_yaml(config_file_list)
    path = {**given, **(config_dict or {})}.get("resume")
    if not path:
        return Config(model, dataset, config_file_list, config_dict)
    state = checkpoint.load_resumable(path)
    before = state["config"]
    base = checkpoint_settings(before)
    model = model or given.get("model")
    if model:  # other models have other options
        named = address(model) if isinstance(model, type) else model
        base = base if named in (before["model"], before["model_class"]) else {}
    model, dataset = model or before["model_class"], dataset or given.get("dataset")
    config = Config(model, dataset or before["dataset"], config_file_list, config_dict, base)
    check_settings(state, path, config)
    return config


def in_processes(
    config: Config, goes_on_by: str | None, function: Callable, *arguments: Any
) -> Any:
    """What a training in `nproc` processes returns.

    Raises:
        ProcessDied, Terminated: they were ended; the message says how to go on.
    """
    from recbole_hstu.distributed.launcher import launch  # not in every build of torch

    run_id = uuid.uuid4().hex
    try:
        return launch(config["nproc"], config["max_restarts"], function, *arguments, run_id=run_id)
    except (ProcessDied, Terminated) as end:
        last = checkpoint.last_of_launch(config["checkpoint_dir"], run_id)
        how = goes_on_by or (f"go on with {command('run')} --resume={last}" if last else "")
        raise type(end)("; ".join(filter(None, [str(end), how]))) from None


def take_up_launch(config: Config) -> None:
    """Where torch's launcher has started the processes again: go on from the last checkpoint.

    Raises:
        InputError: a job of the same name had other settings.
    """
    folder, launch = config["checkpoint_dir"], processes.launch_id()
    found = processes.from_main(
        checkpoint.last_of_launch(folder, launch) if launch and processes.is_main() else None
    )
    if found is None:
        return
    try:
        check_settings(checkpoint.load_resumable(found), found, config)
    except InputError as error:
        raise InputError(
            f"--rdzv_id={launch}: a job of this name has trained already; take a new name for a "
            f"new training, or the same settings ({error})"
        ) from error
    logger.warning("started again, goes on from %s", found)
    config["resume"] = str(found)


def provide_text(config: Config, dataset: Any) -> None:
    """Make sure that a model that reads item text finds its side-feature file.

    Raises:
        InputError: see `ensure_text_features`.
    """
    if not reads_text(config.model_class, config) or config["text_features_file"]:
        return
    # The data set that RecBole's wheel carries is read only.
    output = Path(config["output_path"]) / config["dataset"]
    file = ensure_text_features(
        config["dataset"],
        config["data_path"],
        config.final_config_dict,
        tokens=dataset.field2id_token[dataset.iid_field],
        output_folder=output,
    )
    config["text_features_file"] = str(file)


# What RecBole's models keep beside their weights and do not name in `other_parameter_name`.
_FURTHER_STATE = {
    **dict.fromkeys(("MultiVAE", "MacridVAE", "RaCT"), ("update",)),
    "DiffRec": ("Lt_history", "Lt_count"),
    "LDiffRec": ("Lt_history", "Lt_count", "update_count", "update_count_vae"),
    "LINE": ("random_list", "random_pr"),
    "KGAT": ("A_in",),
}


def build_model(config: Config, dataset: Any) -> Any:
    """The model of a configuration, on its device, its weights drawn from the seed.

    Raises:
        InputError: the model needs a package that is not installed, or RecBole refuses a value.
    """
    init_seed(config["seed"], config["reproducibility"])
    package = _package(config)
    reasons = (*ANY_REASON, FileNotFoundError)  # S3Rec's pre-trained file
    with refused_by_recbole(f"--model={config['model']}", package, errors=reasons):
        model = config.model_class(config, dataset).to(config["device"])
    if package not in ("recbole", "recbole_hstu") and isinstance(model, AbstractRecommender):
        check_answers(model, config["model"], dataset.item_num)
    further = _FURTHER_STATE.get(recbole_name(config.model_class), ())
    if further:  # checkpoints hold what is named there
        model.other_parameter_name = [*getattr(model, "other_parameter_name", ()), *further]
    return model


def refused_by_model(config: Config) -> AbstractContextManager[None]:
    """What RecBole refuses of a model while it trains or ranks; see `refused_by_recbole`."""
    # DGCF cannot train on few items, nor NCL. A process that is lost is a RuntimeError, too.
    reasons = ANY_REASON if processes.count() == 1 else REFUSALS
    return refused_by_recbole(f"--model={config['model']}", _package(config), errors=reasons)


def _package(config: Config) -> str:
    """Where the model comes from: what goes wrong in a package of one's own is a fault of it."""
    return config.model_class.__module__.partition(".")[0]


def make_trainer(config: Config, network: Any) -> Any:
    """RecBole's trainer of a model, with our checkpoints and our evaluation."""
    with refused_by_recbole(f"--model={config['model']}"):
        name = recbole_name(config.model_class)
        return trainer_class(config["MODEL_TYPE"], name)(config, network)
