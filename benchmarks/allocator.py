"""What keeping freed memory (recbole_hstu/support/memory.py) saves on a CPU.

    python benchmarks/allocator.py

A training step of RecBole's SASRec (batch 256) and of HSTU (batch 128) on MovieLens-100K with
history 200, with the setting and without, each in a process of its own, alternating; the best of
all steps counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from own_process import in_own_process
from step import train_step

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.training.preparation import build_model

BATCH = {"SASRec": 256, "HSTU": 128}
ROUNDS, STEPS = 2, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=BATCH, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model:
        sys.stdout.write("\n" + json.dumps(best_step(args.model, kept=args.kept)))
        return
    for model in BATCH:
        freed, kept = float("inf"), float("inf")
        for _ in range(ROUNDS):
            freed = min(freed, in_own_process(f"--model={model}"))
            kept = min(kept, in_own_process(f"--model={model}", "--kept"))
        sys.stdout.write(f"{model}: {freed / kept:.2f} times faster when freed memory is kept\n")


def best_step(name: str, *, kept: bool) -> float:
    """Seconds of the fastest of a few steps."""
    if kept and not keep_freed_memory():
        raise SystemExit("this C library has no mallopt")
    config = Config(name, "ml-100k", config_dict={"train_batch_size": BATCH[name]})
    train, _, _ = make_loaders(config, load_dataset(config))
    model = build_model(config, train._dataset).train()
    optimizer = torch.optim.AdamW(model.parameters())
    seconds = []
    for _, batch in zip(range(STEPS), train, strict=False):
        started = time.perf_counter()
        train_step(model.calculate_loss, optimizer, batch)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
