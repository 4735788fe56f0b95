"""A sharded item table: what each of several processes holds, and seconds of a step.

    python benchmarks/sharded.py [--items 1000000] [--processes 2] [--learner lazy_adamw]

HSTU with `loss_type: shared`, 64 wide. A peak is that of a whole process, imports included, after
five steps and after an evaluation of 64 users in blocks of items.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from million import USERS, optimizer_of
from peak import peak_mib
from recbole.data.interaction import Interaction
from step import histories, make_model, train_step

from recbole_hstu.data.rows.own_rows import own_rows
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.batch_share import BatchShare
from recbole_hstu.distributed.launcher import launch
from recbole_hstu.distributed.row_blocks import blocks_of
from recbole_hstu.distributed.shared_loss import SharedLoss
from recbole_hstu.evaluation.score_blocks import SharedScoreBlocks
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.support.memory import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--learner", default="lazy_adamw", choices=["adamw", "lazy_adamw"])
    args = parser.parse_args()
    if args.processes < 2:
        raise SystemExit(f"--processes={args.processes}: a table is shared by two or more")
    lines = launch(args.processes, 0, measure, args.items, args.processes, args.learner)
    sys.stdout.write("".join(lines))


def measure(items: int, of: int, learner: str) -> list[str]:
    """A line of every process."""
    keep_freed_memory()
    with processes.together({"nproc": of, "device": torch.device("cpu")}):
        model = make_model(HSTU, items, loss_type="shared", learner=learner, item_table="sharded")
        optimizer = optimizer_of(model, learner)
        loss = SharedLoss(model, torch.device("cpu"))
        batch = histories(items)
        lengths = batch["item_length"]
        own = torch.arange(processes.rank(), len(lengths), of)
        share = BatchShare(own, len(lengths), lengths)
        rows = own_rows(Interaction({k: v[own] for k, v in batch.items()}), share)
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            train_step(loss, optimizer, rows)
            seconds.append(time.perf_counter() - started)
        trained = peak_mib() / 1024
        evaluate(model, histories(items, rows=USERS))
        return processes.gather(
            f"process {processes.rank() + 1} of {of}, {items:,} items, {learner}: "
            f"{len(model.items.own.ids):,} rows, a step {min(seconds):.3f} s, peak {trained:.2f} "
            f"GiB, with an evaluation {peak_mib() / 1024:.2f} GiB\n"
        )


@torch.no_grad()
def evaluate(model: HSTU, users: dict[str, torch.Tensor]) -> None:
    model.eval()
    inputs, candidates = model.item_tables()
    vectors = model.user_vectors(users, inputs)
    SharedScoreBlocks(vectors, candidates, blocks=blocks_of(model)).judged(users["item_id"], 10)


if __name__ == "__main__":
    main()
