"""Small data sets on disk and a configuration for them."""

from pathlib import Path

import numpy as np

from recbole_hstu.config.config import Config
from recbole_hstu.training import checkpoint

# Sizes for which a model trains in a second.
SMALL = {
    "MAX_ITEM_LIST_LENGTH": 8,
    "hidden_size": 16,
    "n_layers": 1,
    "n_heads": 2,
    "qk_size": 8,
    "v_size": 8,
    "num_negatives": 16,
    "epochs": 2,
    "topk": [5],
    "valid_metric": "NDCG@5",
    "show_progress": False,
}


def write_inter(rows, name="toy", folder="dataset", header=None):
    """Write (user, item, time) rows as an atomic file; returns the folder of data sets."""
    path = Path(folder) / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header or "user_id:token\titem_id:token\ttimestamp:float"]
    lines += ["\t".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path.parent.parent


def random_rows(n_users=40, n_items=30, seed=0, first_time=1_600_000_000_000):
    """Users of 5 to 14 events at increasing millisecond times."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        length = int(rng.integers(5, 15))
        times = first_time + np.sort(rng.integers(0, 10**9, length))
        items = rng.choice(n_items, length, replace=False)
        rows += [(f"u{user}", f"i{item}", time) for item, time in zip(items, times, strict=True)]
    return rows


def small_config(model="HSTU", dataset="toy", **options):
    kept = {k: v for k, v in SMALL.items() if model.startswith("HSTU") or k not in _OWN}
    return Config(model, dataset, config_dict={**kept, **options})


_OWN = {"hidden_size", "n_layers", "n_heads", "qk_size", "v_size", "num_negatives"}


def small_options(model="HSTU", **options):
    """Options for `run` and the command."""
    kept = {k: v for k, v in SMALL.items() if model.startswith("HSTU") or k not in _OWN}
    return {**kept, **options}


def files():
    return sorted(p for p in Path().rglob("*") if p.is_file())


def command(*arguments, model="HSTU", dataset="toy", **options):
    given = small_options(model, **options)
    line = ["run", f"--model={model}", f"--dataset={dataset}"]
    return [*line, *(f"--{key}={value}" for key, value in given.items()), *arguments]


def weights(file):
    return checkpoint.load_checkpoint(file)["state_dict"]
