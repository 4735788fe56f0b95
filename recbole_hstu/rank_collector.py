"""RecBole's collector of evaluation results, over ranks."""

from __future__ import annotations

import torch
from recbole.evaluator import Collector

from recbole_hstu.evaluation.ranks import target_ranks


class RankCollector(Collector):
    """RecBole's collector, fed from the rank of each row's one target.

    RecBole builds an integer matrix of the catalogue's size for every batch and leaves ties to
    the sort; here `rec.topk` is written straight from the rank.
    """

    def __init__(self, config):
        super().__init__(config)
        self.ranks: list[torch.Tensor] = []
        self.ties: list[torch.Tensor] = []
        self.lists: list[torch.Tensor] = []
        self.partial = False  # some rows had other than one target
        self.list_length = 0  # of the recommendations that are kept, (B, list_length) a batch

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        others = ("rec.meanrank", "rec.score", "data.label")
        one_each = positive_i is not None and len(positive_i) == len(scores_tensor)
        if not one_each or any(map(self.register.need, others)):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            self.partial = True
            return
        rank, ties = target_ranks(scores_tensor, positive_i.to(scores_tensor.device))
        self.ranks.append(rank.cpu())
        self.ties.append(ties.cpu())
        if self.list_length:
            best, items = scores_tensor.topk(self.list_length, dim=-1)
            self.lists.append(items.masked_fill(best == -torch.inf, 0).cpu())
        cut = max(self.topk)
        if self.register.need("rec.topk"):
            hits = torch.zeros(len(rank), cut + 1, dtype=torch.int32)
            hits[:, cut] = 1  # one target a row
            found = torch.nonzero(self.ranks[-1] <= cut).squeeze(1)
            hits[found, self.ranks[-1][found] - 1] = 1
            self.data_struct.update_tensor("rec.topk", hits)
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", scores_tensor.topk(cut, dim=-1).indices)

    def get_data_struct(self):
        """RecBole's, which fails on the counts that some metrics need beside tensors."""
        kept = {k: v for k, v in self.data_struct._data_dict.items() if not torch.is_tensor(v)}
        for key in kept:
            del self.data_struct[key]
        struct = super().get_data_struct()
        for key, value in kept.items():
            struct.set(key, value)
            self.data_struct.set(key, value)
        return struct
