"""HSTUText over a million items with 768-wide text: seconds of a step, and peak memory.

    python benchmarks/million.py [--items 1000000] [--text 768] [--threads 2]

Reading the side-feature file (3 GB on the disk, written first and removed at the end) is part of
it: the peak is that of the whole process, imports included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import torch
from peak import peak_mib
from step import histories, make_model, text_file

from recbole_hstu.model.hstutext import HSTUText
from recbole_hstu.support.memory import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--text", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loss_type", help=argparse.SUPPRESS)  # of the process that measures
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        text_file(args.items, args.text)
    elif args.loss_type:
        measure(args)
    else:
        again = [sys.executable, __file__, *sys.argv[1:]]
        subprocess.run([*again, "--write"], check=True)
        try:
            for loss_type in ("sampled", "shared"):
                subprocess.run([*again, f"--loss_type={loss_type}"], check=True)
        finally:
            text_file(args.items, args.text).unlink()


def measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    started = time.perf_counter()
    file = str(text_file(args.items, args.text))
    options = {"loss_type": args.loss_type, "text_features_file": file}
    model = make_model(HSTUText, args.items, **options)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    read = time.perf_counter() - started
    batch = histories(args.items)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    sys.stdout.write(
        f"{args.items:,} items, text {args.text} wide, {args.loss_type}: read and built in "
        f"{read:.1f} s, a step {min(seconds):.2f} s, peak {peak_mib() / 1024:.1f} GiB\n"
    )


if __name__ == "__main__":
    main()
