"""COBRA, lite: every event is a sparse id and then a dense vector, in one causal decoder.

Sparse Meets Dense: Unified Generative Recommendations with Cascaded Sparse-Dense Representations
(Yang et al., 2025), https://arxiv.org/abs/2503.02453. Lite, because the dense vectors are frozen
text vectors behind a learned projection; the paper trains the text encoder, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import nn

from recbole_hstu.config.config import option
from recbole_hstu.data.files.semantic_id_file import semantic_ids_of
from recbole_hstu.data.files.side_feature_file import all_alike
from recbole_hstu.layers.blocks.causal_decoder import CausalDecoder
from recbole_hstu.layers.blocks.hstu_block import dropout
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.items.item_encoder import check_text_hash
from recbole_hstu.layers.items.semantic_codes import SemanticCodes
from recbole_hstu.layers.items.sparse_ids import SparseIds
from recbole_hstu.layers.losses import l2_normalise
from recbole_hstu.model.parts.text_model import TextModel
from recbole_hstu.support.errors import InputError

# Weights of attention that exist at once while ids are followed: 64 MiB.
_WEIGHTS = 1 << 24


class COBRALite(TextModel, SequentialRecommender):
    """Predicts the sparse id of the next item, then, knowing that id, its dense vector.

        x = id_1, v_1, id_2, v_2, ..;  id_t the vector of a sparse id, v_t = W e_text
        p(id | x)          softmax of a linear head after v_t
        p(item | id, x)    softmax of psi * cos(query after id, e) over the items of the id
        query              direction of e_last + U h, of the last item's text and the state after id

    An item's score is the logarithm of the product (BeamFusion), the first softmax sharpened by
    tau. Training adds cross-entropy over the ids and a contrast of the dense query with the items
    of the batch. Options: `properties/model/COBRALite.yaml`.

    Raises:
        InputError: no semantic ids or fewer levels than `id_levels`, no text vectors or vectors
            that are all alike, heads that do not divide `hidden_size`.
    """

    input_type = InputType.POINTWISE
    sequence_view = "user"  # one row a user, a loss at every position
    text: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        ablation = option(config, "ablation")
        self.with_ids, self.with_dense = ablation != "without_id", ablation != "without_dense"
        self.n_kinds = self.with_ids + self.with_dense  # tokens an event
        hidden_size, self.dropout = option(config, "hidden_size"), option(config, "dropout_prob")
        self.temperature = option(config, "temperature")
        self.mask_seen = bool(config["mask_seen"])
        self.tau, self.psi = option(config, "fusion_tau"), option(config, "fusion_psi")
        self.positions = _normal(self.max_seq_length + 1, hidden_size)
        self.kinds = _normal(self.n_kinds, hidden_size)
        if self.with_ids:
            self._build_sparse(config, dataset, hidden_size)
            beam = self.ids.n_ids if option(config, "decode") == "exact" else config["beam_size"]
            self.width = 1 if ablation == "without_fusion" else min(beam, self.ids.n_ids)
        if self.with_dense:
            self._build_dense(config, dataset, hidden_size)
        shape = {"hidden_size": hidden_size, "dropout": self.dropout}
        shape |= {"n_heads": option(config, "n_heads"), "inner_size": option(config, "inner_size")}
        self.n_heads = shape["n_heads"]
        self.decoder = CausalDecoder(n_layers=option(config, "n_layers"), **shape)

    def _build_sparse(self, config, dataset, hidden_size: int) -> None:
        ids, n_levels = semantic_ids_of(config, dataset), option(config, "id_levels")
        if n_levels > len(ids.level_sizes):
            raise InputError(
                f"id_levels: {n_levels} is more than the {len(ids.level_sizes)} levels of "
                f"semantic_ids: {config['semantic_ids']}"
            )
        self.semantic_ids = SemanticCodes(ids)
        self.ids = SparseIds(ids.codes, n_levels)
        self.id_vectors = _normal(self.ids.n_ids, hidden_size)
        self.sparse_head = nn.Linear(hidden_size, self.ids.n_ids)

    def _build_dense(self, config, dataset, hidden_size: int) -> None:
        text, self.text_hash = self.text_vectors(config, dataset)
        text = text.float()
        if all_alike(l2_normalise(text[1:]).numpy()):
            raise InputError(
                f"{config['text_features_file']}: the text vectors of all {len(text) - 1:,} items "
                "are alike, so that none can be told from another; look at the item text"
            )
        self.register_buffer("text", text, persistent=False)
        self.projection = nn.Linear(text.shape[1], hidden_size)
        self.dense_head = nn.Linear(hidden_size, text.shape[1])
        nn.init.zeros_(self.dense_head.weight)  # untrained, the query is the last item's text
        nn.init.zeros_(self.dense_head.bias)

    def calculate_loss(self, interaction) -> torch.Tensor:
        """Cross-entropy of the next ids and in-batch contrast of the next dense vectors, each a
        mean over all positions."""
        history, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        items = F.pad(history, (0, 1))
        items = items.scatter(1, lengths.unsqueeze(1), interaction[self.ITEM_ID].unsqueeze(1))
        packing = Packing(self.n_kinds * lengths + (self.n_kinds - 1))  # the target's id is read
        hidden = self.decoder(self._input(items, packing), packing)
        step = packing.positions // self.n_kinds
        whole = packing.positions % self.n_kinds == self.n_kinds - 1  # another item comes next
        following = items[packing.source[whole], step[whole] + 1]
        loss = hidden.new_zeros(())
        if self.with_ids:
            loss = F.cross_entropy(self.sparse_head(hidden[whole]), self.ids.of_item[following])
        if self.with_dense:
            at, last = whole, step[whole]
            if self.with_ids:
                at = ~whole & (step > 0)
                last = step[at] - 1
            row = packing.source[at]
            query = self._query(hidden[at], items[row, last])
            loss = loss + self._contrast(query, items[row, last + 1], row, items)
        return loss

    def _contrast(self, query, targets: torch.Tensor, row: torch.Tensor, items: torch.Tensor):
        """Targets (T,) of rows (T,) against all items of the batch (B, L); where `mask_seen` leaves
        the items of a history out of its ranking, they are no negatives of their row either."""
        distinct = torch.unique(F.pad(items.flatten(), (1, 0)))  # the padding comes first
        logits = query @ l2_normalise(self.text[distinct]).t() / self.temperature
        target = torch.searchsorted(distinct, targets)
        own = torch.zeros(len(items), len(distinct), dtype=torch.bool, device=items.device)
        if self.mask_seen:
            own.scatter_(1, torch.searchsorted(distinct, items), True)
        own[:, 0] = True
        left_out = own[row].scatter(1, target.unsqueeze(1), False)
        return F.cross_entropy(logits.masked_fill(left_out, -torch.inf), target)

    def _input(self, items: torch.Tensor, packing: Packing) -> torch.Tensor:
        """(T, D) tokens of items (B, L)."""
        step, kind = packing.positions // self.n_kinds, packing.positions % self.n_kinds
        item = items[packing.source, step]
        parts = []
        if self.with_ids:
            parts.append(F.embedding(self.ids.of_item[item], self.id_vectors))
        if self.with_dense:
            parts.append(self.projection(self.text[item]))
        x = torch.where((kind == 0).unsqueeze(1), parts[0], parts[-1])
        x = x + self.positions[step] + self.kinds[kind]
        return dropout(x, self.dropout, self.training)

    def _query(self, hidden: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """(..., D) after items (...) -> (..., text width) of length 1, to be compared with
        `vectors`: the last item's own, and what the decoder adds to it."""
        return l2_normalise(l2_normalise(self.text[last]) + self.dense_head(hidden))

    @property
    def vectors(self) -> torch.Tensor:
        """(V, text width) the dense vectors of the items, of length 1."""
        return l2_normalise(self.text)

    def predict(self, interaction) -> torch.Tensor:
        """(B,) score of each row's `item_id`."""
        scores = self.full_sort_predict(interaction)
        return scores.gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) logarithms of probabilities, -inf for what no id of the beam holds; without ids
        psi times the cosine."""
        items, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        of_row = self.n_heads * (2 * items.shape[1] + 1) * (self.width if self.with_ids else 1)
        rows = max(1, _WEIGHTS // of_row)
        vectors = self.vectors if self.with_dense else None
        parts = zip(items.split(rows), lengths.split(rows), strict=True)
        scores = torch.cat([self._scores(*part, vectors) for part in parts])
        scores[:, 0] = -torch.inf
        return scores

    def _scores(self, items, lengths, vectors: torch.Tensor | None) -> torch.Tensor:
        packing = Packing(self.n_kinds * lengths)
        hidden, kept = self.decoder.read(self._input(items, packing), packing)
        last = packing.unorder(hidden[packing.last])
        last_item = items.gather(1, lengths.unsqueeze(1) - 1)  # (B, 1)
        if not self.with_ids:
            assert vectors is not None
            return self.psi * self._query(last, last_item.squeeze(1)) @ vectors.t()
        log_prob = (self.tau * self.sparse_head(last).log_softmax(-1)).log_softmax(-1)
        if vectors is None:
            return log_prob[:, self.ids.of_item]
        found, number = log_prob.topk(self.width)
        x = self.id_vectors[number] + self.positions[lengths].unsqueeze(1) + self.kinds[0]
        followed = self.decoder.follow(x, kept, self.n_kinds * lengths)
        query = self._query(followed, last_item)
        return self._fused(found, number, query, vectors)

    def _fused(self, found, number, query, vectors: torch.Tensor) -> torch.Tensor:
        """(B, V) from K ids a row: log-probabilities (B, K), ids (B, K), queries (B, K, D)."""
        scores = found.new_full((len(found), len(vectors)), -torch.inf)
        row, place = (
            index.flatten()
            for index in torch.meshgrid(
                *(torch.arange(size, device=found.device) for size in found.shape), indexing="ij"
            )
        )
        order = torch.argsort(number.flatten(), stable=True)
        numbers, counts = torch.unique_consecutive(number.flatten()[order], return_counts=True)
        for one, pairs in zip(numbers.tolist(), order.split(counts.tolist()), strict=True):
            items, rows, places = self.ids.items(one), row[pairs], place[pairs]
            within = (self.psi * query[rows, places] @ vectors[items].t()).log_softmax(1)
            scores[rows.unsqueeze(1), items] = found[rows, places].unsqueeze(1) + within
        return scores

    @property
    def takes_codes(self) -> bool:
        """Whether new items need codes of semantic ids."""
        return self.with_ids

    def take_codes(self, codes: torch.Tensor) -> None:
        """Codes (n, levels) of the items that `add_items` is then given.

        Raises:
            InputError: a beginning that no item has.
        """
        self.ids.add_items(codes)

    def add_items(self, text: torch.Tensor, stand_in: str) -> None:
        """Items behind the others, by their text vectors (n, width), untrained; it has no item
        vectors to stand in for."""
        self.text = torch.cat([self.text, text])
        self.n_items += len(text)

    def get_extra_state(self) -> str:
        return self.text_hash if self.with_dense else ""

    def set_extra_state(self, state: str) -> None:
        if self.with_dense:
            check_text_hash(state, self.text_hash)


def _normal(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=0.02))
