"""The loaders of validation and test: full rankings, one target a row or a user's at once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader, FullSortEvalDataLoader
from recbole.evaluator.register import metrics_dict

from recbole_hstu.config.config import Config
from recbole_hstu.data.rows.sequence_rows import SequenceRows
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.row_blocks import shares_items
from recbole_hstu.support.errors import InputError

# What RecBole's metrics need that no rank of a target can tell, such as GAUC's.
OF_SCORES = {"rec.meanrank", "rec.score", "data.label"}
_MAX_SCORES = 1 << 26


def _rows_at_once(wanted: int, n_items: int) -> int:
    """`eval_batch_size`, or fewer rows where their scores would take more than 256 MiB."""
    rows = min(wanted, max(1, _MAX_SCORES // n_items))
    if rows < wanted:
        getLogger().info(
            f"eval_batch_size: {rows} rows at once, not {wanted}: {n_items:,} scores a row"
        )
    return rows


def can_rank_in_blocks(config: Config) -> bool:
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
        self.in_blocks = scores > _MAX_SCORES and can_rank_in_blocks(config)
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

    RecBole masks whatever the user had in training; here that, too, is for `mask_seen` to say, and
    a target that the user had before is masked with it, as for sequential models. With `LS` the
    users are theirs, too: those with two earlier events or more.
    """

    def __init__(self, config, dataset, sampler, shuffle=False):
        self.mask_seen = config["mask_seen"]
        phase = sampler.phases.index(sampler.phase)
        if self.mask_seen:
            self.before = sampler.get_used_ids()[sampler.phases[phase - 1]]
        if "LS" in config["eval_args"]["split"] and config["benchmark_filename"] is None:
            dataset = _with_two_before(dataset, sampler.datasets[:phase])
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        getLogger().info(
            "Ranking by user: "
            + ("all earlier items of a user are" if self.mask_seen else "nothing is")
            + " left out of the ranking"
        )

    def _set_user_property(self, uid, used_item, positive_item):
        super()._set_user_property(uid, used_item, positive_item)
        if uid is not None and self.mask_seen:
            self.uid2history_item[uid] = torch.tensor([*self.before[uid]], dtype=torch.int64)

    def collate_fn(self, index):
        """Users, (row, item) pairs of seen items or None, target rows, target items."""
        users, seen, target_row, target = super().collate_fn(np.array(index) + self.own_rows.start)
        return users, seen if self.mask_seen else None, target_row, target


def _with_two_before(part: Any, earlier: Sequence[Any]) -> Any:
    """The events of users with two events or more in earlier parts."""
    users = part.inter_feat[part.uid_field]
    before = torch.cat([some.inter_feat[some.uid_field] for some in earlier])
    kept = before.bincount(minlength=part.user_num)[users] >= 2
    if not kept.any():
        raise InputError("eval_args: split: no user has two events before the one that is held out")
    if kept.all():
        return part
    getLogger().info(
        f"{int((~kept).sum()):,} of {len(kept):,} users have fewer than two earlier events, and "
        "are left out as for sequential models"
    )
    part = copy.copy(part)
    part.inter_feat = part.inter_feat[kept]
    return part
