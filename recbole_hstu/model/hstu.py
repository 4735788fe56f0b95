"""HSTU: Hierarchical Sequential Transduction Units (Zhai et al., ICML 2024).

Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations, https://arxiv.org/abs/2402.17152. The recipe (sampled softmax over normalised
vectors, AdamW, a loss at every position) is that of its public experiments.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import nn
from torch.utils.checkpoint import checkpoint

from recbole_hstu.config import option
from recbole_hstu.errors import InputError
from recbole_hstu.model.item_encoder import IdEncoder
from recbole_hstu.model.layers import HSTULayer, TimeBuckets
from recbole_hstu.model.losses import (
    full_softmax,
    l2_normalise,
    log_correction,
    sampled_softmax,
    shared_softmax,
)
from recbole_hstu.model.packing import Packing, tokens_of
from recbole_hstu.model.stochastic_length import keep, kept_events
from recbole_hstu.model.touched import Touched

LOSS_TYPES = ("sampled", "shared", "full")


class HSTU(SequentialRecommender):
    """HSTU over item ids and times. Options: `properties/model/HSTU.yaml`.

    Raises:
        InputError: an option is missing, or a temperature that cannot train.
    """

    input_type = InputType.POINTWISE
    n_heads: int
    sequence_view = "user"  # one row a user, a loss at every position

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.TIME_SEQ = config["TIME_FIELD"] + config["LIST_SUFFIX"]
        self.TIME = config["TIME_FIELD"]
        self.hidden_size = option(config, "hidden_size")
        self.n_positions = self.max_seq_length + option(config, "extra_positions")
        self.n_heads = option(config, "n_heads")
        self.input_dropout = option(config, "input_dropout_prob")
        self.num_negatives = option(config, "num_negatives")
        self.temperature = option(config, "temperature")
        self.item_l2_norm = option(config, "item_l2_norm")
        self.loss_type = option(config, "loss_type")
        if self.loss_type not in LOSS_TYPES:
            raise InputError(f"loss_type: {self.loss_type}; known are {', '.join(LOSS_TYPES)}")
        self.log_weight = 0.0
        if option(config, "logq_correction"):
            if self.loss_type == "full":
                raise InputError("logq_correction: loss_type full draws no negatives to correct")
            self.log_weight = log_correction(self.n_items, self.num_negatives)
        if self.item_l2_norm and self.temperature >= 1:
            raise InputError(
                f"temperature: {self.temperature} with item_l2_norm: True cannot train, since "
                "similarities lie between -1 and 1 and the loss stays flat; use about 0.05"
            )
        self.activation_checkpointing = option(config, "activation_checkpointing")
        self.alpha = config["stochastic_length_alpha"]
        if self.alpha is not None and not 1 < self.alpha <= 2:
            raise InputError(
                f"stochastic_length_alpha: {self.alpha} must lie above 1 and at most at 2"
            )
        self.generator = torch.Generator(self.device).manual_seed(option(config, "seed"))

        self.items = self.build_item_encoder(config, dataset)
        self.positions = nn.Parameter(torch.empty(self.n_positions, self.hidden_size))
        nn.init.xavier_normal_(self.positions)
        self.layers = nn.ModuleList(
            self.build_layer(config) for _ in range(option(config, "n_layers"))
        )

    def build_item_encoder(self, config, dataset) -> nn.Module:
        return IdEncoder(n_items=self.n_items, hidden_size=self.hidden_size)

    def build_layer(self, config) -> nn.Module:
        return HSTULayer(
            hidden_size=self.hidden_size,
            n_heads=self.n_heads,
            qk_size=option(config, "qk_size"),
            v_size=option(config, "v_size"),
            n_positions=self.n_positions,
            dropout=option(config, "hidden_dropout_prob"),
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
        x = F.dropout(x, self.input_dropout, self.training)
        context = self.layer_context(interaction, packing)
        for layer in self.layers:
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, packing, *context, use_reentrant=False)
            else:
                x = layer(x, packing, *context)
        return (l2_normalise(x) if self.item_l2_norm else x), packing

    def layer_context(self, interaction, packing: Packing) -> tuple:
        """What every layer reads beside the tokens: here the time buckets of each group."""
        time = packing.pack(interaction[self.TIME_SEQ]).unsqueeze(-1)
        asked = packing.pack(self.shifted(interaction, self.TIME_SEQ, self.TIME)).unsqueeze(-1)
        pairs = [(g.pad(asked)[..., 0], g.pad(time)[..., 0]) for g in packing.groups]
        return ([TimeBuckets(*pair, n_heads=self.n_heads) for pair in pairs],)

    def shifted(self, interaction, history: str, last: str) -> torch.Tensor:
        """(B, L): at every position the next event's value, at the last one the target's."""
        values, length = interaction[history], interaction[self.ITEM_SEQ_LEN].unsqueeze(1)
        following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
        return following.scatter(1, length - 1, interaction[last].unsqueeze(1))

    def normalised(self, table: torch.Tensor) -> torch.Tensor:
        return l2_normalise(table) if self.item_l2_norm else table

    def calculate_loss(self, interaction) -> torch.Tensor:
        """Softmax loss (`loss_type`) at every position; the targets are the next items."""
        return self.loss_of_part(interaction, None)[0]

    def loss_of_part(self, interaction, part: torch.Tensor | None) -> tuple[torch.Tensor, float]:
        """The loss of some rows of a batch, and their share of the positions it is a mean over.

        All but dropout is drawn for the whole batch, so that processes can share it.

        Args:
            part: (b,) the rows, rising; None for all.
        """
        if self.alpha is not None:
            interaction = self.shortened(interaction)
        lengths, share = interaction[self.ITEM_SEQ_LEN], 1.0
        negatives = self.draw_negatives(int(lengths.sum()))
        if part is not None:
            share = int(lengths[part].sum()) / int(lengths.sum())
            if negatives is not None and negatives.dim() == 2:
                negatives = negatives[tokens_of(part, lengths)]
            keys = (self.ITEM_SEQ, self.ITEM_SEQ_LEN, self.TIME_SEQ, self.ITEM_ID, self.TIME)
            interaction = {key: interaction[key][part] for key in keys}
        return self._softmax(interaction, negatives), share

    def _softmax(self, interaction, negatives: torch.Tensor | None) -> torch.Tensor:
        n_tokens = int(interaction[self.ITEM_SEQ_LEN].sum())
        rows = None
        if negatives is not None and negatives.numel() + 2 * n_tokens < self.n_items:
            interaction, negatives, rows = self.touched(interaction, negatives)
        inputs, candidates = self.items(rows)
        hidden, packing = self.forward(interaction, inputs)
        positives = packing.pack(self.shifted(interaction, self.ITEM_SEQ, self.ITEM_ID))
        own = None if inputs is candidates else self.normalised(inputs)
        table = self.normalised(candidates)
        settings = {"temperature": self.temperature, "positive_table": own}
        if negatives is None:
            return full_softmax(hidden, table, positives, **settings)
        settings["log_weight"] = self.log_weight
        softmax = sampled_softmax if negatives.dim() == 2 else shared_softmax
        return softmax(hidden, table, positives, negatives, **settings)

    def draw_negatives(self, n_tokens: int) -> torch.Tensor | None:
        """Uniform over the items: (T, R) for `sampled`, (R,) for `shared`, None for `full`."""
        if self.loss_type == "full":
            return None
        shape = [self.num_negatives]
        if self.loss_type == "sampled":
            shape = [n_tokens, self.num_negatives]
        device = self.generator.device
        return torch.randint(1, self.n_items, shape, generator=self.generator, device=device)

    def shortened(self, interaction) -> dict[str, torch.Tensor]:
        """The batch with random subsequences for long histories (`stochastic_length_alpha`)."""
        kept = kept_events(
            interaction[self.ITEM_SEQ_LEN],
            alpha=self.alpha,
            longest=self.max_seq_length,
            generator=self.generator,
        )
        batch = {key: interaction[key] for key in (self.ITEM_ID, self.TIME)}
        batch |= {key: keep(interaction[key], kept) for key in (self.ITEM_SEQ, self.TIME_SEQ)}
        return batch | {self.ITEM_SEQ_LEN: kept.sum(1)}

    def touched(self, interaction, negatives: torch.Tensor):
        """The batch and the negatives with rows of a smaller table for ids, and its items (U,)."""
        history, target = interaction[self.ITEM_SEQ], interaction[self.ITEM_ID]
        step = Touched(self.n_items, history, target, negatives)
        keys = (self.ITEM_SEQ_LEN, self.TIME_SEQ, self.TIME)
        batch = {key: interaction[key] for key in keys}
        batch |= {self.ITEM_SEQ: step.rows(history), self.ITEM_ID: step.rows(target)}
        return batch, step.rows(negatives), step.ids

    def user_vectors(self, interaction, table: torch.Tensor) -> torch.Tensor:
        """(B, D): the hidden state after each user's last event."""
        hidden, packing = self.forward(interaction, table)
        return packing.unorder(hidden[packing.last])

    def predict(self, interaction) -> torch.Tensor:
        """(B,) score of each row's `item_id`."""
        inputs, candidates = self.items()
        items = self.normalised(candidates)[interaction[self.ITEM_ID]]
        return (self.user_vectors(interaction, inputs) * items).sum(-1)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) scores of the whole catalogue."""
        inputs, candidates = self.items()
        return self.user_vectors(interaction, inputs) @ self.normalised(candidates).t()
