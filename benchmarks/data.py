"""Loading, sorting, splitting and batching sequences: ours against RecBole's own augmentation.

    python benchmarks/data.py [--dataset ml-100k] [--data_path dataset] [--history 50]
    python benchmarks/data.py --synthetic 1800000

Rows are prefixes, as RecBole's sequential models want them, or users, as HSTU does. A process of
its own for each way, alternating; best time, and peak memory above what the imports take. Ours
gathers late, so one epoch's batches of its training loader count too. `--synthetic` makes
interactions of the shape of Amazon's office_products: 223,308 users and 77,551 items for
1.8 million.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from own_process import in_own_process
from peak import peak_mib
from recbole.data.dataset import SequentialDataset

from recbole_hstu.config.config import Config
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.data.sequence_dataset import SequenceDataset

KINDS = {
    "RecBole, prefixes": ("SASRec", SequentialDataset),
    "ours, prefixes": ("SASRec", SequenceDataset),
    "ours, users": ("HSTU", SequenceDataset),
}
FIELDS = ["user_id", "item_id", "timestamp"]
ROUNDS = 2
USERS, ITEMS = 223_308 / 1_800_000, 77_551 / 1_800_000  # an interaction of office_products


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--synthetic", type=int, help="interactions to make instead")
    parser.add_argument("--kind", choices=[*KINDS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.kind:
        sys.stdout.write(json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.synthetic:
            args.dataset, args.data_path = "synthetic", folder
            write_interactions(Path(folder), args.synthetic)
        report(compare(args), args)


def compare(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Best seconds and MiB of every way."""
    best: dict[str, dict[str, float]] = {}
    options = [f"--dataset={args.dataset}", f"--history={args.history}"]
    if args.data_path:
        options.append(f"--data_path={args.data_path}")
    for _ in range(ROUNDS):
        for kind in KINDS:
            new = in_own_process(*options, "--kind", kind)
            old = best.get(kind, new)
            best[kind] = {key: min(old[key], new[key]) for key in new}
    return best


def report(best: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    sys.stdout.write(f"{args.dataset}, history {args.history}\n{'':20}")
    sys.stdout.write(f"{'load':>10}{'split':>10}{'epoch':>10}{'batches':>10}{'peak':>12}\n")
    for kind, cost in best.items():
        seconds = "".join(f"{cost[key]:>8.2f} s" for key in ("load", "split", "epoch"))
        sys.stdout.write(
            f"{kind:20}{seconds}{int(cost['batches']):>10,}{cost['peak']:>8,.0f} MiB\n"
        )


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of loading, of splitting, of one epoch's batches, and how many; peak in MiB."""
    warnings.filterwarnings("ignore")
    options = {"MAX_ITEM_LIST_LENGTH": args.history, "load_col": {"inter": FIELDS}}
    options["prepared"] = "never"  # the second round would map what the first has read
    if args.data_path:
        options["data_path"] = args.data_path
    model, dataset_class = KINDS[args.kind]
    config = Config(model, args.dataset, config_dict=options)
    before = peak_mib()
    moments = [time.perf_counter()]
    dataset = dataset_class(config)
    moments.append(time.perf_counter())
    train = make_loaders(config, dataset)[0]
    moments.append(time.perf_counter())
    batches = sum(1 for _ in train)
    moments.append(time.perf_counter())
    seconds = dict(zip(("load", "split", "epoch"), np.diff(moments).tolist(), strict=True))
    return seconds | {"batches": batches, "peak": peak_mib() - before}


def write_interactions(folder: Path, count: int) -> None:
    """`synthetic.inter`: users of at least five events, popular and rare items, times in ms."""
    generator = np.random.default_rng(0)
    n_users, n_items = int(count * USERS), int(count * ITEMS)
    more = generator.integers(n_users, size=count - 5 * n_users)
    users = np.concatenate([np.repeat(np.arange(n_users), 5), more])
    items = (n_items * generator.random(count) ** 2).astype(np.int64)
    times = generator.integers(1_400_000_000_000, 1_700_000_000_000, size=count)
    place = folder / "synthetic"
    place.mkdir()
    np.savetxt(
        place / "synthetic.inter",
        np.stack([users, items, times], axis=1)[generator.permutation(count)],
        fmt=["u%d", "i%d", "%d"],
        delimiter="\t",
        header="user_id:token\titem_id:token\ttimestamp:float",
        comments="",
    )


if __name__ == "__main__":
    main()
