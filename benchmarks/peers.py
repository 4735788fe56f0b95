"""Other libraries beside us: RecTools' HSTU and SASRec, and RecBole's models.

    python -m venv peers
    peers/bin/pip install torch==2.13.0
    peers/bin/pip install -c constraints.txt . "rectools[torch]==0.19.0"

    peers/bin/python benchmarks/peers.py epoch
    peers/bin/python benchmarks/peers.py lists
    peers/bin/python benchmarks/peers.py quality --seconds=600
    peers/bin/python benchmarks/peers.py quality --patience=10

`epoch`: seconds of an epoch of training. `lists`: seconds for lists of 50 for all users, by a model
whose weights are drawn, which changes no time. `quality`: metrics of the best epoch, by its own
validation, after equal seconds of training or, without --seconds, after early stopping. Every model
has a process of its own, one after another; memory is the peak above the imports. Data, split,
candidates, mask and metrics are the same for all (benchmarks/peers_data.py); --users takes the
first users of the file alone.

Sizes are alike: width 64, HSTU of 4 blocks and 4 heads, SASRec of 2 and 2 with a feed-forward
network as wide as the model. Ours and RecTools' learn by 512 sampled negatives, cosine and a
temperature of .05, 128 users a batch; RecBole's by cross-entropy over all items, 2,048 targets a
batch: prefixes in `epoch`, which is RecBole's own way, windows in `quality`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # for all alike

import numpy as np
import pandas as pd
from own_process import in_own_process
from peak import peak_mib
from peers_data import METRICS, Question, Split, clocks, read_split, write_first_users

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.quick_start import run
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.training.preparation import build_model, make_trainer, provide_text

K = 50
MODELS = "HSTU,RecTools-HSTU,SASRecSS,RecTools-SASRec,SASRec,GRU4Rec"
SASREC = {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "inner_size": 64}
HSTU = {"hidden_size": 64, "n_layers": 4, "n_heads": 4, "qk_size": 16, "v_size": 16}
SIZES: dict[str, dict[str, Any]] = {
    "HSTU": {**HSTU, "num_negatives": 512},
    "SASRecSS": {**SASREC, "num_negatives": 512},
    "SASRec": {**SASREC, "train_batch_size": 2048},
    "GRU4Rec": {"embedding_size": 64, "hidden_size": 64, "train_batch_size": 2048},
}
DROPOUTS = {
    "HSTU": ("input_dropout_prob", "hidden_dropout_prob"),
    "SASRecSS": ("input_dropout_prob", "hidden_dropout_prob"),
    "SASRec": ("hidden_dropout_prob", "attn_dropout_prob"),
    "GRU4Rec": ("dropout_prob",),
}


class Own:
    """A model of ours or of RecBole's, trained by this package."""

    def __init__(self, name: str, split: Split, args: argparse.Namespace):
        self.name, self.dataset = name, args.dataset
        dropouts = dict.fromkeys(DROPOUTS.get(name, ()), args.dropout)
        self.options = {**SIZES.get(name, {}), **dropouts, "MAX_ITEM_LIST_LENGTH": args.history}
        self.options |= {"data_path": ".", "checkpoint_dir": "saved", "seed": args.seed}
        self.options |= {"protocol": "recbole", "mask_seen": True, "show_progress": False}

    def epoch(self) -> dict[str, float]:
        """Train for one epoch."""
        trainer, train = self._trainer(epochs=1)
        started = clocks()
        trainer.fit(train, verbose=False, saved=False)
        seconds, processor = clocks() - started
        n_weights = sum(weight.numel() for weight in trainer.model.parameters())
        return {"seconds": seconds, "processor": processor, "parameters": n_weights}

    def train(self, file: Path, seconds: float | None, patience: int) -> dict[str, Any]:
        """Train to the limit in seconds or to early stopping; the best epoch is kept in a file."""
        limits = {"train_seconds": seconds, "stopping_step": patience, "epochs": 10_000}
        done = run(self.name, self.dataset, config_dict=self.options | limits)
        shutil.copy(done["checkpoint"], file)
        record = done["record"]
        best = max(record.history, key=lambda epoch: epoch.valid["ndcg@10"]).epoch
        found = {"seconds": record.training_seconds, "epochs": record.epochs, "best": best}
        return found | {"stopped": record.converged}

    def save(self, file: Path) -> None:
        """Write the model with weights as they are drawn."""
        trainer, train = self._trainer(epochs=0)
        trainer.fit(train, verbose=False)
        shutil.copy(trainer.saved_model_file, file)

    def _trainer(self, epochs: int) -> tuple[Any, Any]:
        config = Config(self.name, self.dataset, config_dict=self.options)
        config["epochs"] = epochs
        train, _, _ = make_loaders(config, load_dataset(config))
        provide_text(config, train._dataset)
        return make_trainer(config, build_model(config, train._dataset)), train

    load = staticmethod(Recommender.load)

    @staticmethod
    def lists(
        rec: Recommender, question: Question, candidates: np.ndarray
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """Seconds (2,), and lists (user, item, rank)."""
        asked, started = question.asked, clocks()
        found = rec.recommend_users(
            asked["user"].to_numpy(),
            dataset=question.histories,
            k=K,
            at=asked["time"].to_numpy(),
            candidates=candidates,
        )
        return clocks() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--dataset", default="Electronics_sample")
    parser.add_argument("--data_path", default="dataset", help="folder of the data sets' folders")
    parser.add_argument("--models", default=MODELS, help="any of ours, RecBole's, and RecTools-*")
    parser.add_argument("--users", type=int, help="only so many, the first of the file")
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--dropout", type=float, default=0.5, help="of all of MODELS")
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--rounds", type=int, default=3, help="lists: the median of so many")
    parser.add_argument("--seconds", type=float, help="quality: of training, at most")
    parser.add_argument("--patience", type=int, default=10, help="quality: epochs without a gain")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        sys.stdout.write("\n" + json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        copy_data(Path(args.data_path, args.dataset), Path(folder, args.dataset), args.users)
        compare(args, folder)


def copy_data(source: Path, copy: Path, users: int | None) -> None:
    copy.mkdir()
    for file in filter(Path.is_file, source.iterdir()):  # not what a prepared set lies in
        if file.suffix == ".inter" and users is not None:
            write_first_users(file, copy / file.name, users)
        else:
            shutil.copy(file, copy)


def compare(args: argparse.Namespace, folder: str) -> None:
    """A row of the table for every model, as soon as it is measured."""
    steps, columns = PARTS[args.part]
    sys.stdout.write(f"| model | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}\n")
    for model in args.models.split(","):
        found: dict[str, Any] = {}
        for step in steps:
            # The peak of the last step counts: it makes no model for the lists.
            found |= in_own_process(*sys.argv[1:], "--models", model, "--step", step, cwd=folder)
        cells = [form.format(found[key]) for key, form in columns.values()]
        sys.stdout.write(f"| {model} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One step of one model, whose file lies in the current folder."""
    kind: Any = Own
    if args.models.startswith("RecTools-"):
        from peers_rectools import RecTools as kind
    file = Path(f"{args.models}.model").absolute()
    before = peak_mib()
    keep_freed_memory()  # for all alike
    split = read_split(Path(args.dataset, f"{args.dataset}.inter"), args.history)
    found = STEPS[args.step](kind, file, split, args)
    return found | {"peak": peak_mib() - before}


def train_epoch(kind: Any, file: Path, split: Split, args: argparse.Namespace) -> dict[str, Any]:
    return kind(args.models, split, args).epoch()


def save(kind: Any, file: Path, split: Split, args: argparse.Namespace) -> dict[str, Any]:
    kind(args.models, split, args).save(file)
    return {}


def train(kind: Any, file: Path, split: Split, args: argparse.Namespace) -> dict[str, Any]:
    return kind(args.models, split, args).train(file, args.seconds, args.patience)


def lists(kind: Any, file: Path, split: Split, args: argparse.Namespace) -> dict[str, Any]:
    model = kind.load(file)
    rounds = [kind.lists(model, split.test, split.candidates) for _ in range(args.rounds)]
    seconds, processor = np.median([spent for spent, _ in rounds], axis=0)
    found = {
        "lists": seconds,
        "processor": processor,
        "users": len(split.test.asked),
        "items": len(split.candidates),
    }
    return found | split.test.metrics(rounds[0][1])


STEPS = {"epoch": train_epoch, "save": save, "train": train, "lists": lists}
TRAINED = {
    "parameters": ("parameters", "{:,}"),
    "an epoch, s": ("seconds", "{:.2f}"),
    "processor, s": ("processor", "{:.2f}"),
    "peak, MiB": ("peak", "{:,.0f}"),
}
LISTED = {
    "users": ("users", "{:,}"),
    "items": ("items", "{:,}"),
    f"lists of {K}, s": ("lists", "{:.2f}"),
    "processor, s": ("processor", "{:.2f}"),
    "peak, MiB": ("peak", "{:,.0f}"),
}
JUDGED = {
    "training, s": ("seconds", "{:.0f}"),
    "epochs": ("epochs", "{}"),
    "best epoch": ("best", "{}"),
    "stopped early": ("stopped", "{}"),
    **{name: (name, "{:.4f}") for name in METRICS},
}
PARTS = {
    "epoch": (("epoch",), TRAINED),
    "lists": (("save", "lists"), LISTED),
    "quality": (("train", "lists"), JUDGED),
}


if __name__ == "__main__":
    main()
