"""RecBole's data set with exact times and a stable order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_hstu.data.counted_filters import CountedFilters
from recbole_hstu.data.files.atomic_file import form_of, read_atomic, read_header
from recbole_hstu.data.files.item_rows import PADDING
from recbole_hstu.data.files.token_codes import is_coded, number_tokens
from recbole_hstu.data.prepared.columns import read_columns
from recbole_hstu.data.prepared.prepare import is_prepared, prepared_set
from recbole_hstu.data.prepared.prepared_set import PreparedSet
from recbole_hstu.data.rows.events import by_user_and_time
from recbole_hstu.data.ties import Ties, count_ties, in_hashed_order, places_of_tokens
from recbole_hstu.support.errors import InputError


class Pending(NamedTuple):
    """An `inter_feat` that is not made yet: how many rows it will have, and what makes it."""

    length: int
    make: Callable[[], Any]


class ExactTimes(CountedFilters):
    """RecBole's data set, or a mix-in before one of its kinds: times are int64 throughout."""

    config: Any
    time_field: str
    can_be_prepared = False  # data sets of RecBole's know more than a prepared set keeps
    prepared: PreparedSet | None = None
    _by_columns = False
    _inter_feat: Any = None
    ties: Ties | None = None  # of the interactions as they were read and filtered

    def _from_scratch(self) -> None:
        """RecBole's, or from the prepared set of these files and filters."""
        if not is_prepared(self.config, special=not self.can_be_prepared):
            super()._from_scratch()
            return
        prepared = prepared_set(self.config, self._loaded_by_columns)
        self._get_preset()
        self._get_field_from_config()
        prepared.take_up(self)
        self.__dict__.pop("order_of_events", None)
        self.inter_feat = Pending(len(prepared), prepared.frame)
        self.prepared = prepared

    def _loaded_by_columns(self) -> ExactTimes:
        """RecBole's, with `order_of_events` (E,) for a prepared set."""
        self._by_columns = True
        super()._from_scratch()
        return self

    @property
    def inter_feat(self) -> Any:
        """RecBole's frame or rows of the interactions, made when something asks for them."""
        if isinstance(self._inter_feat, Pending):
            self._inter_feat = self._inter_feat.make()
        return self._inter_feat

    @inter_feat.setter
    def inter_feat(self, value: Any) -> None:
        self._inter_feat = value

    @property
    def inter_num(self) -> int:
        """How many rows `inter_feat` has."""
        pending = isinstance(self._inter_feat, Pending)
        return self._inter_feat.length if pending else len(self._inter_feat)

    def __len__(self) -> int:
        return self.inter_num

    def num(self, field: str) -> int:
        """RecBole's; the tokens of a prepared set are not read for it."""
        known = self.prepared.number_of_tokens(field) if self.prepared else None
        return known if known is not None and field in self.field2type else super().num(field)

    @property
    def avg_actions_of_users(self) -> float:
        return self._mean_actions(self.uid_field, "users")

    @property
    def avg_actions_of_items(self) -> float:
        return self._mean_actions(self.iid_field, "items")

    def _mean_actions(self, field: str, of: str) -> float:
        if self.prepared and isinstance(self._inter_feat, Pending):
            return self.prepared.mean_actions(field)
        return getattr(super(), f"avg_actions_of_{of}")

    def __str__(self) -> str:
        return f"{super().__str__()}\nTies: {self.ties}" if self.ties else super().__str__()

    def _data_processing(self) -> None:
        """RecBole's, then a look at the order of equal times."""
        super()._data_processing()
        frame = self.inter_feat
        if not {self.uid_field, self.iid_field, self.time_field} <= set(frame):
            if self._by_columns:  # a prepared set stands in the order of time
                raise self.without_times()
            return
        users, items, times = (
            frame[field].to_numpy() for field in (self.uid_field, self.iid_field, self.time_field)
        )
        order = by_user_and_time(users, times)
        places = np.r_[0, 1 + places_of_tokens(self.field2id_token[self.iid_field][1:])]
        self.ties = count_ties(users, items, times, order, places)
        if self._by_columns:
            self.order_of_events = order
        if self.ties.pattern:
            self.logger.warning(
                f"{self.dataset_name}.inter: {self.ties}: models may learn the order of the file; "
                "compare with --tie_order=hash"
            )

    def without_times(self) -> InputError:
        return InputError(
            f"{self.dataset_name}.inter: no time column '{self.time_field}' is loaded; "
            "sequences need one (TIME_FIELD names it, load_col must include it)"
        )

    def _load_feat(self, filepath, source):
        """RecBole's hook; it only splits sequences, the reading is `read_atomic`'s.

        Raises:
            InputError: see `read_atomic`.
        """
        wanted, unwanted = self._get_load_and_unload_col(source)
        if wanted == set():
            return None
        header = dict(column.split(":") for column in read_header(filepath, **form_of(self.config)))
        if source == FeatureSource.INTERACTION:
            self._check_ids(header, filepath)
        for field in sorted({*(wanted or ())} - {*header, self.time_field}):
            self.logger.warning(f"{filepath}: has no column {field}, which load_col names")
        fields = [
            f for f in header if (wanted is None or f in wanted) and f not in (unwanted or ())
        ]
        if not fields:
            self.logger.warning(f"No columns has been loaded from [{source}]")
            return None
        frame = self._read(filepath, header, fields, source)
        self._refuse_padding(frame, filepath)
        self._count_repeats(frame, source, filepath)
        for field in fields:
            self._register_field(field, FeatureType(header[field]), source, frame)
        if source == FeatureSource.INTERACTION and self.config["tie_order"] == "hash":
            return self._hashed_ties(frame, filepath)
        return frame

    def _check_ids(self, header: dict[str, str], path: str) -> None:
        columns = ", ".join(f"{name}:{ftype}" for name, ftype in header.items())
        for option in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
            field = self.config[option]
            if field is not None and header.get(field) != "token":
                raise InputError(
                    f"{path}: has no column {field}:token, which {option} names; it has {columns}"
                )
        if (kind := header.get(self.time_field, "float")) != "float":
            raise InputError(
                f"{path}: the times of TIME_FIELD are numbers, not of the type {kind}; write "
                f"{self.time_field}:float in its header"
            )

    def _refuse_padding(self, frame: pd.DataFrame, path: str) -> None:
        """A user or an item of this name would have two numbers, the padding's and its own."""
        for field in (self.uid_field, self.iid_field):
            if field not in frame:
                continue
            column = frame[field]
            if ((column.cat.categories if is_coded(column) else column) == PADDING).any():
                raise InputError(
                    f"{path}: column '{field}' holds {PADDING}, which is RecBole's name for no "
                    "user and no item; rename it, or remove its rows"
                )

    def _count_repeats(self, frame: pd.DataFrame, source: Any, path: str) -> None:
        """RecBole keeps the first row of an item (or user) of its `.item` file, without a word."""
        of = {FeatureSource.ITEM: self.iid_field, FeatureSource.USER: self.uid_field}.get(source)
        repeats = int(frame[of].duplicated().sum()) if of in frame else 0
        if repeats:
            self.logger.warning(f"{path}: {repeats:,} rows repeat an earlier {of} and are left out")

    def _read(self, path, header, fields, source) -> pd.DataFrame:
        of_events = source == FeatureSource.INTERACTION
        form, time_field = form_of(self.config), self.time_field if of_events else None
        options = {"fields": fields, "time_field": time_field}
        if of_events and self._by_columns and form["encoding"] == "utf-8":
            frame = read_columns(path, header, separator=form["separator"], **options)
            if frame is not None:
                return frame
        return read_atomic(path, **form, **options)

    def _hashed_ties(self, frame, filepath):
        if not {self.uid_field, self.iid_field, self.time_field} <= set(frame):
            raise InputError(
                f"tie_order: hash orders the events of a user at the same time, and {filepath} has "
                f"no column '{self.time_field}' that is loaded (TIME_FIELD names it, load_col "
                "must include it); leave it out"
            )
        return in_hashed_order(frame, self.uid_field, self.iid_field, self.time_field)

    def _remap(self, remap_list) -> None:
        """RecBole's; columns of categories stay small."""
        if self._by_columns:
            number_tokens(self, remap_list)
        else:
            super()._remap(remap_list)

    def _register_field(self, field, ftype, source, frame) -> None:
        if isinstance(source, FeatureSource) or source != "link":
            self.field2source[field] = source
            self.field2type[field] = ftype
            if "float" in ftype.value:
                self.field2bucketnum[field] = 2
        if not ftype.value.endswith("seq"):
            self.field2seqlen[field] = 1
            return
        kind = np.float64 if ftype == FeatureType.FLOAT_SEQ else str
        limit = (self.config["seq_len"] or {}).get(field)
        texts = frame[field].fillna("").to_numpy()
        rows = [
            np.array([p for p in text.split(self.config["seq_separator"]) if p][:limit], dtype=kind)
            for text in texts
        ]
        frame[field] = rows
        self.field2seqlen[field] = max(map(len, rows))

    def _fill_nan(self) -> None:
        """RecBole's imputation (padding for tokens, the mean for floats), assigned, since pandas
        3 makes its `fillna(inplace=True)` do nothing."""
        for name in self.feat_name_list:
            feat = getattr(self, name)
            for field in feat:
                ftype = self.field2type[field]
                if ftype == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif ftype == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
                else:
                    kind = np.int64 if ftype == FeatureType.TOKEN_SEQ else np.float64
                    missing = feat[field].map(lambda value: isinstance(value, float))
                    feat.loc[missing, field] = feat.loc[missing, field].map(
                        lambda _, kind=kind: np.array([], dtype=kind)
                    )

    def _normalize(self) -> None:
        """RecBole's normalisation, which the time field is kept out of."""
        ftype = self.field2type.pop(self.time_field, None)
        try:
            super()._normalize()
        finally:
            if ftype is not None:
                self.field2type[self.time_field] = ftype

    def _dataframe_to_interaction(self, data) -> Interaction:
        interaction = super()._dataframe_to_interaction(data)
        if self.time_field in data:
            interaction[self.time_field] = torch.from_numpy(
                data[self.time_field].to_numpy(np.int64, copy=True)
            )
        return interaction
