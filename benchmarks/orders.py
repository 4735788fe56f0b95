"""The converter of one's own data on made-up orders, beside that of an earlier commit.

    python benchmarks/orders.py --interactions 10000000 --before 9938fd2
    python benchmarks/orders.py --interactions 100000000

A CSV file of orders in no order: 15 of a user, 60 of an item on average, ratings of 1 to 5. Each
conversion is a process of its own, in the code of its commit (9938fd2 is the last one that
converted row by row), the two of them alternating. Seconds on the clock and of the processor, peak
memory, and the ratio of the best of each; the two must write the same bytes.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset_converters.reading.lines import sha256_of
from recbole_hstu.reports.text_tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 1 << 16  # rows: a child's peak memory is at least that of its parent
logger = logging.getLogger("benchmark")


class Run(NamedTuple):
    """One conversion: seconds on the clock, of the processor, GiB at the most, hash of its file."""

    clock: float
    processor: float
    peak: float
    written: str


def make_orders(path: Path, interactions: int) -> None:
    """The same orders at every call."""
    rng = np.random.default_rng(1)
    users, items = max(interactions // 15, 1), max(interactions // 60, 1)
    with path.open("w", encoding="ascii") as file:
        file.write("user_id,item_id,rating,timestamp\n")
        for start in range(0, interactions, BLOCK):
            rows = min(BLOCK, interactions - start)
            columns = (
                rng.integers(0, users, rows),
                (rng.random(rows) ** 2 * items).astype(np.int64),  # some are bought more often
                rng.integers(1, 6, rows),
                rng.integers(1_500_000_000, 1_700_000_000, rows),
            )
            orders = zip(*(column.tolist() for column in columns), strict=True)
            lines = (f"u{user},i{item},{stars},{at}\n" for user, item, stars, at in orders)
            file.write("".join(lines))


def code_of(commit: str, folder: Path) -> Path:
    """The repository as it was at `commit`, in `folder`."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def converted(options: list[str], code: Path | None = None) -> tuple[float, Any]:
    """Seconds of the converters, run with these options in the code of a folder, and what the
    process used (`resource.struct_rusage`, peak in KiB on Linux)."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "dataset_converters", *options]
    process = subprocess.Popen(command, cwd=code, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(log)
    return time.perf_counter() - begun, usage


def convert(code: Path, orders: Path) -> Run:
    """Convert the orders by the code in a folder."""
    with tempfile.TemporaryDirectory(dir=orders.parent) as out:
        options = ["--name=made", "--rating=rating", "--interactions", str(orders), "--out", out]
        seconds, usage = converted(["csv", *options], code)
        written = sha256_of(Path(out) / "made" / "made.inter")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, written)


def main() -> None:
    """Make the orders, convert them, remove them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--before", metavar="COMMIT", help="left out: the present code alone")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        orders = folder / "orders.csv"
        make_orders(orders, args.interactions)
        codes = {"now": ROOT}
        if args.before:
            codes[args.before] = code_of(args.before, folder / "before")
        runs: dict[str, list[Run]] = {label: [] for label in codes}
        for _ in range(args.rounds):
            for label, code in codes.items():
                runs[label].append(convert(code, orders))
    report(args.interactions, runs)


def report(interactions: int, runs: dict[str, list[Run]]) -> None:
    """A table, and how many times faster the present code is."""
    if len({run.written for several in runs.values() for run in several}) > 1:
        raise SystemExit("the two wrote different bytes")
    best = {label: Run(*map(min, zip(*several, strict=True))) for label, several in runs.items()}
    names = ["code", "interactions", "clock", "processor", "peak memory"]
    rows = [
        [label, f"{interactions:,}", *(f"{x:.1f} s" for x in run[:2]), f"{run.peak:.2f} GiB"]
        for label, run in best.items()
    ]
    logger.info(markdown_table(names, rows))
    now = best.pop("now")
    for label, then in best.items():
        logger.info(
            "%.1f times faster than %s by the clock, %.1f times by the processor",
            then.clock / now.clock,
            label,
            then.processor / now.processor,
        )


if __name__ == "__main__":
    main()
