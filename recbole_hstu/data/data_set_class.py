"""Which data set a model gets, and what its ranking asks for."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from recbole.data.dataset import SequentialDataset
from recbole.utils import EvaluatorType, ModelType

from recbole_hstu.config.config import Config
from recbole_hstu.config.properties import recbole_name
from recbole_hstu.data.exact_times import ExactTimes
from recbole_hstu.data.sequence_dataset import InteractionDataset, SequenceDataset
from recbole_hstu.support.errors import InputError

logger = logging.getLogger(__name__)

_OWN_SPLIT = (ModelType.SEQUENTIAL, ModelType.GENERAL, ModelType.TRADITIONAL)


def create_dataset(config: Config) -> Any:
    """The data set of a model, times exact in every case.

    Sequential and general models share `SequenceDataset`, so that they are judged on the same
    targets. A split given in files (`benchmark_filename`) is of interactions for general models,
    of rows with their histories for sequential ones. Models for which RecBole has a data set of
    its own (knowledge graphs, click models, DIEN, ...) keep that one. RecBole's cache of data sets
    is not used: it loads whatever lies under its name and keeps the configuration of the day
    before.
    """
    kind = data_set_class(config)
    as_sequences = kind is SequenceDataset and config["MODEL_TYPE"] != ModelType.SEQUENTIAL
    if as_sequences and "RS" in config["eval_args"]["split"]:
        logger.info(
            "%s: each test event is asked for by itself, as for sequential models, so that recall "
            "is hit; order: RO asks for all of a user's at once, as RecBole does",
            config["model"],
        )
    return kind(config)


def data_set_class(config: Config) -> type:
    """Of a model; see `create_dataset`."""
    module = importlib.import_module("recbole.data.dataset")
    kind = config["MODEL_TYPE"]
    special = getattr(module, f"{recbole_name(config.model_class)}Dataset", None)
    ordered = config["eval_args"]["order"] == "TO" and config["benchmark_filename"] is None
    if special is None and (kind == ModelType.SEQUENTIAL or (kind in _OWN_SPLIT and ordered)):
        return SequenceDataset
    if special is None and kind == ModelType.KNOWLEDGE:
        special = module.KnowledgeBasedDataset
    if special is None:
        return InteractionDataset
    return type(f"Exact{special.__name__}", (ExactTimes, special), {})


def asks_for_users(config: Config) -> bool:
    """Whether the ranking asks for all test items of a user at once, not for each by itself.

    Not where every user has one (`LS`); of a split in files it is not known."""
    of_one = "LS" in config["eval_args"]["split"] or config["benchmark_filename"] is not None
    return not of_one and _ranks_without_histories(config)


def check_mask(config: Config) -> None:
    """Whether a model can leave out what `mask_seen` and `mask_history` say.

    Raises:
        InputError: it knows no order of a user's items, and the mask is of the visible history.
    """
    of_visible = config["mask_seen"] and config["mask_history"] == "visible"
    if of_visible and _ranks_without_histories(config):
        raise InputError(
            f"mask_seen: {config['model']} ranks without histories, so all earlier items of a "
            "user are left out; add --mask_history=all, for every model of a table"
        )


def _ranks_without_histories(config: Config) -> bool:
    in_order = issubclass(data_set_class(config), SequentialDataset)
    return config["eval_type"] == EvaluatorType.RANKING and not in_order
