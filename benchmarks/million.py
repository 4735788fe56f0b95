"""HSTUText over a million items with 768-wide text: seconds of a step, and memory.

    python benchmarks/million.py [--items 1000000] [--text 768] [--threads 2]
    python benchmarks/million.py --items 10000000 --text 0 --learner lazy_adamw --loss_types shared

    python benchmarks/million.py --text 0 --learner adamw,lazy_adamw --loss_types shared --threads 1
    python benchmarks/million.py --storage float16 --text_memory own,mapped --threads 1

Two learners, or two ways to hold the text, take their steps by turns; the ratio of their medians is
told, of the processor's seconds too. Then the evaluation is left out. `--storage float16` is
`text_storage_dtype`.

Without text (0) it is HSTU. The peak is that of the whole process, imports included: it holds the
reading of the side-feature file (3 GB on the disk, written first and removed at the end) and an
evaluation of 64 users in blocks of items. Of mapped files a process tells how much lies in memory;
several processes share it.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time

import numpy as np
import torch
from peak import own_and_mapped_mib, peak_mib
from step import histories, make_model, text_file, train_step

from recbole_hstu.evaluation.score_blocks import ScoreBlocks
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.hstutext import HSTUText
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.training.tables.item_table import lazy_adamw

USERS = 64  # of the evaluation, by default
BETAS = (0.9, 0.98)  # HSTU's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--text", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--storage", default="float32", choices=["float32", "float16"])
    parser.add_argument("--text_memory", default="own")
    parser.add_argument("--fusion", default="sum")
    parser.add_argument("--learner", default="adamw")
    parser.add_argument("--users", type=int, default=USERS, help="of the evaluation; 0: none")
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
    ways = itertools.product(args.learner.split(","), args.text_memory.split(","))
    steps = {f"{learner}, text {memory}": Step(args, learner, memory) for learner, memory in ways}
    read = time.perf_counter() - started
    rounds = 15 if len(steps) > 1 else 5
    seconds = np.array([[step() for step in steps.values()] for _ in range(rounds)])
    sys.stdout.write(
        f"{args.items:,} items, text {args.text} wide, {args.storage}, {args.fusion}, "
        f"{args.loss_type}: read and built in {read:.1f} s, {memory_now()}\n"
    )
    for place, (name, step) in enumerate(steps.items()):
        clock, processor = np.median(seconds[:, place], axis=0)
        ratios = np.median(seconds[:, place] / seconds[:, 0], axis=0)
        sys.stdout.write(
            f"{name}: a step {seconds[:, place, 0].min():.3f} s, median {clock:.3f} s, of the "
            f"processor {processor:.3f} s; {ratios[0]:.2f} and {ratios[1]:.2f} times those of "
            f"{next(iter(steps))}\n"
        )
        if args.users and len(steps) == 1:
            ranked = evaluate(step.model, histories(args.items, rows=args.users))
            sys.stdout.write(f"{args.users} users ranked in {ranked:.1f} s, {memory_now()}\n")


def memory_now() -> str:
    own, mapped = (mib / 1024 for mib in own_and_mapped_mib())
    return f"peak {peak_mib() / 1024:.1f} GiB; now {own:.1f} GiB own, {mapped:.1f} GiB mapped"


class Step:
    """A model, its learner and a batch; a call takes a step and tells its seconds, on the clock and
    of the processor."""

    def __init__(self, args: argparse.Namespace, learner: str, text_memory: str):
        options = {"loss_type": args.loss_type, "learner": learner}
        if args.text:
            file = text_file(args.items, args.text, args.storage)
            options |= {"text_features_file": str(file), "text_memory": text_memory}
            options |= {"fusion": args.fusion}
        self.model = make_model(HSTUText if args.text else HSTU, args.items, **options)
        self.optimizer = optimizer_of(self.model, learner)
        self.batch = histories(args.items)

    def __call__(self) -> tuple[float, float]:
        clock, processor = time.perf_counter(), time.process_time()
        train_step(self.model.calculate_loss, self.optimizer, self.batch)
        return time.perf_counter() - clock, time.process_time() - processor


def optimizer_of(model: HSTU, learner: str) -> torch.optim.Optimizer:
    if learner == "adamw":
        options = {"lr": 1e-3, "betas": BETAS, "weight_decay": 0.0}
        return torch.optim.AdamW(model.parameters(), fused=True, **options)
    config = {"model": "HSTU", "adam_betas": BETAS}
    config |= {"clip_grad_norm": None, "enable_scaler": False}
    return lazy_adamw(model, config, model.parameters(), 1e-3, 0.0)


@torch.no_grad()
def evaluate(model: HSTU, users: dict[str, torch.Tensor]) -> float:
    """Seconds to make the item vectors and to rank these users."""
    started = time.perf_counter()
    model.eval()
    inputs, candidates = model.item_tables()
    ScoreBlocks(model.user_vectors(users, inputs), candidates).judged(users["item_id"], 10)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
