"""Latency of recommendations: items, length of history, cached or not, clients, threads.

    python benchmarks/serving.py --items=10000,1000000 --histories=10,50,200,1000 --threads=1,2

The weights are drawn, not trained, which changes no time. "clients" many requests come at once and
are computed together, as the service does; a request's latency is that of its batch. "peak" is what
the requests take above the model, the items and the kept histories (Linux).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import numpy as np
import torch
from peak import peak_mib, reset_peak

from recbole_hstu.config.config import Config
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.serving.cached.history_cache import HistoryCache
from recbole_hstu.serving.dataset_of_checkpoint import DatasetOfCheckpoint
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.serving.saved_model import SavedModel, saved_config

START = 1_600_000_000


def recommender(n_items: int, history: int) -> Recommender:
    """An HSTU with HSTU-BLaIR's sizes and drawn weights."""
    options = {"MAX_ITEM_LIST_LENGTH": history, "show_progress": False}
    config = saved_config(
        Config("HSTU", "ml-100k", config_dict={**options, **SIZES}).plain(), "cpu"
    )
    tokens = ["[PAD]", *(f"i{i}" for i in range(n_items))]
    torch.manual_seed(0)
    dataset = DatasetOfCheckpoint(config, tokens, ["[PAD]"], None)
    model = HSTU(config, dataset).eval().requires_grad_(False)
    return Recommender(SavedModel(Path("drawn"), config, model, tokens, ["[PAD]"], {}))


SIZES = {"hidden_size": 64, "n_layers": 4, "n_heads": 4, "qk_size": 16, "v_size": 16}


def measure(rec: Recommender, history: int, clients: int, cached: bool, rounds: int):
    """Seconds of each round, each a batch of `clients` requests for 20 items; bytes a user, MiB."""
    rng = np.random.default_rng(0)
    n_users = max(clients, 64)
    items = rng.integers(1, rec.scorer.n_items, (n_users, history)).astype(np.int64)
    times = np.sort(rng.integers(START, START + 10**8, (n_users, history)), axis=1)
    cache = HistoryCache(rec, max_bytes=2 * n_users * HistoryCache(rec, 1 << 30).bytes_a_user)
    for user in range(n_users):
        cache.store.put(user, items[user], times[user])
    at = START + 10**8
    if cached:
        for user in range(0, n_users, clients):
            cache.recommend(range(user, min(user + clients, n_users)), k=20, at=at)
    seconds = []
    before = reset_peak()
    for number in range(rounds):
        users = [(number * clients + i) % n_users for i in range(clients)]
        if not cached:
            cache.store.settled[cache.store.places(users)] = 0
        started = time.perf_counter()
        cache.recommend(users, k=20, at=at + number)
        seconds.append(time.perf_counter() - started)
    return np.array(seconds), cache.bytes_a_user, peak_mib() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("items", "10000,1000000"),
        ("histories", "10,50,200,1000"),
        ("clients", "1,32"),
        ("threads", "1,2"),
    ):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    several = {k: [int(n) for n in v.split(",")] for k, v in vars(given).items() if k != "rounds"}
    write = sys.stdout.write
    write("| items | history | cached | clients | threads | p50 ms | p95 ms | p99 ms |")
    write(" requests a second | bytes a user | peak MiB |\n" + "|---" * 11 + "|\n")
    for n_items in several["items"]:
        for history in several["histories"]:
            rec = recommender(n_items, history)
            for threads in several["threads"]:
                torch.set_num_threads(threads)
                for clients in several["clients"]:
                    for cached in (False, True):
                        found, size, peak = measure(rec, history, clients, cached, given.rounds)
                        p50, p95, p99 = 1000 * np.percentile(found, [50, 95, 99])
                        rate = clients * len(found) / found.sum()
                        write(
                            f"| {n_items:,} | {history} | {'yes' if cached else 'no'} | {clients} "
                            f"| {threads} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {rate:,.0f} "
                            f"| {size:,} | {peak:,.0f} |\n"
                        )
                        sys.stdout.flush()


if __name__ == "__main__":
    main()
