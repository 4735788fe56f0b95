"""The approximate index beside the exact search: seconds a list, and how much of it is found.

    python benchmarks/approximate.py --items=1000000
    python benchmarks/approximate.py --checkpoint=saved/HSTU-....pth

Without a checkpoint the items are drawn around 2,000 centres, since vectors without any structure,
which no training gives, have no cells; a user's vector is an item's with as much noise. With a
checkpoint a user's vector is that of a drawn history of 10 items.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import numpy as np
import torch
import torch.nn.functional as F
from serving import recommender

from recbole_hstu.serving.approximate_index import ApproximateIndex
from recbole_hstu.serving.recommender import Recommender

write = sys.stdout.write


def drawn(n_items: int, rows: int) -> tuple[Recommender, torch.Tensor]:
    """A recommender of items around centres, and users' vectors."""
    rec = recommender(n_items, 50)
    scorer: Any = rec.scorer
    draw = torch.Generator().manual_seed(0)
    width = scorer.candidates.shape[1]
    centres = torch.randn(2000, width, generator=draw)
    own = centres[torch.randint(2000, (scorer.n_items,), generator=draw)]
    noise = torch.randn(own.shape, generator=draw)
    scorer.candidates = F.normalize(own + noise, dim=1)
    chosen = torch.randint(1, scorer.n_items, (rows,), generator=draw)
    users = scorer.candidates[chosen] * width**0.5
    return rec, F.normalize(users + torch.randn(users.shape, generator=draw), dim=1)


def trained(checkpoint: str, rows: int) -> tuple[Recommender, torch.Tensor]:
    """A checkpoint's recommender, and the vectors of users with drawn histories."""
    rec = Recommender.load(checkpoint)
    draw = np.random.default_rng(0)
    items = rec.items[1:].to_numpy()
    histories = [
        [(str(item), 10**9 + 3600 * n) for n, item in enumerate(draw.choice(items, 10))]
        for _ in range(rows)
    ]
    given = rec.read(histories)
    with torch.inference_mode():
        times = rec.request_times(10**9 + 10**6, given, given.users) if rec.needs_time else None
        return rec, rec.scorer.prepare(rec.batch(given, times, 0, rows))


@torch.inference_mode()
def measure(rec: Recommender, users: torch.Tensor, at_once: int, k: int) -> tuple[float, Any]:
    """Milliseconds of a call for `at_once` users, the median; all ids (rows, k)."""
    seconds, found = [], []
    for part in users.split(at_once):
        started = time.perf_counter()
        found.append(rec.best(part, k, None)[1])
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds)), torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--checkpoint")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--probes", default="8,32,128")
    given = parser.parse_args()
    if given.rows < 32:
        raise SystemExit(f"--rows={given.rows}: 32 users are asked for at once; give 32 or more")
    rec, users = (
        trained(given.checkpoint, given.rows)
        if given.checkpoint
        else drawn(given.items, given.rows)
    )
    write(f"{rec.scorer.n_items - 1:,} items\n\n")
    write("| search | made in s | 1 user, ms | 32 users, ms | recall |\n" + "|---" * 5 + "|\n")
    one, exact = measure(rec, users, 1, given.k)
    write(f"| exact | | {one:.2f} | {measure(rec, users, 32, given.k)[0]:.2f} | 1 |\n")
    started = time.perf_counter()
    index = rec.index = ApproximateIndex(rec)
    made = time.perf_counter() - started
    for index.probes in map(int, given.probes.split(",")):
        one, found = measure(rec, users, 1, given.k)
        same = (found.unsqueeze(2) == exact.unsqueeze(1)).any(2).float().mean()
        many = measure(rec, users, 32, given.k)[0]
        write(f"| {index.probes} probes | {made:.1f} | {one:.2f} | {many:.2f} | {same:.3f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
