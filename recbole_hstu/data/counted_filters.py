"""RecBole's filters of a data set, each with a count of what it leaves out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole.data.dataset.dataset import Dataset

from recbole_hstu.data.inter_num import keep_legal_numbers
from recbole_hstu.support.errors import InputError, in_a_line

logger = logging.getLogger(__name__)


def _is_interval(text: str) -> bool:
    """Whether it is `[low,high]`, either end with a round bracket where it does not belong."""
    try:
        low, high = map(float, text[1:-1].split(","))
    except ValueError:
        return False
    return low <= high and text[0] in "[(" and text[-1] in "])"


class CountedFilters(Dataset):
    """RecBole's data set; the filters follow one another as there."""

    config: Any
    inter_feat: Any

    def _remove_duplication(self) -> None:
        """RecBole's `rm_dup_inter`, with a stable sort and a count."""
        keep = self.config["rm_dup_inter"]
        if keep is None:
            return
        before = len(self.inter_feat)
        if self.time_field in self.inter_feat:
            self.inter_feat.sort_values(by=self.time_field, kind="stable", inplace=True)
        self.inter_feat.drop_duplicates(
            subset=[self.uid_field, self.iid_field], keep=keep, inplace=True
        )
        logger.info(
            f"rm_dup_inter: {before - len(self.inter_feat):,} repeated interactions left out, "
            f"the {keep} of each kept"
        )

    def _filter_link(self) -> None:
        """RecBole's, of knowledge graphs: models without one have these interactions."""
        before = len(self.inter_feat)
        super()._filter_link()
        if gone := before - len(self.inter_feat):
            logger.info(
                f"{gone:,} of {before:,} interactions are of items without an entity in the .link "
                "and .kg files, and are left out; models without a knowledge graph have them"
            )

    def _data_filtering(self) -> None:
        """RecBole's, then: an item (or user) that nobody interacts with is no candidate."""
        super()._data_filtering()
        for name, field in (("item", self.iid_field), ("user", self.uid_field)):
            feat = getattr(self, f"{name}_feat", None)
            if feat is None:
                continue
            used = feat[field].isin(self.inter_feat[field])
            if not used.all():
                logger.info(
                    f"{(~used).sum():,} of {len(used):,} {name}s in the .{name} file have no "
                    "interaction and are left out"
                )
                setattr(self, f"{name}_feat", feat[used].reset_index(drop=True))

    @contextmanager
    def _counted(self, option: str) -> Iterator[None]:
        """Log how many interactions a filter leaves out."""
        before = len(self.inter_feat)
        try:
            yield
        except (TypeError, ValueError) as error:  # RecBole's of a field that is not there, too
            raise InputError(f"{option}: {in_a_line(error)}") from error
        if left_out := before - len(self.inter_feat):
            logger.info(f"{option}: {left_out:,} of {before:,} interactions left out")

    def _parse_intervals_str(self, intervals_str):
        """RecBole's, which passes over what is no interval."""
        for part in () if intervals_str is None else str(intervals_str).split(";"):
            if not _is_interval(part.strip()):
                raise ValueError(
                    f"{part.strip()!r} is no interval; write one as [5,inf), and several as "
                    "(0,1];[3,4)"
                )
        return super()._parse_intervals_str(intervals_str)

    def _filter_by_field_value(self) -> None:
        with self._counted("val_interval"):
            super()._filter_by_field_value()

    def _filter_inter_by_user_or_item(self) -> None:
        with self._counted("filter_inter_by_user_or_item"):
            super()._filter_inter_by_user_or_item()

    def _filter_by_inter_num(self) -> None:
        """RecBole's, by numbers, then `limit_users`: for a rehearsal, the users that come first."""
        if self.uid_field is not None and self.iid_field is not None:
            with self._counted("user_inter_num_interval, item_inter_num_interval"):
                keep_legal_numbers(self)
        limit = self.config["limit_users"]
        if limit is None:
            return
        users = self.inter_feat[self.uid_field].unique()
        kept = self.inter_feat[self.uid_field].isin(users[:limit])
        self.logger.warning(
            f"limit_users: {min(limit, len(users)):,} of {len(users):,} users and {kept.sum():,} "
            f"of {len(kept):,} interactions are used; figures of a part say little of the whole"
        )
        self.inter_feat = self.inter_feat[kept]
