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
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataset import SequentialDataset
from recbole.data.dataset.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_hstu.data.exact_times import ExactTimes, Pending
from recbole_hstu.data.files.token_codes import hash_tokens
from recbole_hstu.data.held_out import (
    check_rows_of_files,
    cut_times,
    log_targets_left_out,
    log_users_of_cut,
    places_of_cut,
    sample_of_users,
)
from recbole_hstu.data.rows.events import Events, first_of_each_user
from recbole_hstu.data.rows.sequence_rows import SequenceRows
from recbole_hstu.support.errors import InputError

logger = logging.getLogger(__name__)


class SequenceDataset(ExactTimes, SequentialDataset):
    """RecBole's SequentialDataset over `SequenceRows`.

    Raises:
        InputError: no time column, or nobody with the three interactions that a split needs.
    """

    can_be_prepared = True

    def _change_feat_format(self) -> None:
        if self.prepared is None:
            super()._change_feat_format()
            return
        for name in ("user_feat", "item_feat"):
            if (frame := getattr(self, name)) is not None:
                setattr(self, name, self._dataframe_to_interaction(frame))
        self.inter_feat = self.prepared.events(self._dataframe_to_interaction)
        self.data_augmentation()

    def _benchmark_presets(self) -> None:
        check_rows_of_files(self.config, self.inter_feat)
        super()._benchmark_presets()

    def data_augmentation(self) -> None:
        """Sort the events by user and time, equal times in file order; a row over every event but
        a user's first is laid when one asks for `inter_feat`."""
        if self.time_field not in self.inter_feat:
            raise self.without_times()
        self._aug_presets()
        events = self.inter_feat
        if not isinstance(events, Events):
            events.sort(by=[self.uid_field, self.time_field], ascending=True)
            starts = first_of_each_user(events[self.uid_field])
            events = Events(events.interaction, starts)
        self.event_feat = events
        n_rows = len(events) - len(events.starts)
        self.inter_feat = Pending(n_rows, lambda: self._prefixes(events.starts, events.ends - 1))

    def _rows(self, starts: torch.Tensor, targets: torch.Tensor) -> SequenceRows:
        """Rows of which `starts` (R,) are the first and `targets` (R,) the target event."""
        return SequenceRows(
            events=self.event_feat,
            list_fields={
                field: getattr(self, f"{field}_list_field")
                for field in self.event_feat
                if field != self.uid_field
            },
            length_field=self.item_list_length_field,
            width=self.max_item_list_len,
            starts=starts,
            targets=targets,
        )

    def _prefixes(self, first: torch.Tensor, last: torch.Tensor) -> SequenceRows:
        """A row for every target after `first` (U,) up to `last` (U,), in the order of time."""
        counts = last - first
        starts = torch.repeat_interleave(first, counts)
        targets = torch.arange(len(starts)) + torch.repeat_interleave(
            first + 1 - counts.cumsum(0) + counts, counts
        )
        return self._in_order_of_time(self._rows(starts, targets))

    def _in_order_of_time(self, rows: SequenceRows) -> SequenceRows:
        return rows.select(torch.argsort(rows[self.time_field], stable=True))

    def sort(self, by, ascending=True) -> None:
        """RecBole sorts by time before it splits: rows not made yet will be in that order."""
        if not isinstance(self._inter_feat, Pending):
            super().sort(by, ascending)

    def __getitem__(self, index, join=True):
        rows = self.inter_feat[index]
        if isinstance(rows, SequenceRows):
            rows = rows.materialise()
        return self.join(rows) if join else rows

    def build(self) -> list[SequenceDataset]:
        """Training, validation and test part; the training part in the model's view."""
        if self.config["benchmark_filename"] is not None:
            return super().build()
        parts = super().build()
        if "TS" not in self.config["eval_args"]["split"]:
            self._log_short_users(parts)
        self._keep_train_events(parts[0])
        self._keep_eval_users(parts)
        view = self.config["sequence_view"] or "prefix"
        if view == "user":
            rows = parts[0].inter_feat
            if self.config["windows"] != "all":
                parts[0].inter_feat = rows.last_row_of_each_user()
                log_targets_left_out(parts[0].inter_feat, self.config)
            else:
                parts[0].inter_feat = (
                    rows.windows_of_users() if self._row_a_user else rows.windows()
                )
        elif view == "interaction":
            parts[0] = self._interaction_view(parts[0])
        return parts

    def leave_one_out(self, group_by, leave_one_mode) -> list[SequenceDataset]:
        """RecBole's split, without its loop: a user's last rows are held out as long as one
        row is left to train on; the test row comes before the validation row.
        """
        modes = {"valid_and_test": (1, 1), "valid_only": (1, 0), "test_only": (0, 1)}
        if not isinstance(leave_one_mode, str) or leave_one_mode not in modes:
            raise InputError(f"eval_args.split: LS: {leave_one_mode}; known are {', '.join(modes)}")
        valid, test = modes[leave_one_mode]
        if self.config["eval_args"]["order"] != "TO":
            return super().leave_one_out(group_by, leave_one_mode)
        first, last = self.event_feat.starts, self.event_feat.ends - 1
        is_test = last - first >= 2 if test else torch.zeros(len(first), dtype=torch.bool)
        is_valid = last - first >= 2 + test if valid else torch.zeros_like(is_test)
        kept = last - is_test.long() - is_valid.long()
        trains = kept > first
        train = self._training_rows(first[trains], kept[trains])
        held_out = (
            self._in_order_of_time(self._rows(first[of_part], (last - back)[of_part]))
            for of_part, back in ((is_valid, is_test.long()), (is_test, 0))
        )
        return self._as_parts(train, *held_out)

    def time_based_split(self, ratios, group_by) -> list[SequenceDataset]:
        """One cut in time for all users. RecBole's own `TS` cuts the test part off so, but the
        validation part user by user.

        A row trains if its target lies before the first cut. Of the rows of a user between the cuts
        the last one validates, of those after the second cut the last one tests, each with all the
        user's earlier events as history, also those after the cut: so whoever is active after the
        second cut is tested on the very row of leave-one-out, and the two differ in what was
        trained.
        """
        events = self.event_feat
        times, first, end = events.interaction[self.time_field], events.starts, events.ends
        cuts = cut_times(times.numpy(), ratios)
        marks = [first, *(places_of_cut(times, first, end, cut) for cut in cuts), end]
        spans = [(stop > begin) & (stop - 1 > first) for begin, stop in pairwise(marks)]
        rows = [(first[some], stop[some] - 1) for some, stop in zip(spans, marks[1:], strict=True)]
        counts = [stop - begin for begin, stop in pairwise(marks)]
        log_users_of_cut(counts, [int(some.sum()) for some in spans], cuts)
        return self._as_parts(
            self._training_rows(*rows[0]), *(self._rows(*some) for some in rows[1:])
        )

    @property
    def _row_a_user(self) -> bool:
        """Whether the training part holds the longest row of each user only, for models that take
        one row a user, or every event that training covers."""
        args = self.config["eval_args"]
        one_each = self.config["sequence_view"] in ("user", "interaction")
        return one_each and args["order"] == "TO" and not {"LS", "TS"}.isdisjoint(args["split"])

    def _training_rows(self, first: torch.Tensor, last: torch.Tensor) -> SequenceRows:
        return (self._rows if self._row_a_user else self._prefixes)(first, last)

    def _as_parts(self, *parts: SequenceRows) -> list[SequenceDataset]:
        """Data sets of these rows, without the columns that are not used."""
        self._drop_unused_col()
        for field in (self.config["unused_col"] or {}).get("inter", ()):
            for part in parts:
                if field in part:  # a column that is not loaded need not be dropped
                    part.drop(field)
        return [self.copy(part) for part in parts]

    def _keep_train_events(self, train: SequenceDataset) -> None:
        """`train_events`: a user's last ones; they alone make the training part in every view."""
        if self.config["train_events"] is None:
            return
        before = train.inter_feat.n_covered()
        train.inter_feat = train.inter_feat.last_events(self.config["train_events"])
        kept = train.inter_feat.n_covered()
        self.logger.info(
            f"train_events: {before - kept:,} of {before:,} training events lie before the last "
            f"{self.config['train_events']} of their user and are left out"
        )

    def _keep_eval_users(self, parts: list[SequenceDataset]) -> None:
        """`eval_users`: of the users of the validation and of the test part, so many each."""
        wanted = self.config["eval_users"]
        for name, part in zip(("valid", "test"), parts[1:], strict=True):
            if wanted is None or not len(part):
                continue
            users = part.inter_feat[self.uid_field]
            rows = sample_of_users(users, self._user_hashes(), wanted)
            part.inter_feat = part.inter_feat.select(rows)
            everybody = _how_many(users)
            self.logger.info(
                f"eval_users: {min(wanted, everybody):,} of {everybody:,} users of the {name} part "
                "are evaluated, drawn by a hash of the user token"
            )

    def _user_hashes(self) -> NDArray[np.uint64]:
        if self.prepared:
            return self.prepared.user_hashes()
        return hash_tokens(self.field2id_token[self.uid_field])

    def _log_short_users(self, parts: list[SequenceDataset]) -> None:
        """Count who is left out of which part; nobody is dropped without a word.

        Raises:
            InputError: nothing to train on or nothing to test on.
        """
        users = {
            name: _how_many(part.inter_feat[self.uid_field])
            for name, part in zip(("train", "valid", "test"), parts, strict=True)
        }
        everybody = self.user_num - 1
        if not users["train"] or not (users["valid"] or users["test"]):
            raise InputError(
                f"{self.dataset_name}: nobody has the three interactions that training and "
                f"evaluation need ({everybody:,} users, {len(self.event_feat):,} interactions)"
            )
        leave_out = self.config["eval_args"]["split"].get("LS")
        unasked = {"test_only": "valid", "valid_only": "test"}.get(leave_out)
        for name, count in users.items():
            if name != unasked and count < everybody:
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
        counts = self.inter_feat.count_covered(field, self.num(field))
        ids = torch.nonzero(counts).squeeze(1)
        return Counter(dict(zip(ids.tolist(), counts[ids].tolist(), strict=True)))

    def training_events(self) -> Interaction:
        """Every event that this part has seen, sorted by user and time: of the training part none
        that validates or tests."""
        return self.event_feat[self.inter_feat.covered_events().numpy()]


def _how_many(ids: torch.Tensor) -> int:
    """Different ids, counted without sorting them."""
    return int((torch.bincount(ids) > 0).sum())


class InteractionDataset(ExactTimes):
    """One row an interaction: data without histories, or a part of a `SequenceDataset`."""

    can_be_prepared = True
