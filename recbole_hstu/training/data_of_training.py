"""What a checkpoint holds of the data it was trained on, and whether they are the same now."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import ModelType

from recbole_hstu.support.errors import InputError

logger = getLogger(__name__)


def check_tokens(state: dict[str, Any], path: str | Path, dataset: Any) -> None:
    """Whether a checkpoint's items, users and the values of their features are those of this data
    set, in this order.

    Raises:
        InputError: they are others.
    """
    for what, tokens in (("items", item_tokens(dataset)), ("users", user_tokens(dataset))):
        count, digest = state["tokens"][what]
        if digest != _hash_of(tokens):
            raise InputError(
                f"{path}: was trained on other {what} ({count - 1:,}) than "
                f"{dataset.dataset_name} has now ({len(tokens) - 1:,}); train anew on these data"
            )
    now = _features(dataset)
    for field, digest in state["tokens"].get("features", {}).items():  # older releases keep none
        if field in now and digest != now[field]:
            raise InputError(
                f"{path}: was trained on {dataset.dataset_name} with other values of {field}, or "
                "in another order of the rows of its file; train anew on these data"
            )


def check_interactions(state: dict[str, Any], path: str | Path, dataset: Any) -> None:
    """Whether the interactions that a checkpoint was trained on are those of this data set.

    Raises:
        InputError: they are others, or have other times.
    """
    if others := _other_interactions(state, dataset):
        raise InputError(
            f"{path}: was trained on {others} in {dataset.dataset_name}; train anew on these data"
        )


def warn_of_what_was_seen(
    path: str | Path, state: dict[str, Any], config: Any, dataset: Any
) -> None:
    """Where the training, or the choice of its best epoch, may have seen what is tested now."""
    plain = state["config"]
    trained, now = (settings["eval_args"]["split"] for settings in (plain, config))
    held_out = now == trained or (trained, now) == ({"LS": "valid_and_test"}, {"LS": "test_only"})
    orders = {"tie_order", "rm_dup_inter", "val_interval"} & plain.keys()
    others = [f"{key} {plain[key]}" for key in sorted(orders) if plain[key] != config[key]]
    if now == trained and not others and (changed := _other_interactions(state, dataset)):
        others = [changed]
    if not held_out or others:
        logger.warning(
            "%s: was trained with %s; it may have seen what %s tests on, and the figures then say "
            "too much",
            *(path, ", ".join([f"the split {trained}", *others]), now),
        )


def item_tokens(dataset: Any) -> list[str]:
    """Tokens in the order of RecBole's ids; entry 0 is the padding."""
    return [str(token) for token in dataset.field2id_token[dataset.iid_field]]


def user_tokens(dataset: Any) -> list[str]:
    """Tokens in the order of RecBole's ids; entry 0 is the padding."""
    return [str(token) for token in dataset.field2id_token[dataset.uid_field]]


def tokens_kept(dataset: Any, model: Any) -> dict[str, Any]:
    """What a checkpoint holds of a data set: the item tokens; the user tokens if the model has
    something of every user; how many of both there are (padding included) and
    hashes; and the oldest and the newest time, which tell the unit."""
    items, users = item_tokens(dataset), dataset.field2id_token[dataset.uid_field]
    return {
        "item_tokens": items,
        "user_tokens": user_tokens(dataset) if _knows_users(model, dataset) else None,
        "tokens": {
            "items": [len(items), _hash_of(items)],
            "users": [len(users), _hash_of(users)],
            "features": _features(dataset),
            "interactions": _interactions(dataset),
        },
        "times": _first_and_last(dataset),
    }


def _knows_users(model: Any, dataset: Any) -> bool:
    """Whether a model has something of every user. Sequential models do not say: their code reads
    the field of users then, as RecBole's do by `self.USER_ID`. Sizes would not tell, since other
    weights may have as many rows."""
    if model.type != ModelType.SEQUENTIAL:
        return True
    kinds = [
        kind for kind in type(model).__mro__ if kind.__module__ != SequentialRecommender.__module__
    ]
    methods = [one for kind in kinds for one in vars(kind).values() if inspect.isfunction(one)]
    codes = [method.__code__ for method in methods]
    return any({"USER_ID", dataset.uid_field} & {*c.co_names, *c.co_consts} for c in codes)


def _other_interactions(state: dict[str, Any], dataset: Any) -> str | None:
    """In words, where a checkpoint was trained on others than those of this data set."""
    now = _interactions(dataset)
    before = state["tokens"].get("interactions", now)  # older releases keep none
    if before == now:
        return None
    return (
        f"other interactions or times ({before[0]:,} interactions) than there are now ({now[0]:,})"
    )


def _first_and_last(dataset: Any) -> list[int] | None:
    """None where no times are loaded."""
    events = _events(dataset)
    if dataset.time_field not in events:
        return None
    return [int(time) for time in torch.aminmax(events[dataset.time_field])]


def _interactions(dataset: Any) -> list[Any]:
    """How many there are, and a hash of their users, items and times. A general model's data set
    has those of its training alone."""
    events, digest = _events(dataset), hashlib.sha256()
    for field in (dataset.uid_field, dataset.iid_field, dataset.time_field):
        if field in events:
            digest.update(np.ascontiguousarray(events[field].numpy()).data)
    return [len(events), digest.hexdigest()]


def _events(dataset: Any) -> Any:
    return dataset.event_feat if hasattr(dataset, "event_feat") else dataset.inter_feat


def _features(dataset: Any) -> dict[str, str]:
    """A hash of the values of every other field of tokens: their numbers, too, are the order in
    which the files name them."""
    fields = set(map(str, dataset.field2id_token)) - {dataset.uid_field, dataset.iid_field}
    return {field: _hash_of(map(str, dataset.field2id_token[field])) for field in sorted(fields)}


def _hash_of(tokens: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for token in tokens:
        digest.update(token.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
