"""Small trained models for the tests of serving."""

from pathlib import Path

import numpy as np
import pandas as pd
from small_data import random_rows, small_options, write_inter

from recbole_hstu.quick_start import run

ITEM_TEXT = {"fields": ["title"]}


def write_items(n_items=30, name="toy", folder="dataset"):
    """An `.item` file with a title an item."""
    words = ["red", "green", "blue", "small", "large", "old", "new", "quick"]
    lines = ["item_id:token\ttitle:token_seq"]
    lines += [f"i{i}\t{words[i % 8]} {words[i // 8]} thing{i % 5}" for i in range(n_items)]
    path = Path(folder) / name / f"{name}.item"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def trained(model, *, dataset="toy", **options):
    """Train a model on the toy data of the working folder; RecBole-like result of `run`."""
    return run(model, dataset, config_dict=small_options(model, **options))


def toy_with_text():
    write_inter(random_rows())
    write_items()


def events(rows=None):
    """The toy events as a long table."""
    table = pd.DataFrame(rows or random_rows(), columns=["user", "item", "time"])
    return table.sort_values("time", kind="stable").reset_index(drop=True)


def all_but_last(table):
    """Every user's history without its last event, and those last events by user."""
    last = ~table.duplicated("user", keep="last")
    return table[~last], table[last].set_index("user")


def metrics_of(lists, targets, k):
    """hit@k, ndcg@k and mrr of long tables of whole rankings."""
    both = lists.merge(targets["item"].rename("target"), left_on="user", right_index=True)
    rank = both[both["item"] == both["target"]].set_index("user")["rank"]
    found = rank.reindex(targets.index).to_numpy(float)
    hit = found <= k
    return {
        f"hit@{k}": hit.mean(),
        f"ndcg@{k}": np.where(hit, 1 / np.log2(found + 1), 0).mean(),
        "mrr": np.where(np.isnan(found), 0, 1 / found).mean(),
    }
