"""What a finished run leaves behind: its record, and every user's rank."""

from __future__ import annotations

import sys
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.utils import ModelType

from recbole_hstu import __version__
from recbole_hstu.data.rows.sequence_rows import SequenceRows
from recbole_hstu.distributed.row_blocks import trained_weights
from recbole_hstu.evaluation.beyond import list_metrics, tie_share
from recbole_hstu.evaluation.metrics import metric_names
from recbole_hstu.evaluation.segments import (
    ITEM_SEGMENTS,
    USER_SEGMENTS,
    Segment,
    item_segments,
    metrics_by_segment,
    popularity_bounds,
    user_segments,
)
from recbole_hstu.records.rank_file import RankFile
from recbole_hstu.records.run_record import Epoch, RunRecord
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.settings import PlainSettings, Settings


def make_record(
    config: PlainSettings,
    trainer: Any,
    train: Any,
    test: Any,
    valid_result: Any,
    test_result: Any,
) -> tuple[RunRecord, RankFile | None]:
    """The record of a run that was just tested, and its ranks.

    There are no ranks, and so no segments, where a user has several targets or the model is judged
    on other rows than a `SequenceDataset`'s; the log then says so.

    Args:
        train: the training loader.
        test: the test loader, in the order in which `trainer` has ranked its rows.
    """
    history = tuple(
        Epoch(e["epoch"] + 1, e["seconds"], e["train_loss"], e.get("valid", {}))
        for e in getattr(trainer, "history", ())
    )
    counts = _train_counts(train)
    ranks = _rank_file(config, trainer, test, counts)
    traditional = config["MODEL_TYPE"] == ModelType.TRADITIONAL  # counts or texts, no weights
    record = RunRecord(
        model=config["model"],
        dataset=config["dataset"],
        seed=config["seed"],
        protocol=config["protocol"],
        config=config.plain(),
        metrics={key: float(value) for key, value in (test_result or {}).items()},
        valid_metrics={key: float(value) for key, value in (valid_result or {}).items()},
        history=history,
        training_seconds=getattr(trainer, "trained_seconds", 0.0),
        epochs=len(history),
        train_view=getattr(train, "view", config["sequence_view"]),
        parameters=0 if traditional else trained_weights(trainer.model),
        device=str(config["device"]),
        versions=_versions(),
        converged=None if traditional else getattr(trainer, "converged", None),
        segments=_segments(config, ranks, counts) if ranks else {},
        beyond=_beyond(config, trainer, ranks, counts) if ranks else {},
    )
    return record, ranks


def _versions() -> dict[str, str]:
    python, *_ = sys.version.split()
    return {"recbole_hstu": __version__, "torch": torch.__version__, "python": python}


def check_segment_options(config: Settings) -> None:
    """Whether `user_segments` and `item_segments` can be used, before anything is trained.

    Raises:
        InputError: they cannot.
    """
    one = np.ones(1, dtype=np.int64)
    for key, segment in (("user_segments", user_segments), ("item_segments", popularity_bounds)):
        try:
            segment(one, *config[key])
        except ValueError as error:
            raise InputError(
                f"{key}: {config[key]}: expected two rising numbers ({error})"
            ) from error


def _train_counts(train: Any) -> np.ndarray:
    """(V,) how often every item occurs in training."""
    dataset = train._dataset
    counts = np.zeros(dataset.item_num, dtype=np.int64)
    counter = dataset.counter(dataset.iid_field)
    counts[list(counter)] = list(counter.values())
    return counts


def _rank_file(config: Settings, trainer: Any, test: Any, counts: np.ndarray) -> RankFile | None:
    batches = getattr(getattr(trainer, "eval_collector", None), "ranks", None)
    if test is None:
        return None
    dataset, rows = test._dataset, test._dataset.inter_feat
    users = dataset.field2id_token[dataset.uid_field][rows[dataset.uid_field].numpy()]
    if not batches or not isinstance(rows, SequenceRows) or len(np.unique(users)) != len(users):
        getLogger().info("No ranks are kept: the test set does not have one target a user")
        return None
    return RankFile(
        users=users.astype(np.str_),
        ranks=torch.cat(batches).numpy(),
        ties=torch.cat(trainer.eval_collector.ties).numpy(),
        history_length=rows.uncut_lengths().numpy(),
        target_count=counts[rows[dataset.iid_field].numpy()],
        meta={key: config[key] for key in ("model", "dataset", "seed", "protocol")},
    )


def _segments(config: Settings, ranks: RankFile, counts: np.ndarray) -> dict[str, list[Segment]]:
    names = metric_names(config["topk"])
    users = user_segments(ranks.history_length, *config["user_segments"])
    bounds = popularity_bounds(counts, *config["item_segments"])
    items = item_segments(ranks.target_count, bounds)
    return {
        "users": metrics_by_segment(ranks.ranks, users, USER_SEGMENTS, names),
        "items": metrics_by_segment(ranks.ranks, items, ITEM_SEGMENTS, names),
    }


def _beyond(
    config: Settings, trainer: Any, ranks: RankFile, counts: np.ndarray
) -> dict[str, float]:
    """Coverage and its relatives of the recommended lists, and the share of ties."""
    result = {"tie_share": tie_share(ranks.ties)}
    if not trainer.eval_collector.lists:
        return result
    lists = torch.cat(trainer.eval_collector.lists).numpy()
    if (lists == 0).any():
        getLogger().info("Fewer candidates than recommendations: coverage is left out")
        return result
    tail_ratio = config["tail_ratio"] or 0.1  # as RecBole's TailPercentage
    return result | list_metrics(lists, counts, [lists.shape[1]], tail_ratio=tail_ratio)
