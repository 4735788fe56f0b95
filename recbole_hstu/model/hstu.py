"""HSTU: Hierarchical Sequential Transduction Units (Zhai et al., ICML 2024).

Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations, https://arxiv.org/abs/2402.17152. The recipe (sampled softmax over normalised
vectors, AdamW, a loss at every position) is that of its public experiments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import nn
from torch.utils.checkpoint import checkpoint

from recbole_hstu.config.config import option
from recbole_hstu.data.files.semantic_id_file import semantic_ids_of
from recbole_hstu.distributed.row_blocks import shares_items
from recbole_hstu.layers.blocks.compilation import compiled
from recbole_hstu.layers.blocks.hstu_block import HSTULayer, TimeBuckets, dropout
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.items.item_encoder import CodeEncoder, IdEncoder
from recbole_hstu.layers.items.sharded_ids import ShardedIds
from recbole_hstu.layers.losses import l2_normalise
from recbole_hstu.model.parts.position_loss import PositionLoss
from recbole_hstu.model.parts.score_terms import ScoreTerms
from recbole_hstu.support.errors import InputError


class HSTU(PositionLoss, ScoreTerms, SequentialRecommender):
    """HSTU over item ids and times. Options: `properties/model/HSTU.yaml`.

    Raises:
        InputError: an option is missing, a temperature that cannot train, semantic ids that are
            not there, or a machine on which `torch_compile` cannot compile.
    """

    input_type = InputType.POINTWISE
    n_heads: int
    sequence_view = "user"  # one row a user, a loss at every position
    _tables: tuple[torch.Tensor, torch.Tensor] | None = None
    reads_times = True  # of the events

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.TIME_SEQ = config["TIME_FIELD"] + config["LIST_SUFFIX"]
        self.TIME = config["TIME_FIELD"]
        self.hidden_size = option(config, "hidden_size")
        self.n_positions = self.max_seq_length + option(config, "extra_positions")
        self.n_heads = option(config, "n_heads")
        self.input_dropout = option(config, "input_dropout_prob")
        self.item_l2_norm = option(config, "item_l2_norm")
        self.activation_checkpointing = option(config, "activation_checkpointing")
        self.query_time = config["query_time"]
        self.read_loss_options(config)

        self.items = self.build_item_encoder(config, dataset)
        self.build_score_terms(config, dataset)
        self.read_negative_items(config, dataset)
        self.positions = nn.Parameter(torch.empty(self.n_positions, self.hidden_size))
        nn.init.xavier_normal_(self.positions)
        self.layers = nn.ModuleList(
            self.build_layer(config) for _ in range(option(config, "n_layers"))
        )

    def build_item_encoder(self, config, dataset) -> nn.Module:
        if config["semantic_ids"] is None:
            if config["id_table"] == "joined":
                raise InputError("id_table: joined needs semantic_ids, such as rkmeans")
            return (ShardedIds if shares_items(config) else IdEncoder)(
                n_items=self.n_items,
                hidden_size=self.hidden_size,
                sparse=config["learner"] == "lazy_adamw",
            )
        return CodeEncoder(
            semantic_ids_of(config, dataset),
            hidden_size=self.hidden_size,
            with_ids=option(config, "id_table") == "joined",
        )

    def build_layer(self, config) -> nn.Module:
        faster = {}
        if option(config, "torch_compile"):
            faster["compile"] = partial(compiled, device=config["device"])
        return HSTULayer(
            hidden_size=self.hidden_size,
            n_heads=self.n_heads,
            qk_size=option(config, "qk_size"),
            v_size=option(config, "v_size"),
            n_positions=self.n_positions,
            dropout=option(config, "hidden_dropout_prob"),
            attention=option(config, "attention"),
            relative_bias=option(config, "relative_bias"),
            **faster,
        )

    def forward(self, interaction, table: torch.Tensor) -> tuple[torch.Tensor, Packing]:
        """Hidden states of every real position, (T, D) in packed order, and that order.

        Args:
            interaction: item and time histories (B, L), their lengths (B,), and the time (B,)
                of the event that is asked for.
            table: (V, D) item vectors.
        """
        packing = Packing(interaction[self.ITEM_SEQ_LEN], one_group=table.is_cuda)
        item = packing.pack(interaction[self.ITEM_SEQ])  # (T,)
        x = table[item] * self.hidden_size**0.5 + self.positions[packing.positions]
        x = packing.pad(dropout(x, self.input_dropout, self.training))  # (S, D)
        context = self.layer_context(interaction, packing)
        for layer in self.layers:
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, packing, *context, use_reentrant=False)
            else:
                x = layer(x, packing, *context)
        return self.finish(packing.unpad(x)), packing

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        """(T, D): what is compared with the items, from the last layer's output."""
        return self.normalised(x)

    def layer_context(self, interaction, packing: Packing) -> tuple:
        """What every layer reads beside the tokens: here the time buckets of each group.

        A query is asked at the time of the event that it predicts, as in the published code
        (`query_time: target`), or at that of its own event (`last`), in training as in ranking.
        """
        time = packing.pack(interaction[self.TIME_SEQ])
        asked = self.asked(interaction, packing)
        groups = packing.lines(packing.pad(torch.stack([packing.row, asked, time], dim=-1)))
        return ([TimeBuckets(*group.unbind(-1), n_heads=self.n_heads) for group in groups],)

    @property
    def reads_request_time(self) -> bool:
        """Whether scores depend on the time that is asked for, not on those of events alone."""
        return self.query_time == "target"

    def asked(self, interaction, packing: Packing) -> torch.Tensor:
        """(T,) the time of every query, in packed order."""
        if self.reads_request_time:
            return packing.pack(self.shifted(interaction, self.TIME_SEQ, self.TIME))
        return packing.pack(interaction[self.TIME_SEQ])

    def request_times(self, interaction) -> torch.Tensor:
        """(B,) the time that each row's last query is asked at."""
        if self.reads_request_time:
            return interaction[self.TIME]
        last = interaction[self.ITEM_SEQ_LEN].unsqueeze(1) - 1
        return interaction[self.TIME_SEQ].gather(1, last).squeeze(1)

    def normalised(self, table: torch.Tensor) -> torch.Tensor:
        return l2_normalise(table) if self.item_l2_norm else table

    def user_vectors(self, interaction, table: torch.Tensor) -> torch.Tensor:
        """(B, D): the hidden state after each user's last event."""
        hidden, packing = self.forward(interaction, table)
        return packing.unorder(hidden[packing.last])

    @contextmanager
    def fixed_items(self) -> Iterator[None]:
        """Make the item tables once for all that is scored in the block; weights must not change
        in it. Without it they are made for every batch."""
        self._tables = self.item_tables()
        try:
            yield
        finally:
            self._tables = None

    def item_tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(V, D) vectors of the inputs, and (V, D) of the candidates, normalised; see `ShardedIds`
        for a table that the processes share."""
        if self._tables is not None:
            return self._tables
        inputs, candidates = self.items()
        return inputs, self.normalised(candidates)

    def predict(self, interaction) -> torch.Tensor:
        """(B,) score of each row's `item_id`."""
        inputs, candidates = self.item_tables()
        item = interaction[self.ITEM_ID]
        scores = (self.user_vectors(interaction, inputs) * candidates[item]).sum(-1)
        if not self.score_terms():
            return scores
        keys = self.term_keys(interaction)
        return scores + self.terms_of_pairs(keys, item.unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) scores of the whole catalogue."""
        inputs, candidates = self.item_tables()
        scores = self.user_vectors(interaction, inputs) @ candidates.t()
        if not self.score_terms():
            return scores
        return scores + self.terms_at(self.term_keys(interaction))

    full_sort_predict.by_vectors = True  # type: ignore[attr-defined]  # so that blocks will do
