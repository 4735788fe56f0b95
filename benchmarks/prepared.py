"""Starting a training of HSTU on a large data set: from its files, or from a prepared set.

    python benchmarks/prepared.py [--interactions 1000000] [--folder FOLDER] [--steps 50]

A process of its own for each stage: from the files as they are, making the prepared set, and
starting from it while its files lie in the page cache. Until the loaders stand, by the clock and of
the processor; then, of the processor, a batch of the loader and the step that takes it (64 wide,
`shared` loss); the peak memory of the process, and how much of its memory at the end are pages of
files, of which all processes share one copy. The made-up data have 15 interactions a user and
200,000 items; with `--folder` they stay for the next time, those of each `--interactions` by
themselves. `--stages prepare,start` leaves out the start from the files: it takes 2 GiB and more
for every 10 million interactions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from own_process import in_own_process
from peak import own_and_mapped_mib, peak_mib
from step import train_step

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.reports.text_tables import markdown_table
from recbole_hstu.support.files.whole_file import whole_file
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.training.preparation import build_model

STAGES = {"files": "never", "prepare": "always", "start": "always"}
ITEMS, A_USER = 200_000, 15
OPTIONS = {
    "MAX_ITEM_LIST_LENGTH": 50,
    "hidden_size": 64,
    "loss_type": "shared",
    "train_batch_size": 128,
    "eval_users": 10_000,
    "metrics": ["NDCG"],
    "topk": [10],
    "valid_metric": "NDCG@10",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--steps", type=int, default=50, help="from 1")
    parser.add_argument("--json", action="store_true", help="numbers in place of a table")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps {args.steps}: expected a number from 1 on")
    if args.stage:
        sys.stdout.write("\n" + json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        args.folder = args.folder or Path(folder)
        stages = args.stages.split(",")
        made = list((args.folder / name_of(args)).glob("*.prepared"))
        if "start" in stages and "prepare" not in stages and not made:
            raise SystemExit(f"{args.folder}: no prepared set to start from; add prepare")
        write_interactions(args.folder / name_of(args), args.interactions)
        costs = {stage: child(args, stage) for stage in stages}
    if args.json:
        sys.stdout.write(json.dumps(costs))
        return
    rows = [[stage, *shown(cost)] for stage, cost in costs.items()]
    names = ["stage", "until the loaders", "processor", "a batch", "a step", "peak", "files' pages"]
    sys.stdout.write(markdown_table(names, rows))


def name_of(args: argparse.Namespace) -> str:
    return f"madeup-{args.interactions}"


def child(args: argparse.Namespace, stage: str) -> dict[str, float]:
    if stage == "prepare":
        for old in (args.folder / name_of(args)).glob("*.prepared"):
            shutil.rmtree(old)
    own = ["--stage", stage, "--folder", str(args.folder), "--steps", str(args.steps)]
    return in_own_process(*own, "--interactions", str(args.interactions))


def shown(cost: dict[str, float]) -> list[str]:
    return [
        f"{cost['start']:.1f} s",
        f"{cost['work']:.1f} s",
        f"{1e3 * cost['batch']:.1f} ms",
        f"{1e3 * cost['step']:.0f} ms",
        f"{cost['peak']:,.0f} MiB",
        f"{cost['shared']:,.0f} MiB",
    ]


def measure(args: argparse.Namespace) -> dict[str, float]:
    warnings.filterwarnings("ignore")
    how = {"data_path": str(args.folder), "prepared": STAGES[args.stage]}
    started, worked = time.perf_counter(), time.process_time()
    config = Config("HSTU", name_of(args), config_dict={**OPTIONS, **how})
    data = load_dataset(config)
    train = make_loaders(config, data)[0]
    start, work = time.perf_counter() - started, time.process_time() - worked
    keep_freed_memory()
    batch, step = seconds_a_step(build_model(config, train._dataset), train, args.steps)
    return {
        "start": start,
        "work": work,
        "batch": batch,
        "step": step,
        "peak": peak_mib(),
        "shared": own_and_mapped_mib()[1],
    }


def seconds_a_step(model: Any, train: Any, steps: int) -> tuple[float, float]:
    """Median processor seconds, of one thread, for a batch of the loader and for its step."""
    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    waits, works = [], []
    batches = chain.from_iterable(repeat(train))  # few interactions: one epoch after the other
    for _ in range(steps):
        began = time.process_time()
        batch = next(batches)
        waits.append(time.process_time() - began)
        train_step(model.calculate_loss, optimizer, batch)
        works.append(time.process_time() - began - waits[-1])
    return float(np.median(waits)), float(np.median(works))


def write_interactions(place: Path, count: int) -> None:
    """The `.inter` file: popular and rare items, times in ms, in no order; kept if it is there."""
    import pyarrow as pa
    from pyarrow import csv

    file = place / f"{place.name}.inter"
    if file.exists():
        return
    generator = np.random.default_rng(0)
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with whole_file(file) as stream:
        stream.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        for start in range(0, count, 5_000_000):
            rows = min(5_000_000, count - start)
            users = generator.integers(max(1, count // A_USER), size=rows)
            items = (ITEMS * generator.random(rows) ** 2).astype(np.int64)
            times = generator.integers(1_400_000_000_000, 1_700_000_000_000, size=rows)
            table = pa.table({"user": users, "item": items, "time": times})
            csv.write_csv(table, stream, options)


if __name__ == "__main__":
    main()
