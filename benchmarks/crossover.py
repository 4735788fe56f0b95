"""Where the ways of computing the sampled loss cross: the rule of `losses.choose_impl`.

    python benchmarks/crossover.py [--threads 1] [--device cpu]

On the CPU, then on a GPU where there is one, unless --device names one of them. Milliseconds (of
the processor on a CPU) of the loss and its gradients, best of several, alternating, for 946
positions of width 64 and catalogues that hold so many items a negative.
"""

from __future__ import annotations

import argparse
import sys

import device_option
import torch
from device_option import clock

from recbole_hstu.layers.losses import sampled_softmax

POSITIONS, WIDTH, ROUNDS, NEGATIVES = 946, 64, 9, (128, 512)
COLUMNS = {"cpu": (2, 4, 6, 8, 10, 12, 16, 24), "cuda": (8, 16, 32, 64, 128, 256, 512)}
IMPLS = {"cpu": ("dense", "sparse", "gather"), "cuda": ("dense", "gather")}


def main() -> None:
    args = device_option.parse(argparse.ArgumentParser(description=__doc__), threads=1)
    for device in device_option.asked(args):
        names = "".join(f"{impl:>9}" for impl in IMPLS[device])
        sys.stdout.write(f"{device:4} negatives    items  items/negative{names}\n")
        for n_negatives in NEGATIVES:
            for columns in COLUMNS[device]:
                best = measure(device, n_negatives, columns)
                taken = "".join(f"{ms:9.1f}" for ms in best.values())
                items = n_negatives * columns
                sys.stdout.write(f"{n_negatives:14} {items:8,} {columns:15}{taken}\n")


def measure(device: str, n_negatives: int, columns: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    n_items = columns * n_negatives
    queries = torch.randn(POSITIONS, WIDTH, generator=generator).to(device).requires_grad_()
    table = torch.randn(n_items, WIDTH, generator=generator).to(device).requires_grad_()
    positives = torch.randint(1, n_items, (POSITIONS,), generator=generator).to(device)
    negatives = torch.randint(1, n_items, (POSITIONS, n_negatives), generator=generator).to(device)
    best = dict.fromkeys(IMPLS[device], float("inf"))
    for _ in range(ROUNDS):
        for impl in IMPLS[device]:
            started = clock(device)
            loss = sampled_softmax(queries, table, positives, negatives, temperature=1, impl=impl)
            loss.backward()
            best[impl] = min(best[impl], 1e3 * (clock(device) - started))
    return best


if __name__ == "__main__":
    main()
