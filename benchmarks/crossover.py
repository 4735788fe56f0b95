"""Where the ways of computing the sampled loss cross: the rule of `losses.choose_impl`.

    python benchmarks/crossover.py [--threads 1]

Processor milliseconds of the loss and its gradients, best of several, alternating, for 946
positions of width 64 and catalogues that hold so many items a negative.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from recbole_hstu.memory import keep_freed_memory
from recbole_hstu.model.losses import sampled_softmax

POSITIONS, WIDTH, ROUNDS = 946, 64, 9
NEGATIVES, COLUMNS = (128, 512), (2, 4, 6, 8, 10, 12, 16, 24)
IMPLS = ("dense", "sparse", "gather")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    keep_freed_memory()
    sys.stdout.write("negatives  items  items/negative" + "".join(f"{i:>9}" for i in IMPLS) + "\n")
    for n_negatives in NEGATIVES:
        for columns in COLUMNS:
            taken = "".join(f"{ms:9.1f}" for ms in measure(n_negatives, columns).values())
            items = n_negatives * columns
            sys.stdout.write(f"{n_negatives:9} {items:6,} {columns:15}{taken}\n")


def measure(n_negatives: int, columns: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    n_items = columns * n_negatives
    queries = torch.randn(POSITIONS, WIDTH, generator=generator).requires_grad_()
    table = torch.randn(n_items, WIDTH, generator=generator).requires_grad_()
    positives = torch.randint(1, n_items, (POSITIONS,), generator=generator)
    negatives = torch.randint(1, n_items, (POSITIONS, n_negatives), generator=generator)
    best = dict.fromkeys(IMPLS, float("inf"))
    for _ in range(ROUNDS):
        for impl in IMPLS:
            started = time.process_time()
            loss = sampled_softmax(queries, table, positives, negatives, temperature=1, impl=impl)
            loss.backward()
            best[impl] = min(best[impl], 1e3 * (time.process_time() - started))
    return best


if __name__ == "__main__":
    main()
