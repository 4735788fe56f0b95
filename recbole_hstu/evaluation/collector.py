"""RecBole's collector and evaluator of results, over ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.register import metrics_dict

from recbole_hstu.data.evaluation_loaders import OF_SCORES
from recbole_hstu.distributed import processes
from recbole_hstu.evaluation.metrics import KINDS, user_metric
from recbole_hstu.evaluation.ranks import target_ranks
from recbole_hstu.evaluation.score_blocks import ScoreBlocks
from recbole_hstu.evaluation.top_k import best_of_block


class _OfScores:
    """RecBole's register as its collector asks it, of these needs alone."""

    def __init__(self, register: Any):
        self._register = register

    def need(self, key: str) -> bool:
        return key in OF_SCORES and self._register.need(key)


class RankCollector(Collector):
    """RecBole's collector, fed from the rank of each row's one target.

    RecBole builds an integer matrix of the catalogue's size for every batch and leaves ties to
    the sort; here a rank a row is kept, and `rec.topk` is written from it where a metric asks
    for it.
    """

    register: Any

    def __init__(self, config):
        super().__init__(config)
        self.ranks: list[torch.Tensor] = []
        self.ties: list[torch.Tensor] = []
        self.lists: list[torch.Tensor] = []
        self.partial = False  # some rows had other than one target
        self.list_length = 0  # of the recommendations that are kept, (B, list_length) a batch
        self._barred: torch.Tensor | None = None  # (K,) items that are no candidates
        self._written = 0  # batches of ranks that stand in rec.topk
        self._needs_hits = any(
            "rec.topk" in metrics_dict[name].metric_need and name not in KINDS
            for name in (str(metric).lower() for metric in config["metrics"])
        )

    def data_collect(self, train_data):
        """RecBole's, and with `candidates: training` which items training does not know."""
        super().data_collect(train_data)
        if self.config["candidates"] == "training":
            dataset = train_data._dataset
            barred = torch.ones(dataset.item_num, dtype=torch.bool)
            barred[list(dataset.counter(dataset.iid_field))] = False
            self._barred = barred.nonzero().squeeze(1)

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        if isinstance(scores_tensor, ScoreBlocks):
            self._collect_blocks(scores_tensor, positive_i)
            return
        if self._barred is not None:
            self._barred = self._barred.to(scores_tensor.device)
            scores_tensor.index_fill_(1, self._barred, -torch.inf)
        one_each = positive_i is not None and len(positive_i) == len(scores_tensor)
        if self.partial or not one_each:
            self._write_hits()
            self.partial = True
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            self._forget_barred_hits(scores_tensor)
            return
        if any(map(self.register.need, OF_SCORES)):
            whole, self.register = self.register, _OfScores(self.register)
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            self.register = whole
        rank, ties = target_ranks(scores_tensor, positive_i.to(scores_tensor.device))
        self.ranks.append(rank.cpu())
        self.ties.append(ties.cpu())
        if self.list_length:
            best, items = best_of_block(scores_tensor, self.list_length)
            self.lists.append(items.masked_fill(best == -torch.inf, 0).cpu())
        if self.register.need("rec.items"):
            _, items = best_of_block(scores_tensor, max(self.topk))
            self.data_struct.update_tensor("rec.items", items)

    def _forget_barred_hits(self, scores: torch.Tensor) -> None:
        """RecBole's lists may hold items of -inf, where a row has fewer candidates."""
        if self.register.need("rec.topk"):
            hits = self.data_struct.get("rec.topk")[-len(scores) :]
            n_candidates = (scores > -torch.inf).sum(1, keepdim=True).to(hits.device)
            hits[:, :-1][torch.arange(max(self.topk), device=hits.device) >= n_candidates] = 0

    def _collect_blocks(self, scores: ScoreBlocks, targets: torch.Tensor) -> None:
        if self._barred is not None:
            scores.barred = self._barred = self._barred.to(scores.users.device)
        longest = max(self.topk) if self.register.need("rec.items") else 0
        k = max(self.list_length, longest)
        (rank, ties), items = scores.judged(targets.to(scores.users.device), k)
        self.ranks.append(rank.cpu())
        self.ties.append(ties.cpu())
        if self.list_length:
            self.lists.append(items[:, : self.list_length].cpu())
        if longest:
            self.data_struct.update_tensor("rec.items", items[:, :longest])

    def _write_hits(self) -> None:
        """`rec.topk`: for every rank a row of RecBole's hits within the longest cut-off."""
        cut = max(self.topk)
        for rank in self.ranks[self._written :]:
            hits = torch.zeros(len(rank), cut + 1, dtype=torch.int32)
            hits[:, cut] = 1  # one target a row
            found = torch.nonzero(rank <= cut).squeeze(1)
            hits[found, rank[found] - 1] = 1
            self.data_struct.update_tensor("rec.topk", hits)
        self._written = len(self.ranks)

    def get_data_struct(self):
        """RecBole's, which fails on the counts that some metrics need beside tensors; `rec.rank`
        (N,) are the ranks, if every row had one target."""
        if self._needs_hits:
            self._write_hits()
        kept = {k: v for k, v in self.data_struct._data_dict.items() if not torch.is_tensor(v)}
        for key in kept:
            del self.data_struct[key]
        struct = super().get_data_struct()
        for key, value in kept.items():
            struct.set(key, value)
            self.data_struct.set(key, value)
        if self.ranks and not self.partial:
            struct.set("rec.rank", torch.cat(self.ranks))
        return struct

    def clear(self) -> None:
        """Forget the rows of the last evaluation."""
        self.ranks, self.ties, self.lists = [], [], []
        self.partial, self._written = False, 0


class SharedCollector(RankCollector):
    """`RankCollector` over the rows of all processes, in the order that one process has them."""

    shared = False  # whether each process has seen rows of its own

    def get_data_struct(self):
        if self.shared:
            if any(processes.gather(self.partial)):
                self._write_hits()
                self.partial = True
            found = self.data_struct._data_dict.items()
            own = {key: value.cpu() for key, value in found if _of_rows(key, value)}
            lists = (self.ranks, self.ties, self.lists)
            everybody = processes.gather((own, *lists))
            for key in own:
                self.data_struct.set(key, torch.cat([struct[key] for struct, *_ in everybody]))
            _, ranks, ties, kept = zip(*everybody, strict=True)
            self.ranks, self.ties, self.lists = (
                [tensor for part in parts for tensor in part] for parts in (ranks, ties, kept)
            )
            self._written = len(self.ranks) if self.partial else 0
        return super().get_data_struct()


def _of_rows(key: str, value: Any) -> bool:
    return torch.is_tensor(value) and (key.startswith("rec.") or key == "data.label")


class RankEvaluator(Evaluator):
    """RecBole's evaluator; what follows from ranks is computed from them, by the same formulas
    and rounded alike, without a row of `topk` numbers a user and metric."""

    def evaluate(self, dataobject):
        ranks = dataobject.get("rec.rank").numpy() if "rec.rank" in dataobject else None
        result = {}
        for name in self.metrics:
            if ranks is None or name not in KINDS:
                result.update(self.metric_class[name].calculate_metric(dataobject))
                continue
            for k in self.config["topk"]:
                value = float(np.mean(user_metric(ranks, f"{name}@{k}")))
                result[f"{name}@{k}"] = round(value, self.config["metric_decimal_place"])
        return result
