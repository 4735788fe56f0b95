"""Loading, sorting and splitting sequences: ours against RecBole's own augmentation.

    python benchmarks/data.py [--dataset ml-100k] [--data_path dataset] [--history 50]

The same configuration in a process of its own for each, alternating; best time, peak memory above
what the imports take. Ours is measured with one epoch's batches gathered, since it gathers late.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings

from peak import peak_mib
from recbole.data.dataset import SequentialDataset

from recbole_hstu.config import Config
from recbole_hstu.data.sequence_dataset import SequenceDataset

KINDS = {"RecBole": SequentialDataset, "recbole_hstu": SequenceDataset}
BATCH, ROUNDS = 2048, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--kind", choices=[*KINDS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.kind:
        sys.stdout.write(json.dumps(measure(args)))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for kind in KINDS:
            command = [sys.executable, __file__, *sys.argv[1:], "--kind", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            new = json.loads(done.stdout.splitlines()[-1])
            old = best.get(kind, new)
            best[kind] = {key: min(old[key], new[key]) for key in new}
    theirs, ours = best["RecBole"], best["recbole_hstu"]
    sys.stdout.write(f"{args.dataset}, history {args.history}, prefix rows\n")
    for key, unit in (("load", "s"), ("build", "s"), ("batches", "s"), ("peak", "MiB")):
        ratio = theirs[key] / max(ours[key], 1e-9)
        sys.stdout.write(
            f"{key:8} RecBole {theirs[key]:8.2f} {unit}   ours {ours[key]:8.2f} {unit}   "
            f"{ratio:.1f} times less\n"
        )


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of loading, of building the split, of one epoch's batches; peak memory in MiB."""
    warnings.filterwarnings("ignore")
    options = {"MAX_ITEM_LIST_LENGTH": args.history}
    if args.data_path:
        options["data_path"] = args.data_path
    config = Config("SASRec", args.dataset, config_dict=options)
    before = peak_mib()
    started = time.perf_counter()
    dataset = KINDS[args.kind](config)
    loaded = time.perf_counter()
    train = dataset.build()[0]
    built = time.perf_counter()
    for start in range(0, len(train), BATCH):
        train[list(range(start, min(start + BATCH, len(train))))]
    done = time.perf_counter()
    peak = peak_mib() - before
    return {
        "load": loaded - started,
        "build": built - loaded,
        "batches": done - built,
        "peak": peak,
    }


if __name__ == "__main__":
    main()
