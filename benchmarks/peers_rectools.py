"""RecTools' HSTU and SASRec for benchmarks/peers.py: the sizes, the loss and the recipe of ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peers_data import Question, Split, clocks
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel, load_model

# Kind, blocks, heads. A block's feed-forward network is as wide as the model, as in ours.
KINDS = {"RecTools-HSTU": (HSTUModel, 4, 4), "RecTools-SASRec": (SASRecModel, 2, 2)}
_NEWEST_SECOND = 10**11
"""Times above are milliseconds."""


class RecTools:
    """A model of RecTools.

    Raises:
        RuntimeError: after training, if its candidates are not those of the split.
    """

    def __init__(self, name: str, split: Split, args: Any):
        seed_everything(args.seed)
        kind, n_blocks, n_heads = KINDS[name]
        self.split = split
        self.dataset = Dataset.construct(_interactions(split.train))
        self.model = kind(
            n_blocks=n_blocks,
            n_heads=n_heads,
            n_factors=64,
            dropout_rate=args.dropout,
            session_max_len=args.history,
            loss="sampled_softmax",
            n_negatives=512,
            lr=0.001,
            batch_size=128,
            similarity_module_kwargs={"distance": "cosine"},
            lightning_module_kwargs={"logits_t": 0.05},
            recommend_torch_device="cpu",
            get_trainer_func=make_trainer,
            get_trainer_func_kwargs={"seconds": args.seconds},
        )

    def epoch(self) -> dict[str, float]:
        """Train for one epoch."""
        before = self.clock.trained if self.model.is_fitted else np.zeros(2)
        self.model.fit_partial(self.dataset, min_epochs=0, max_epochs=1)
        if set(self.model.data_preparator.get_known_item_ids()) != set(self.split.candidates):
            raise RuntimeError("RecTools recommends other items than the candidates of the split")
        n_weights = sum(weight.numel() for weight in self.model.torch_model.parameters())
        seconds, processor = self.clock.trained - before
        return {"seconds": seconds, "processor": processor, "parameters": n_weights}

    def train(self, file: Path, seconds: float | None, patience: int) -> dict[str, Any]:
        """Train to the limit in seconds or to early stopping; the best epoch is kept in a file."""
        best, best_epoch, epoch, trained = -1.0, 0, 0, 0.0
        limit = math.inf if seconds is None else seconds
        while trained < limit and epoch - best_epoch <= patience:
            trained += self.epoch()["seconds"]
            epoch += 1
            _, lists = self.lists(self.model, self.split.valid, self.split.candidates)
            score = self.split.valid.metrics(lists)["ndcg@10"]
            if score > best:
                best, best_epoch = score, epoch
                self.model.save(file)
        stopped = epoch - best_epoch > patience
        return {"seconds": trained, "epochs": epoch, "best": best_epoch, "stopped": stopped}

    def save(self, file: Path) -> None:
        """Write the model after a single step: RecTools makes the weights in training alone."""
        self.model._trainer.limit_train_batches = 1
        self.epoch()
        self.model.save(file)

    load = staticmethod(load_model)

    @staticmethod
    def lists(
        model: Any, question: Question, candidates: np.ndarray
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """Seconds (2,), and lists (user, item, rank); its data set is made before."""
        dataset = Dataset.construct(_interactions(question.histories))
        asked = _interactions(question.asked)
        context = asked.drop(columns="item_id") if model.require_recommend_context else None
        started = clocks()
        found = model.recommend(
            asked["user_id"].to_numpy(),
            dataset,
            k=50,
            filter_viewed=True,
            items_to_recommend=candidates,
            context=context,
        )
        seconds = clocks() - started
        return seconds, found.rename(columns={"user_id": "user", "item_id": "item"})

    @property
    def clock(self) -> Clock:
        return next(c for c in self.model.fit_trainer.callbacks if isinstance(c, Clock))


class Clock(Callback):
    """Counts the seconds of training alone, and stops after the batch that passes a limit.

    Attributes:
        trained: (2,) as `clocks` counts.
    """

    def __init__(self, limit: float | None):
        self.limit, self.trained = limit, np.zeros(2)

    def on_train_epoch_start(self, *_: Any) -> None:
        self._last = clocks()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        now = clocks()
        self.trained, self._last = self.trained + now - self._last, now
        if self.limit is not None and self.trained[0] >= self.limit:
            trainer.should_stop = True


def make_trainer(seconds: float | None) -> Trainer:
    """A module's function, since RecTools writes its name into the file of a model, whose epochs
    may not be more than `max_epochs` when it is read; `fit_partial` counts its own."""
    return Trainer(
        max_epochs=100_000,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock(seconds)],
    )


def _interactions(events: pd.DataFrame) -> pd.DataFrame:
    unit = "ms" if events["time"].max() > _NEWEST_SECOND else "s"
    return pd.DataFrame(
        {
            "user_id": events["user"],
            "item_id": events["item"],
            "weight": np.float32(1),
            "datetime": pd.to_datetime(events["time"], unit=unit),
        }
    )
