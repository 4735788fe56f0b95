"""HSTUText over a million items with 768-wide text: seconds of a step, and peak memory.

    python benchmarks/million.py [--items 1000000] [--text 768] [--threads 2]
    python benchmarks/million.py --items 10000000 --text 0 --learner lazy_adamw --loss_types shared

    python benchmarks/million.py --text 0 --learner adamw,lazy_adamw --loss_types shared --threads 1

Two learners take their steps by turns, and the ratio of their medians is told; the evaluation is
left out. `--storage float16` is `text_storage_dtype`.

Without text (0) it is HSTU. The peak is that of the whole process, imports included: it holds the
reading of the side-feature file (3 GB on the disk, written first and removed at the end) and an
evaluation of 64 users in blocks of items.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch
from peak import peak_mib
from step import histories, make_model, text_file, train_step

from recbole_hstu.evaluation.score_blocks import ScoreBlocks
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.hstutext import HSTUText
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.training.tables.item_table import lazy_adamw

USERS = 64  # of the evaluation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--text", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--storage", default="float32", choices=["float32", "float16"])
    parser.add_argument("--learner", default="adamw")
    parser.add_argument("--loss_types", default="sampled,shared")
    parser.add_argument("--loss_type", help=argparse.SUPPRESS)  # of the process that measures
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        text_file(args.items, args.text, args.storage)
    elif args.loss_type:
        measure(args)
    else:
        again = [sys.executable, __file__, *sys.argv[1:]]
        if args.text:
            subprocess.run([*again, "--write"], check=True)
        try:
            for loss_type in args.loss_types.split(","):
                subprocess.run([*again, f"--loss_type={loss_type}"], check=True)
        finally:
            if args.text:
                text_file(args.items, args.text, args.storage).unlink()


def measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    started = time.perf_counter()
    steps = {learner: Step(args, learner) for learner in args.learner.split(",")}
    read = time.perf_counter() - started
    seconds = [[step() for step in steps.values()] for _ in range(7 if len(steps) > 1 else 5)]
    trained = peak_mib() / 1024
    sys.stdout.write(
        f"{args.items:,} items, text {args.text} wide, {args.storage}, {args.loss_type}: read and "
        f"built in {read:.1f} s, peak {trained:.1f} GiB\n"
    )
    for place, (learner, step) in enumerate(steps.items()):
        taken = [row[place] for row in seconds]
        ratio = statistics.median(row[place] / row[0] for row in seconds)
        sys.stdout.write(
            f"{learner}: a step {min(taken):.3f} s, median {statistics.median(taken):.3f} s, "
            f"{ratio:.2f} times that of {args.learner.split(',')[0]}\n"
        )
        if len(steps) == 1:
            ranked = evaluate(step.model, histories(args.items))
            sys.stdout.write(
                f"{USERS} users ranked in {ranked:.1f} s, peak {peak_mib() / 1024:.1f} GiB\n"
            )


class Step:
    """A model, its learner and a batch; a call takes a step and tells its seconds."""

    def __init__(self, args: argparse.Namespace, learner: str):
        options = {"loss_type": args.loss_type, "learner": learner}
        if args.text:
            file = text_file(args.items, args.text, args.storage)
            options["text_features_file"] = str(file)
        self.model = make_model(HSTUText if args.text else HSTU, args.items, **options)
        self.optimizer = optimizer_of(self.model, learner)
        self.batch = histories(args.items)

    def __call__(self) -> float:
        started = time.perf_counter()
        train_step(self.model, self.optimizer, self.batch)
        return time.perf_counter() - started


def optimizer_of(model: HSTU, learner: str) -> torch.optim.Optimizer:
    if learner == "adamw":
        return torch.optim.AdamW(model.parameters(), fused=True)
    config = {"model": "HSTU", "adam_betas": (0.9, 0.98), "clip_grad_norm": None}
    return lazy_adamw(model, config, model.parameters(), 1e-3, 0.0)


@torch.no_grad()
def evaluate(model: HSTU, batch: dict[str, torch.Tensor]) -> float:
    """Seconds to make the item vectors and to rank the first users."""
    few = {key: values[:USERS] for key, values in batch.items()}
    started = time.perf_counter()
    model.eval()
    inputs, candidates = model.item_tables()
    ScoreBlocks(model.user_vectors(few, inputs), candidates).judged(few["item_id"], 10)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
