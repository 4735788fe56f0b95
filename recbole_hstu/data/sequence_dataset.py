"""Sequence data with exact times, a stable order and one split for every model.

One data set, three views of its training part, chosen by the model (`sequence_view`):

- `prefix`: one row a prefix, as RecBole's sequential models want them;
- `user`: one row a user, its longest training prefix, for models that learn at every position;
  with `windows: all` as many rows as its training events take;
- `interaction`: one row an interaction, for RecBole's general models.

Validation and test rows are the same whatever the view.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.dataset.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_hstu.data.exact_times import ExactTimes
from recbole_hstu.data.held_out import cut_times, log_users_of_cut, split_at
from recbole_hstu.data.sequence_rows import SequenceRows
from recbole_hstu.support.errors import InputError

logger = logging.getLogger(__name__)


class SequenceDataset(ExactTimes, SequentialDataset):
    """RecBole's SequentialDataset over `SequenceRows`.

    Raises:
        InputError: no time column, or nobody with the three interactions that a split needs.
    """

    def data_augmentation(self) -> None:
        """Sort the events by user and time, equal times in file order, and lay a row over every
        event but a user's first."""
        if self.time_field not in self.inter_feat:
            raise InputError(
                f"{self.dataset_name}.inter: no time column '{self.time_field}' is loaded; "
                "sequences need one (TIME_FIELD names it, load_col must include it)"
            )
        self._aug_presets()
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        self.event_feat = self.inter_feat
        users = self.event_feat[self.uid_field].numpy()
        first = np.r_[True, users[1:] != users[:-1]] if len(users) else np.zeros(0, dtype=bool)
        starts = np.maximum.accumulate(np.where(first, np.arange(len(users)), 0))
        targets = np.flatnonzero(~first)
        self.inter_feat = SequenceRows(
            events=self.event_feat.interaction,
            list_fields={
                field: getattr(self, f"{field}_list_field")
                for field in self.event_feat
                if field != self.uid_field
            },
            length_field=self.item_list_length_field,
            width=self.max_item_list_len,
            starts=torch.from_numpy(starts[targets]),
            targets=torch.from_numpy(targets),
        )

    def __getitem__(self, index, join=True):
        rows = self.inter_feat[index]
        if isinstance(rows, SequenceRows):
            rows = rows.materialise()
        return self.join(rows) if join else rows

    def build(self) -> list[SequenceDataset]:
        """Training, validation and test part; the training part in the model's view."""
        if self.config["benchmark_filename"] is not None:
            if self.config["sequence_view"] == "user":
                raise InputError(
                    "benchmark_filename: models that learn at every position make their own "
                    "split; leave it out, or name a model of RecBole"
                )
            return super().build()
        parts = super().build()
        if "TS" not in self.config["eval_args"]["split"]:
            self._log_short_users(parts)
        self._keep_train_events(parts[0])
        view = self.config["sequence_view"] or "prefix"
        if view == "user":
            rows = parts[0].inter_feat
            all_of_them = self.config["windows"] == "all"
            parts[0].inter_feat = rows.windows() if all_of_them else rows.last_row_of_each_user()
        elif view == "interaction":
            parts[0] = self._interaction_view(parts[0])
        return parts

    def leave_one_out(self, group_by, leave_one_mode) -> list[SequenceDataset]:
        """RecBole's split, without its loop: a user's last rows are held out as long as one
        row is left to train on; the test row comes before the validation row."""
        modes = {"valid_and_test": (1, 1), "valid_only": (1, 0), "test_only": (0, 1)}
        if leave_one_mode not in modes:
            raise InputError(f"eval_args.split: LS: {leave_one_mode}; known are {', '.join(modes)}")
        valid, test = modes[leave_one_mode]
        rows = self.inter_feat
        _, user, size = np.unique(
            rows[self.uid_field].numpy(), return_inverse=True, return_counts=True
        )
        # Rows of a user stand in the order of their times; `from_end` is 0 for the last one.
        order = np.argsort(user, kind="stable")
        within = np.empty(len(user), dtype=np.int64)
        within[order] = np.arange(len(user)) - np.repeat(size.cumsum() - size, size)
        from_end, spare = size[user] - 1 - within, size[user] - 1
        is_test = (from_end == 0) & (spare >= 1) if test else np.zeros(len(user), dtype=bool)
        is_valid = (from_end == test) & (spare > test) if valid else np.zeros_like(is_test)
        self._drop_unused_col()
        return [
            self.copy(rows[np.flatnonzero(part)])
            for part in (~(is_valid | is_test), is_valid, is_test)
        ]

    def time_based_split(self, ratios, group_by) -> list[SequenceDataset]:
        """One cut in time for all users, see `split_at`.

        RecBole's own `TS` cuts the test part off so, but the validation part user by user.
        """
        rows, events = self.inter_feat, self.event_feat
        times = events[self.time_field]
        cuts = cut_times(times.numpy(), ratios)
        of_targets = rows[self.time_field]
        self._drop_unused_col()
        parts = split_at(rows, of_targets, cuts)
        asked = [part[self.uid_field] for part in parts]
        log_users_of_cut(events[self.uid_field], times, asked, cuts)
        return [self.copy(part) for part in parts]

    def _keep_train_events(self, train: SequenceDataset) -> None:
        """`train_events`: a user's last ones; they alone make the training part in every view."""
        if self.config["train_events"] is None:
            return
        before = len(train.inter_feat.covered_events())
        train.inter_feat = train.inter_feat.last_events(self.config["train_events"])
        kept = len(train.inter_feat.covered_events())
        self.logger.info(
            f"train_events: {before - kept:,} of {before:,} training events lie before the last "
            f"{self.config['train_events']} of their user and are left out"
        )

    def _log_short_users(self, parts: list[SequenceDataset]) -> None:
        """Count who is left out of which part; nobody is dropped without a word.

        Raises:
            InputError: nothing to train on or nothing to test on.
        """
        users = {
            name: len(np.unique(part.inter_feat[self.uid_field].numpy()))
            for name, part in zip(("train", "valid", "test"), parts, strict=True)
        }
        everybody = self.user_num - 1
        if not users["train"] or not (users["valid"] or users["test"]):
            raise InputError(
                f"{self.dataset_name}: nobody has the three interactions that training and "
                f"evaluation need ({everybody:,} users, {len(self.event_feat):,} interactions)"
            )
        for name, count in users.items():
            if name == "valid" and self.config["eval_args"]["split"].get("LS") == "test_only":
                continue  # nobody asked for one
            if count < everybody:
                logger.info(
                    f"{everybody - count:,} of {everybody:,} users are too short "
                    f"for the {name} part"
                )

    def _interaction_view(self, part: SequenceDataset) -> Dataset:
        """The training interactions one by one, as a plain RecBole data set."""
        plain = copy.copy(part)
        plain.__class__ = InteractionDataset
        plain.inter_feat = self.event_feat[part.inter_feat.covered_events().numpy()]
        return plain

    def inter_matrix(self, form="coo", value_field=None):
        """Sparse (users, items) matrix of the interactions that this part has seen."""
        if not isinstance(self.inter_feat, SequenceRows):
            return super().inter_matrix(form, value_field)
        seen = self.training_events()
        return self._create_sparse_matrix(seen, self.uid_field, self.iid_field, form, value_field)

    def counter(self, field):
        """How often each token of a field occurs among the interactions of this part."""
        if not isinstance(self.inter_feat, SequenceRows):
            return super().counter(field)
        return Counter(self.training_events()[field].tolist())

    def training_events(self) -> Interaction:
        """Every event that this part has seen, sorted by user and time: of the training part none
        that validates or tests."""
        return self.event_feat[self.inter_feat.covered_events().numpy()]


class InteractionDataset(ExactTimes):
    """A part of a `SequenceDataset` with one row an interaction."""
