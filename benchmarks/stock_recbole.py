"""RecBole as it comes, without this package: its data set, its rows, its trainer."""

from __future__ import annotations

import time
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

# The `recbole` protocol in RecBole's own words; the silence is for the benchmark's output.
_OPTIONS = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {
        "split": {"LS": "valid_and_test"},
        "order": "TO",
        "group_by": "user",
        "mode": "full",
    },
    "train_neg_sample_args": None,
    "loss_type": "CE",
    "epochs": 1,
    "show_progress": False,
    "state": "ERROR",
}


def one_epoch(model: str, dataset: str, options: dict[str, Any]) -> tuple[int, float, float]:
    """Train for an epoch, then rank for all test users.

    Returns:
        the rows of the training, the seconds of the epoch, those of the evaluation.
    """
    config = Config(model, dataset, config_dict=_OPTIONS | options)
    init_seed(config["seed"], config["reproducibility"])
    train, _, test = data_preparation(config, create_dataset(config))
    network = get_model(model)(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
    started = time.perf_counter()
    trainer.fit(train, verbose=False, saved=False)
    trained = time.perf_counter()
    trainer.evaluate(test, load_best_model=False)
    return len(train._dataset), trained - started, time.perf_counter() - trained
