"""What is held out of training: events after a cut in time, and what training does not know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from logging import getLogger
from math import inf
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.utils import ModelType

from recbole_hstu.data.files.token_codes import blocks
from recbole_hstu.data.rows.sequence_rows import SequenceRows
from recbole_hstu.support.errors import InputError


class Cuts(NamedTuple):
    """Events before `valid` train, those before `test` validate, the others test."""

    valid: int
    test: int


def check_rows_of_files(config: Any, columns: Collection[str]) -> None:
    """Whether the files of `benchmark_filename` suit a sequential model.

    Raises:
        InputError: rows without their histories, histories that are not said to be of items, or a
            model that makes its own rows.
    """
    if config["sequence_view"] == "user":
        raise InputError(
            "benchmark_filename: models that learn at every position make their own split; leave "
            "it out, or name a model of RecBole"
        )
    of_history = f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
    if of_history not in columns:
        raise InputError(
            f"benchmark_filename: {config['model']} needs rows with their histories, in a column "
            f"{of_history}:token_seq (load_col must name it); or leave benchmark_filename out, and "
            "the events of one file are split"
        )
    if of_history not in (config["alias_of_item_id"] or ()):
        raise InputError(
            f"benchmark_filename: the items of {of_history} would get numbers of their own; add "
            f"--alias_of_item_id=[{of_history}]"
        )


def cut_times(times: NDArray[np.int64], given: Sequence[float]) -> Cuts:
    """The cuts that `eval_args.split: {TS: given}` names.

    Args:
        times: `(E,)` of all interactions.
        given: three shares of the interactions, as RecBole takes them ([0.8, 0.1, 0.1]), or two
            times. No instant is divided: events at the time of a cut come after it.

    Raises:
        InputError: neither, cuts out of order, or a part without an event.
    """
    where = f"eval_args.split: TS: {list(given)}"
    if len(given) == 3 and all(isinstance(part, int | float) and 0 < part < inf for part in given):
        ends = np.cumsum(given)[:2] / sum(given) * len(times)
        places = np.minimum(ends.round().astype(np.int64), len(times) - 1)
        cuts = Cuts(*map(int, np.partition(times, places)[places]))
    elif len(given) == 2 and all(isinstance(time, int) for time in given):
        cuts = Cuts(*map(int, given))
    else:
        raise InputError(
            f"{where}: expected three shares, as in [0.8, 0.1, 0.1], or two whole numbers, the "
            "times of the cuts in the unit of the data"
        )
    if cuts.valid >= cuts.test:
        raise InputError(f"{where}: the first cut ({cuts.valid}) must lie before the second one")
    first, last = int(times.min()), int(times.max())
    if not first < cuts.valid or not cuts.test <= last:
        raise InputError(
            f"{where}: cuts at {cuts.valid} and {cuts.test} leave no event to train or to test "
            f"on; the data's times go from {first} to {last}"
        )
    return cuts


def places_of_cut(
    times: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, cut: int
) -> torch.Tensor:
    """(U,) of every user the first event from a cut in time on, or one after its last event.

    Args:
        times: (E,) of the events by user and time.
        starts, ends: (U,) of every user the first event, and one after the last.
    """
    places = torch.empty_like(starts)
    for users in blocks(len(starts)):
        first, end = starts[users], ends[users]
        begin = int(first[0])
        before = (times[begin : int(end[-1])] < cut).cumsum(0)  # sorted within a user
        before = torch.cat([before.new_zeros(1), before])
        places[users] = first + before[end - begin] - before[first - begin]
    return places


def log_users_of_cut(events: Sequence[torch.Tensor], asked: Sequence[int], cuts: Cuts) -> None:
    """Count the events of every part, and the users whose first event is all that they have.

    Args:
        events: for each part how many events (U,) every user has in it.
        asked: for each part how many users have a row.

    Raises:
        InputError: a part that nobody is left in.
    """
    when = (f"before {cuts.valid}", f"before {cuts.test}", f"from {cuts.test} on")
    for name, time, counts, users in zip(
        ("train", "validate", "test"), when, events, asked, strict=True
    ):
        left = int((counts > 0).sum()) - users
        getLogger().info(
            f"{int(counts.sum()):,} events {time} {name}: {users:,} users; {left:,} more "
            "have no earlier event and are left out"
        )
        if not users and name != "validate":
            raise InputError(
                f"eval_args.split: TS: no user has an event {time} and one "
                "earlier than that; choose other cuts"
            )


def log_targets_left_out(rows: SequenceRows, config: Mapping[str, Any]) -> None:
    """Count the targets before the last `MAX_ITEM_LIST_LENGTH` of their user, which a row a user
    does not teach."""
    if config["MODEL_TYPE"] == ModelType.TRADITIONAL:  # counts events, learns no rows
        return
    width, targets = config["MAX_ITEM_LIST_LENGTH"], rows.uncut_lengths()
    left_out = int((targets - width).clamp(min=0).sum())
    if left_out:
        hint = "; see --windows=all" if config["windows"] == "last" else ""
        getLogger(__name__).info(  # a logger of the package: the terminal shows it, too
            f"{left_out:,} of {int(targets.sum()):,} targets lie before a user's last {width} "
            f"and teach nothing{hint}"
        )


def sample_of_users(users: torch.Tensor, hashes: NDArray[np.uint64], count: int) -> torch.Tensor:
    """The rows of the `count` users with the smallest hashes: the same ones for every model, seed
    and process, and in every order of the file.

    Args:
        users: (R,) of the rows.
        hashes: (U,) of every user's token, see `hash_tokens`.
    """
    asked = hashes[torch.bincount(users).nonzero().squeeze(1).numpy()]
    largest = np.partition(asked, count - 1)[count - 1] if count < len(asked) else asked.max()
    return torch.from_numpy(np.flatnonzero(hashes[users.numpy()] <= largest))


def log_unknown(config: Any, parts: Sequence[Any]) -> None:
    """Count the targets whose item or user does not occur in training."""
    train, *judged = parts
    item, user = train.iid_field, train.uid_field
    seen = {item: list(train.counter(item)), user: train.inter_feat[user]}
    known = {field: np.zeros(train.num(field), dtype=bool) for field in seen}
    for field, ids in seen.items():
        known[field][ids] = True
    if config["candidates"] == "training":
        getLogger().info(
            f"candidates: training: {len(seen[item]):,} of {train.item_num - 1:,} items"
        )
    for name, part in zip(("validation", "test"), judged, strict=True):
        rows = part.inter_feat
        if not len(part):
            continue
        items, users = (int((~known[field][rows[field].numpy()]).sum()) for field in (item, user))
        if items or users:
            missed = " (missed: they are no candidates)" if config["candidates"] != "all" else ""
            getLogger().info(
                f"{name}: of {len(part):,} targets {items:,} are items that training does not "
                f"know{missed}, {users:,} are of users that it does not know"
            )
