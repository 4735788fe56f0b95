"""HSTUText over a million items with 768-wide text: seconds of a step, and peak memory.

    python benchmarks/million.py [--items 1000000] [--text 768] [--threads 2]
    python benchmarks/million.py --items 10000000 --text 0 --learner lazy_adamw --loss_types shared

Without text (0) it is HSTU. The peak is that of the whole process, imports included: it holds the
reading of the side-feature file (3 GB on the disk, written first and removed at the end) and an
evaluation of 64 users in blocks of items.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--learner", default="adamw", choices=["adamw", "lazy_adamw"])
    parser.add_argument("--loss_types", default="sampled,shared")
    parser.add_argument("--loss_type", help=argparse.SUPPRESS)  # of the process that measures
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        text_file(args.items, args.text)
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
                text_file(args.items, args.text).unlink()


def measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    started = time.perf_counter()
    options = {"loss_type": args.loss_type, "learner": args.learner}
    if args.text:
        options["text_features_file"] = str(text_file(args.items, args.text))
    model = make_model(HSTUText if args.text else HSTU, args.items, **options)
    optimizer = optimizer_of(model, args.learner)
    read = time.perf_counter() - started
    batch = histories(args.items)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        train_step(model, optimizer, batch)
        seconds.append(time.perf_counter() - started)
    trained = peak_mib() / 1024
    taken = evaluate(model, histories(args.items))
    sys.stdout.write(
        f"{args.items:,} items, text {args.text} wide, {args.loss_type}, {args.learner}: read and "
        f"built in {read:.1f} s, a step {min(seconds):.3f} s, peak {trained:.1f} GiB; "
        f"{USERS} users ranked in {taken:.1f} s, peak {peak_mib() / 1024:.1f} GiB\n"
    )


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
