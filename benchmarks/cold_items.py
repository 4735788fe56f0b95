"""Items that no training has seen: which of them reach the users who took them next.

    python -m dataset_converters amazon2023 --category Electronics_sample --raw RAW
    python benchmarks/cold_items.py --dataset=Electronics_sample

One item in ten, by a hash of its token, is held out: the models train without its events and its
text, and learn of it by `Recommender.add_items`; TIGERSmall and COBRALite know it by the semantic
id that the quantiser of the training gives its text. Judged are the users whose last event is one
of a held-out item: is it among the first k of all items? The other users tell what new items cost
them. The last rows are models that trained with the items, whose last events alone they have not
seen.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_hstu import Recommender
from recbole_hstu.config.config import Config
from recbole_hstu.data.files.atomic_file import read_atomic
from recbole_hstu.data.files.semantic_id_file import codes_by_token, read_quantiser
from recbole_hstu.data.files.side_feature_file import read_text_features
from recbole_hstu.encoders.further_texts import FurtherTexts
from recbole_hstu.quick_start import run
from recbole_hstu.semantic_ids.further_ids import further_ids
from recbole_hstu.semantic_ids.make_ids import make_ids
from recbole_hstu.serving.events_of_users import read_events

KS = (10, 50)
STAND_INS = ("zero", "mean", "neighbours")
WITH_IDS = ("TIGERSmall", "COBRALite")


def is_new(token: str) -> bool:
    return int(hashlib.sha256(token.encode()).hexdigest(), 16) % 10 == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="Electronics_sample")
    parser.add_argument("--data_path", default="dataset", help="folder of the data sets")
    parser.add_argument("--work", default="cold_items", help="folder for copies, logs, checkpoints")
    parser.add_argument("--fields", default="title,categories,store", help="of the item text")
    parser.add_argument("--fusion", default="sum")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    source = Path(given.data_path).resolve() / given.dataset
    Path(given.work).mkdir(parents=True, exist_ok=True)
    os.chdir(given.work)
    write_copies(source)
    Experiment(source.name, given.fields.split(","), given.fusion, given.epochs).report()


def write_copies(source: Path) -> None:
    """The data set as it is, and one without the held-out items."""
    for name, kept in ((source.name, lambda token: True), (f"{source.name}_known", is_known)):
        Path("dataset", name).mkdir(parents=True, exist_ok=True)
        for kind in ("inter", "item"):
            header, *lines = (source / f"{source.name}.{kind}").read_text("utf-8").splitlines()
            column = [field.partition(":")[0] for field in header.split("\t")].index("item_id")
            lines = [header, *(line for line in lines if kept(line.split("\t")[column]))]
            Path("dataset", name, f"{name}.{kind}").write_text("\n".join(lines) + "\n", "utf-8")


def is_known(token: str) -> bool:
    return not is_new(token)


class Experiment:
    """Histories without their last events, those events, and the new items' fields."""

    def __init__(self, name: str, fields: list[str], fusion: str, epochs: int):
        self.name, self.fields = name, fields
        self.options = {
            **{"protocol": "paper", "mask_seen": True, "epochs": epochs, "show_progress": False},
            **{"item_text": {"fields": fields}, "seed": 1},
        }
        self.fusion = fusion
        config = Config("HSTUText", name, config_dict=self.options)
        events = read_events(config, f"dataset/{name}")
        last = ~events.duplicated("user", keep="last")
        targets, self.histories = events[last].set_index("user"), events[~last]
        self.targets = targets[targets.index.isin(self.histories["user"])]
        items = read_atomic(Path("dataset", name, f"{name}.item"), fields=["item_id", *fields])
        items = items[items["item_id"].map(is_new)].fillna("").set_index("item_id")
        self.new_items: dict[str, Any] = items.to_dict("index")

    def trained(self, model: str, name: str, **options: Any) -> Path:
        return run(model, name, config_dict={**self.options, **options})["checkpoint"]

    def ids(self, name: str) -> Path:
        """The semantic ids of the items of a data set, by their texts."""
        return make_ids(name, None, {key: self.options[key] for key in ("item_text", "seed")})[0]

    def codes_of_new(self, file: Path) -> dict[str, list[int]]:
        """The new items' semantic ids by the quantiser of a file of the others. Left out is an item
        that stands behind more of one id than the training knows: it cannot be generated, and is
        left out of the histories, too."""
        made_from = read_quantiser(file)[1]["text_features"]["file"]
        features = read_text_features(file.with_name(made_from))
        encoder = FurtherTexts(features.path, {"text_encoder": "lsa"})
        texts = [encoder.item_text.join(list(row.values())) for row in self.new_items.values()]
        vectors = np.concatenate([features.vectors, encoder.encode(texts)])
        tokens = [*features.tokens, *self.new_items]
        ids = further_ids(file, tokens, vectors)[len(features.tokens) :]
        known = max(codes[-1] for codes in codes_by_token(file).values())
        found = {
            token: codes
            for token, codes in zip(self.new_items, ids.tolist(), strict=True)
            if codes[-1] <= known
        }
        sys.stderr.write(f"{len(self.new_items) - len(found):,} new items cannot be generated\n")
        return found

    def by_ids(self) -> dict[str, pd.DataFrame]:
        """What the models with semantic ids recommend."""
        file = self.ids(f"{self.name}_known")
        self.ids(self.name)
        new = {"TIGERSmall": self.codes_of_new(file), "COBRALite": self.new_items}
        lists = {}
        for model in WITH_IDS:
            rec = Recommender.load(self.trained(model, f"{self.name}_known"))
            rec.add_items(new[model])
            lists[f"{model}, new items added"] = self.recommended(rec)
        for model in WITH_IDS:
            whole = Recommender.load(self.trained(model, self.name))
            lists[f"{model}, trained with the items"] = self.recommended(whole)
        return lists

    def report(self) -> None:
        known = f"{self.name}_known"
        file = self.trained("HSTUText", known, fusion=self.fusion)
        lists = {"popularity, the new items' events counted": self.popular()}
        lis = Recommender.load(self.trained("LIS", known))
        lis.add_items(self.new_items)
        lists["last-item search (LIS)"] = self.recommended(lis)
        for kind in STAND_INS:
            rec = Recommender.load(file)
            rec.add_items(self.new_items, kind)
            lists[f"HSTUText, new items added, `{kind}`"] = self.recommended(rec)
        whole = Recommender.load(self.trained("HSTUText", self.name, fusion=self.fusion))
        lists["HSTUText, trained with the items"] = self.recommended(whole)
        lists |= self.by_ids()
        new_targets = int(self.targets["item"].map(is_new).sum())
        sys.stdout.write(
            f"{len(whole.items) - 1:,} items, {len(self.new_items):,} of them new; "
            f"{new_targets:,} users go on to a new one, {len(self.targets) - new_targets:,} do not"
            "\n\n| | hit@10, new | hit@50, new | hit@10, others | new among 50 |\n"
            + "|---" * 5
            + "|\n"
        )
        for row, table in lists.items():
            sys.stdout.write(f"| {row} | {self.figures(table)} |\n")

    def recommended(self, rec: Recommender) -> pd.DataFrame:
        at = self.targets["time"] if rec.needs_time else None
        return rec.recommend(self.histories, k=max(KS), at=at, on_unknown="warn")

    def popular(self) -> pd.DataFrame:
        """The items of most events, but for those of the history, for every user."""
        order = self.histories["item"].value_counts(sort=False).sort_values(ascending=False)
        seen = self.histories.groupby("user")["item"].agg(set)
        longest = max(map(len, seen))
        top = order.index[: max(KS) + longest].tolist()
        rows = {user: [item for item in top if item not in items] for user, items in seen.items()}
        table = pd.DataFrame(
            [(user, item) for user, items in rows.items() for item in items[: max(KS)]],
            columns=["user", "item"],
        )
        return table.assign(rank=table.groupby("user").cumcount() + 1)

    def figures(self, table: pd.DataFrame) -> str:
        target = table["user"].map(self.targets["item"])
        rank = table[table["item"] == target].set_index("user")["rank"]
        rank = rank.reindex(self.targets.index).fillna(np.inf)
        new = self.targets["item"].map(is_new)
        shares = [*((rank[new] <= k).mean() for k in KS), (rank[~new] <= KS[0]).mean()]
        return " | ".join(
            [
                *(f"{share:.4f}".removeprefix("0") for share in shares),
                f"{table['item'].map(is_new).mean():.0%}",
            ]
        )


if __name__ == "__main__":
    main()
