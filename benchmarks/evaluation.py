"""From scores to metrics, all of a test after the forward pass: RecBole's collector against ours.

    python benchmarks/evaluation.py [--users 57439] [--items 24587] [--topk 200] [--device cpu]

On the CPU, then on a GPU where there is one, unless --device names one of them. The same scores,
masks and metrics in a process of its own for each, alternating; best time, peak memory above the
scores themselves. The metrics of both are compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import device_option
import torch
from device_option import wait_for
from own_process import in_own_process
from peak import peak_mib
from recbole.evaluator import Collector, Evaluator

from recbole_hstu.config.config import Config
from recbole_hstu.evaluation.collector import RankCollector, RankEvaluator

KINDS = {"RecBole": (Collector, Evaluator), "recbole_hstu": (RankCollector, RankEvaluator)}
ROUNDS, HISTORY = 2, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=57_439)
    parser.add_argument("--items", type=int, default=24_587)
    parser.add_argument("--topk", type=int, default=200)
    parser.add_argument("--batch", type=int, default=1024)
    device_option.add_option(parser)
    parser.add_argument("--kind", choices=[*KINDS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.kind:
        sys.stdout.write(json.dumps(measure(args)))
        return
    for device in device_option.asked(args):
        compare(args, device)


def compare(args: argparse.Namespace, device: str) -> None:
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for kind in KINDS:
            own = [f"--kind={kind}", f"--device={device}"]
            new = in_own_process(*sys.argv[1:], *own)
            old = best.get(kind, new)
            best[kind] = new | {key: min(old[key], new[key]) for key in ("seconds", "MiB")}
    theirs, ours = best["RecBole"], best["recbole_hstu"]
    if any(abs(theirs["metrics"][k] - ours["metrics"][k]) > 2e-4 for k in theirs["metrics"]):
        raise SystemExit(f"the metrics differ: {theirs['metrics']} and {ours['metrics']}")
    sys.stdout.write(
        f"{args.users:,} users, {args.items:,} items, topk up to {args.topk}, {device}\n"
    )
    for key in ("seconds", "MiB"):
        sys.stdout.write(
            f"{key:8} RecBole {theirs[key]:8.1f}   ours {ours[key]:8.1f}   "
            f"{theirs[key] / ours[key]:.1f} times less\n"
        )


def measure(args: argparse.Namespace) -> dict[str, object]:
    options = {"topk": [10, 50, args.topk], "metrics": ["Hit", "NDCG", "MRR"]}
    options |= {"metric_decimal_place": 6, "use_gpu": args.device == "cuda"}
    config = Config("SASRec", "ml-100k", config_dict=options)
    collector, evaluator = (cls(config) for cls in KINDS[args.kind])
    collector.list_length = 10  # as in a test, which keeps lists, too
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(args.batch, args.items, generator=generator).to(args.device)
    history = torch.randint(1, args.items, (args.batch, HISTORY), generator=generator)
    seen = (torch.arange(args.batch).repeat_interleave(HISTORY), history.flatten())
    before = peak_mib(args.device)
    seconds = 0.0
    for start in range(0, args.users, args.batch):
        rows = min(args.batch, args.users - start)
        targets = torch.randint(1, args.items, (rows,), generator=generator)
        # A rank of about 1 to V, many of them near the top: cubed, as real targets are not random.
        values = 1 - torch.rand(rows, generator=generator) ** 3
        scores[torch.arange(rows), targets] = values.to(args.device)
        inside = seen[0] < rows
        wait_for(args.device)
        started = time.perf_counter()
        scores[:rows, 0] = -torch.inf
        kept = scores[seen[0][inside], seen[1][inside]]
        scores[seen[0][inside], seen[1][inside]] = -torch.inf
        collector.eval_batch_collect(scores[:rows], None, torch.arange(rows), targets)
        scores[seen[0][inside], seen[1][inside]] = kept
        wait_for(args.device)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    metrics = evaluator.evaluate(collector.get_data_struct())
    seconds += time.perf_counter() - started
    peak = peak_mib(args.device) - before
    return {"seconds": seconds, "MiB": peak, "metrics": dict(metrics)}


if __name__ == "__main__":
    main()
