"""A data set as RecBole has it after reading, filtering and numbering, mapped from files.

Everything that one start has computed of a data set is written into a folder beside its files, and
is taken up by every later one: fields, tokens, the frames of users and items, and the interactions
sorted by user and time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from recbole.utils import FeatureSource, FeatureType

from recbole_hstu.data.files.token_codes import count_ids, hash_tokens, taken
from recbole_hstu.data.prepared.arrow_files import (
    map_table,
    mapped,
    read_state,
    write_state,
    write_table,
)
from recbole_hstu.data.rows.events import Events
from recbole_hstu.data.ties import Ties

_PLAIN = ("field2seqlen", "field2bucketnum", "feat_name_list")


def write_prepared(folder: Path, dataset: Any, more: dict[str, Any]) -> None:
    """Write what `PreparedSet` reads.

    Args:
        folder: an empty one.
        dataset: an `ExactTimes` data set after `_data_processing`, with `order_of_events`; its
            interactions are used up, a column after the other.
        more: what else `state` shall hold; plain values.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    frame, user, item = dataset.inter_feat, dataset.uid_field, dataset.iid_field
    order = dataset.order_of_events
    counts = {
        field: count_ids(frame[field].to_numpy(), dataset.num(field)) for field in (user, item)
    }
    starts = (counts[user].cumsum() - counts[user])[counts[user] > 0]
    fields = list(frame)
    write_table(folder, "inter", {f: taken(_narrow(frame.pop(f)), order) for f in fields})
    write_table(folder, "places", {"place": order})
    write_table(folder, "starts", {"start": starts})
    write_table(folder, "hashes", {"hash": hash_tokens(dataset.field2id_token[user])})
    for feat in dataset.feat_name_list:
        if feat != "inter_feat":
            write_table(folder, feat.removesuffix("_feat"), getattr(dataset, feat))
    tokens: dict[int, str] = {}  # fields with one alias share their tokens
    for tokens_of in dataset.field2id_token.values():
        if id(tokens_of) not in tokens:
            tokens[id(tokens_of)] = name = f"tokens.{len(tokens)}"
            write_table(folder, name, {"token": tokens_of})
    actions = {field: int(np.count_nonzero(counts[field])) for field in counts}
    write_state(folder, _state(dataset, tokens) | {"actions": actions} | more)


def _state(dataset: Any, tokens: dict[int, str]) -> dict[str, Any]:
    """The plain values of a data set; `tokens` names the file of each list of tokens."""
    return {
        **{name: getattr(dataset, name) for name in _PLAIN},
        "field2type": {field: kind.value for field, kind in dataset.field2type.items()},
        "field2source": {
            field: getattr(source, "value", source)
            for field, source in dataset.field2source.items()
        },
        "alias": {name: list(map(str, fields)) for name, fields in dataset.alias.items()},
        "rest_fields": list(map(str, dataset._rest_fields)),
        "tokens": {
            field: [tokens[id(values)], len(values)]
            for field, values in dataset.field2id_token.items()
        },
        "ties": vars(dataset.ties) if dataset.ties else None,
    }


def _narrow(values: Any) -> np.ndarray:
    """Ids and places as int32 where they fit; they never are below 0, times may be."""
    array = np.asarray(values)
    if array.dtype == np.int64 and len(array) and array.min() >= 0 and array.max() < 2**31:
        return array.astype(np.int32)
    return array


class PreparedSet:
    """A folder that `write_prepared` has filled.

    Raises:
        NotWhole: something is missing or cut short.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.state = read_state(folder)
        self._inter = map_table(folder, "inter")
        # At once: who makes the folder anew must not give us parts of another one.
        self._places = map_table(folder, "places")
        self._starts = map_table(folder, "starts")
        self._hashes = map_table(folder, "hashes")
        kept = [feat for feat in ("user", "item") if f"{feat}_feat" in self.state["feat_name_list"]]
        self._feats = {feat: map_table(folder, feat) for feat in kept}
        self._tokens = {f: map_table(folder, name) for f, (name, _) in self.state["tokens"].items()}

    def __len__(self) -> int:
        return int(self._inter.num_rows)

    def take_up(self, dataset: Any) -> None:
        """Give a data set everything but its `inter_feat`."""
        state = self.state
        for name in _PLAIN:
            setattr(dataset, name, state[name])
        dataset.field2type = {f: FeatureType(kind) for f, kind in state["field2type"].items()}
        dataset.field2source = {f: _source(name) for f, name in state["field2source"].items()}
        dataset.alias = {name: np.array(fields) for name, fields in state["alias"].items()}
        dataset._rest_fields = np.array(state["rest_fields"])
        dataset.ties = Ties(**state["ties"]) if state["ties"] else None
        texts: dict[str, Any] = {f: partial(_texts, table) for f, table in self._tokens.items()}
        dataset.field2id_token = OnDemand(texts)
        dataset.field2token_id = OnDemand({f: _ids(dataset, f) for f in state["tokens"]})
        for feat in ("user", "item"):
            table = self._feats.get(feat)
            setattr(dataset, f"{feat}_feat", None if table is None else table.to_pandas())

    def number_of_tokens(self, field: str) -> int | None:
        """How many ids a field has, None if it is none of tokens."""
        return self.state["tokens"].get(field, (None, None))[1]

    def mean_actions(self, field: str) -> float:
        """How many interactions a user or an item has that has any."""
        return len(self) / self.state["actions"][field]

    def user_hashes(self) -> np.ndarray:
        """(U,) uint64 of every user's token, see `hash_tokens`."""
        return mapped(self._hashes, "hash")

    def frame(self) -> pd.DataFrame:
        """The interactions as RecBole's frame, in its order."""
        places = mapped(self._places, "place")
        columns = {}
        for field in self._inter.column_names:
            values = self._sorted(field)
            columns[field] = back = np.empty(len(values), dtype=_wide(values.dtype))
            back[places] = values
        return pd.DataFrame(columns, copy=False)

    def events(self, to_interaction: Callable[[pd.DataFrame], Any]) -> Events:
        """The interactions in order, numbers where they lie in the file.

        Args:
            to_interaction: makes tensors of the columns that hold sequences.
        """
        columns = {}
        for field in self._inter.column_names:
            values = self._sorted(field)
            if values.dtype == object:
                columns[field] = to_interaction(pd.DataFrame({field: values}))[field]
            else:
                columns[field] = _tensor(values)
        return Events(columns, _tensor(mapped(self._starts, "start")))

    def _sorted(self, field: str) -> np.ndarray:
        column = self._inter[field]
        is_list = pa.types.is_list(column.type)
        return column.to_pandas().to_numpy() if is_list else mapped(self._inter, field)


def _texts(table: Any) -> np.ndarray:
    """(n,) the tokens of a field, by their ids."""
    return table["token"].to_numpy().astype(np.str_)


class OnDemand(MutableMapping):
    """A dict whose values are made when they are first asked for.

    Args:
        makers: what makes the value of each key.
    """

    def __init__(self, makers: dict[str, Callable[[], Any]]):
        self._makers, self._made = dict(makers), {}  # type: ignore[var-annotated]

    def __getitem__(self, key: str) -> Any:
        if key not in self._made:
            self._made[key] = self._makers[key]()
        return self._made[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._makers[key] = lambda: value
        self._made[key] = value

    def __delitem__(self, key: str) -> None:
        del self._makers[key]
        self._made.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _ids(dataset: Any, field: str) -> Callable[[], dict[str, int]]:
    return lambda: {token: place for place, token in enumerate(dataset.field2id_token[field])}


def _source(name: str) -> FeatureSource | str:
    known = {source.value: source for source in FeatureSource}
    return known.get(name, name)


def _wide(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.int64) if dtype == np.int32 else dtype


def _tensor(values: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        # torch warns of arrays that it cannot write to: nothing writes to events.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)
