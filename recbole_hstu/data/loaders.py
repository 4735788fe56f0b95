"""From a configuration to batches: the data set, its split, and the loaders of the three parts."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import EvaluatorType, ModelType, set_color

from recbole_hstu.config.config import Config
from recbole_hstu.config.properties import recbole_name
from recbole_hstu.data.data_set_class import check_mask
from recbole_hstu.data.evaluation_loaders import (
    SequenceEvalDataLoader,
    UserEvalDataLoader,
    can_rank_in_blocks,
)
from recbole_hstu.data.held_out import log_unknown
from recbole_hstu.data.rows.own_rows import sharing
from recbole_hstu.data.rows.row_numbers import without_lists
from recbole_hstu.data.sampled_candidates import evaluation_samplers
from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.distributed.row_blocks import shares_items
from recbole_hstu.support.errors import InputError, refused_by_recbole
from recbole_hstu.support.settings import Settings

_WITHOUT_CUT_OFF = {"gauc", "auc", "logloss", "mae", "rmse"}
# What RecBole passes over where a split comes in files.
_FILTERS = (
    *("limit_users", "rm_dup_inter", "val_interval"),
    *("user_inter_num_interval", "item_inter_num_interval"),
)
_RANKING_OPTIONS = ("mask_seen", "mask_history", "candidates")


def make_loaders(config: Config, dataset: Any) -> tuple[Any, Any, Any]:
    """Split a data set and wrap its parts; the validation or test loader is None if empty.

    Raises:
        InputError: nothing to train on, a cut-off above the number of items, `mask_seen` or
            `candidates` together with sampled candidates, a protocol that the model's data set
            cannot keep to.
    """
    with refused_by_recbole(f"--dataset={config['dataset']}"):
        parts = dataset.build()
        _check_options(config, dataset)
        _check_protocol(config, dataset)
        if config["eval_type"] == EvaluatorType.RANKING:
            log_unknown(config, parts)
        samplers: Sequence[Any] = (None, None, None)
        sampled, ours = _samples_candidates(config), isinstance(dataset, SequenceDataset)
        by_recbole = _draws_in_training(config) or (sampled and not ours)
        if by_recbole or not hasattr(dataset, "item_id_list_field"):
            samplers = create_samplers(config, dataset, parts)
        if sampled and ours:
            samplers = (samplers[0], *evaluation_samplers(config, dataset))
    loaders: list[Any] = []
    named = {**config.final_config_dict, "model": recbole_name(config.model_class)}
    for phase, part, sampler in zip(("train", "valid", "test"), parts, samplers, strict=True):
        if phase != "train" and not len(part):
            loaders.append(None)
            continue
        loader = get_dataloader(named, phase)
        loader = sharing(loader) if phase == "train" else loader
        if loader is FullSortEvalDataLoader:
            with_history = hasattr(part, "item_id_list_field")
            loader = SequenceEvalDataLoader if with_history else UserEvalDataLoader
        extra = _knowledge_sampler(config, dataset, phase)
        shuffle = config["shuffle"] if phase == "train" else False
        with refused_by_recbole(f"--model={config['model']}"):
            made = loader(config, part, sampler, *extra, shuffle=shuffle)
        loaders.append(without_lists(made))
    train, valid, test = loaders
    return train, valid, test


def _draws_in_training(config: Settings) -> bool:
    """Whether RecBole's sampler draws anything: it makes a set for every user beforehand."""
    return config["train_neg_sample_args"]["distribution"] != "none"


def _samples_candidates(config: Settings) -> bool:
    return set(config["eval_args"]["mode"].values()) != {"full"}


def log_loaders(config: Settings) -> None:
    """RecBole's two lines about the loaders, and ours about the protocol."""
    for phase, keys in (
        ("Training", ("train_batch_size", "train_neg_sample_args")),
        ("Evaluation", ("eval_batch_size", "eval_args", "protocol", *_RANKING_OPTIONS)),
    ):
        shown = " ".join(
            f"{set_color(key, 'cyan')} = {set_color(f'[{config[key]}]', 'yellow')}" for key in keys
        )
        getLogger().info(set_color(f"[{phase}]: ", "pink") + shown)


def _check_options(config: Config, dataset: Any) -> None:
    largest = max(config["topk"])
    if largest > dataset.item_num - 1:
        raise InputError(
            f"topk: {largest} is above the number of items ({dataset.item_num - 1:,}) of "
            f"{config['dataset']}; choose smaller cut-offs, such as --topk=[5,10]"
        )
    names = {str(metric).lower() for metric in config["metrics"]}
    known = {f"{name}@{k}" for name in names - _WITHOUT_CUT_OFF for k in config["topk"]}
    known |= names & _WITHOUT_CUT_OFF
    one_target = hasattr(dataset, "item_id_list_field") or "LS" in config["eval_args"]["split"]
    if one_target and config["eval_type"] == EvaluatorType.RANKING:  # `mrr` stands in every result
        known.add("mrr")
    if config["valid_metric"].lower() not in known:
        raise InputError(
            f"valid_metric: {config['valid_metric']} is not among the metrics and cut-offs; "
            f"choose one of {', '.join(sorted(k for k in known if '@' in k) or known)}"
        )
    modes = set(config["eval_args"]["mode"].values())
    if "labeled" in modes and config["eval_type"] == EvaluatorType.RANKING:
        raise InputError(
            "eval_args: mode: labeled goes with metrics of clicks, as in --metrics=[AUC,LogLoss]; "
            "take full to rank the items"
        )
    for option, off in (("mask_seen", False), ("candidates", "all")):
        if config[option] != off and modes != {"full"}:
            raise InputError(
                f"{option}: {config[option]} goes with eval_args mode full, not "
                f"{', '.join(sorted(modes))}; add --{option}={off}"
            )

    if shares_items(config) and (modes != {"full"} or not can_rank_in_blocks(config)):
        raise InputError(
            "item_table: sharded ranks in blocks of items: no sampled candidates (eval_args mode "
            "full), and no metric that needs all scores at once, such as GAUC"
        )


def _check_protocol(config: Config, dataset: Any) -> None:
    of_files = config["benchmark_filename"] is not None
    for key in ("train_events", "eval_users", *_FILTERS):
        if of_files and config[key] not in (None, "[0,inf)"):
            raise InputError(f"{key}: benchmark_filename takes files as they are; --{key}=None")
    if isinstance(dataset, SequenceDataset):
        return
    check_mask(config)
    wanted = [
        *(["eval_args.split: TS"] if "TS" in config["eval_args"]["split"] else []),
        *(name for name in ("train_events", "eval_users") if config[name] is not None),
    ]
    if wanted:
        other = "" if config["protocol"] == "recbole" else ", or choose --protocol=recbole"
        raise InputError(
            f"{' and '.join(wanted)}: for sequential and general models only; {config['model']} "
            f"keeps RecBole's own data set: leave it out{other}"
        )


def _knowledge_sampler(config: Settings, dataset: Any, phase: str) -> list[Any]:
    if phase != "train" or config["MODEL_TYPE"] != ModelType.KNOWLEDGE:
        return []
    from recbole.sampler import KGSampler

    args = config["train_neg_sample_args"]
    return [KGSampler(dataset, args["distribution"], args["alpha"])]
