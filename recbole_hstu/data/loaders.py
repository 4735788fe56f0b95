"""From a configuration to batches: the data set, its split, and the loaders of the three parts."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader, FullSortEvalDataLoader
from recbole.data.utils import create_samplers, get_dataloader
from recbole.evaluator.register import metrics_dict
from recbole.utils import EvaluatorType, ModelType, set_color

from recbole_hstu.config.config import Config
from recbole_hstu.config.properties import recbole_name
from recbole_hstu.data.data_set_class import check_mask
from recbole_hstu.data.held_out import log_unknown
from recbole_hstu.data.rows.own_rows import sharing
from recbole_hstu.data.rows.row_numbers import without_lists
from recbole_hstu.data.rows.sequence_rows import SequenceRows
from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.row_blocks import shares_items
from recbole_hstu.support.errors import InputError, refused_by_recbole
from recbole_hstu.support.settings import Settings

# What RecBole's metrics need that no rank of a target can tell, such as GAUC's.
OF_SCORES = {"rec.meanrank", "rec.score", "data.label"}
_MAX_SCORES = 1 << 26
_WITHOUT_CUT_OFF = {"gauc", "auc", "logloss", "mae", "rmse"}
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
        samplers = (None, None, None)
        if _draws(config) or not hasattr(dataset, "item_id_list_field"):
            samplers = create_samplers(config, dataset, parts)
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


def _draws(config: Settings) -> bool:
    """Whether RecBole's samplers draw anything: they make a set for every user beforehand."""
    in_training = config["train_neg_sample_args"]["distribution"] != "none"
    return in_training or set(config["eval_args"]["mode"].values()) != {"full"}


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
    for option, off in (("mask_seen", False), ("candidates", "all")):
        if config[option] != off and modes != {"full"}:
            raise InputError(
                f"{option}: {config[option]} goes with eval_args mode full, not "
                f"{', '.join(sorted(modes))}; add --{option}={off}"
            )

    if shares_items(config) and (modes != {"full"} or not _can_rank_in_blocks(config)):
        raise InputError(
            "item_table: sharded ranks in blocks of items: no sampled candidates (eval_args mode "
            "full), and no metric that needs all scores at once, such as GAUC"
        )


def _check_protocol(config: Config, dataset: Any) -> None:
    of_files = config["benchmark_filename"] is not None
    for key in ("train_events", "eval_users"):
        if of_files and config[key] is not None:
            raise InputError(f"{key}: benchmark_filename splits by files; take --{key}=None")
    if isinstance(dataset, SequenceDataset):
        return
    check_mask(config)
    wanted = [
        *(["eval_args.split: TS"] if "TS" in config["eval_args"]["split"] else []),
        *(name for name in ("train_events", "eval_users") if config[name] is not None),
    ]
    if wanted:
        raise InputError(
            f"{' and '.join(wanted)}: for sequential and general models only; {config['model']} "
            "keeps RecBole's own data set: leave it out, or choose --protocol=recbole"
        )


def _knowledge_sampler(config: Settings, dataset: Any, phase: str) -> list[Any]:
    if phase != "train" or config["MODEL_TYPE"] != ModelType.KNOWLEDGE:
        return []
    from recbole.sampler import KGSampler

    args = config["train_neg_sample_args"]
    return [KGSampler(dataset, args["distribution"], args["alpha"])]


def _rows_at_once(wanted: int, n_items: int) -> int:
    """`eval_batch_size`, or fewer rows where their scores would take more than 256 MiB."""
    rows = min(wanted, max(1, _MAX_SCORES // n_items))
    if rows < wanted:
        getLogger().info(
            f"eval_batch_size: {rows} rows at once, not {wanted}: {n_items:,} scores a row"
        )
    return rows


def _can_rank_in_blocks(config: Config) -> bool:
    """Whether the scores of a batch need not exist at once: a model that compares vectors, and
    no metric that asks for more than ranks and lists."""
    asked = {need for name in config["metrics"] for need in metrics_dict[name.lower()].metric_need}
    by_vectors = getattr(config.model_class.full_sort_predict, "by_vectors", False)
    terms = (config["recent_days"], config["transition_steps"])
    by_vectors = by_vectors and terms == (None, None)
    return by_vectors and not asked & OF_SCORES


class _SharedEvalDataLoader(FullSortEvalDataLoader):
    """Full ranking of this process's share of the rows: all of them, where it is the only one.

    RecBole's sampler for several processes gives some rows twice, so that all have equally many.

    Raises:
        InputError: fewer rows than processes.
    """

    is_share = True
    in_blocks = False  # of items

    @property
    def sample_size(self) -> int:
        return len(self.own_rows)

    @sample_size.setter
    def sample_size(self, rows: int) -> None:  # RecBole sets it to the number of rows
        self.own_rows = processes.own_rows(rows) if self.is_share else range(rows)
        if rows < processes.count():
            raise InputError(
                f"--nproc={processes.count()}: there are only {rows} users to evaluate; use fewer"
            )

    def _init_batch_size_and_step(self):
        self.step = self.config["eval_batch_size"]
        if not self.in_blocks:
            self.step = _rows_at_once(self.step, self._dataset.item_num)
        self.set_batch_size(self.step)


class SequenceEvalDataLoader(_SharedEvalDataLoader):
    """Full ranking of one target a row, for sequential and general models alike.

    With `mask_seen` the items of the row's history (`mask_history`: the visible one, or all of
    it) are handed to the trainer, which leaves them out of the ranking.

    Raises:
        InputError: `mask_history: all` where rows were read from files, with cut histories.
    """

    def __init__(self, config, dataset, sampler, shuffle=False):
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.history_field = dataset.item_id_list_field
        self.mask_seen = config["mask_seen"]
        self.mask_all = config["mask_history"] == "all"
        if self.mask_seen and self.mask_all and not isinstance(dataset.inter_feat, SequenceRows):
            raise InputError(
                "mask_history: all: benchmark_filename gives rows without the events before them; "
                "add --mask_history=visible"
            )
        self.is_sequential = True
        scores = config["eval_batch_size"] * dataset.item_num
        self.in_blocks = scores > _MAX_SCORES and _can_rank_in_blocks(config)
        if shares_items(config):  # and no rows
            self.in_blocks, self.is_share = True, False
        self.sample_size = len(dataset)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=shuffle)

    def collate_fn(self, index):
        """Rows, (row, item) pairs of seen items or None, target rows, target items."""
        rows = np.array(index) + self.own_rows.start
        interaction = self.transform(self._dataset, self._dataset[rows])
        seen = None
        if self.mask_seen and self.mask_all:
            seen = self._dataset.inter_feat[rows].whole_history(self.iid_field)
        elif self.mask_seen:
            history = interaction[self.history_field]
            row, place = torch.nonzero(history, as_tuple=True)
            seen = (row, history[row, place])
        target = interaction[self.iid_field]
        return interaction, seen, torch.arange(len(target)), target


class UserEvalDataLoader(_SharedEvalDataLoader):
    """Full ranking a user, for data sets without histories (knowledge graphs, ratio splits).

    RecBole masks whatever the user had in training; here that, too, is for `mask_seen` to say.
    """

    def __init__(self, config, dataset, sampler, shuffle=False):
        self.mask_seen = config["mask_seen"]
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        getLogger().info(
            "Ranking by user: "
            + ("all earlier items of a user are" if self.mask_seen else "nothing is")
            + " left out of the ranking"
        )

    def collate_fn(self, index):
        """Users, (row, item) pairs of seen items or None, target rows, target items."""
        users, seen, target_row, target = super().collate_fn(np.array(index) + self.own_rows.start)
        return users, seen if self.mask_seen else None, target_row, target
