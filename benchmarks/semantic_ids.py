"""What an item table costs HSTU, and what the sum of code vectors costs in its place.

    python benchmarks/semantic_ids.py [--items 100000 1000000] [--threads 2]

Codes are drawn at random: 3 levels of 256, and a further one of 8. A process of its own for each
row; `memory` is the peak above that of the imports, with AdamW's state, over the steps of training.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from peak import peak_mib
from step import histories, train_step

from recbole_hstu.config.config import Config
from recbole_hstu.data.files.semantic_id_file import SemanticIds
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.support.memory import keep_freed_memory

SIZES = (256, 256, 256, 8)
TABLES = ("ids", "replaced", "joined")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", help=argparse.SUPPRESS)  # of the process that measures
    args = parser.parse_args()
    if args.table:
        measure(args)
        return
    sys.stdout.write("| items | vectors | learned | checkpoint | memory | a step |\n|---|---|")
    sys.stdout.write("---:|---:|---:|---:|\n")
    sys.stdout.flush()
    for n_items in args.items:
        for table in TABLES:
            again = [sys.executable, __file__, f"--items={n_items}", f"--table={table}"]
            subprocess.run([*again, f"--threads={args.threads}"], check=True)


def measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    (n_items,) = args.items
    batch, before = histories(n_items), peak_mib()
    model = made(n_items, args.table)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        train_step(model.calculate_loss, optimizer, batch)
        seconds.append(time.perf_counter() - started)
    learned = sum(weights.numel() for weights in model.parameters())
    kept = sum(tensor.nbytes for tensor in model.state_dict().values())
    sys.stdout.write(
        f"| {n_items:,} | {args.table} | {learned:,} | {kept / 2**20:.1f} MiB | "
        f"{peak_mib() - before:,.0f} MiB | {min(seconds):.2f} s |\n"
    )


def made(n_items: int, table: str) -> HSTU:
    given = {} if table == "ids" else {"semantic_ids": "rkmeans", "id_table": table}
    config = Config("HSTU", "musical_instruments", None, {**given, "use_gpu": False})
    drawn = np.random.default_rng(0).integers(0, SIZES, (n_items, len(SIZES)))
    ids = SemanticIds(torch.from_numpy(drawn), SIZES)
    dataset = SimpleNamespace(num=lambda _: n_items, semantic_ids=ids)
    torch.manual_seed(0)
    return HSTU(config, dataset)


if __name__ == "__main__":
    main()
