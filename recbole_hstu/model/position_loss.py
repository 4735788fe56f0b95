"""The training of models with a row a user: a softmax loss at every position."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.config.config import option
from recbole_hstu.layers.items_in_use import ItemsInUse
from recbole_hstu.layers.losses import (
    full_softmax,
    log_correction,
    sampled_softmax,
    shared_softmax,
)
from recbole_hstu.layers.packing import tokens_of
from recbole_hstu.layers.stochastic_length import keep, kept_events
from recbole_hstu.support.errors import InputError


class PositionLoss:
    """`calculate_loss` for a model with HSTU's `forward`, `items`, `shifted` and `normalised`."""

    ITEM_SEQ: str
    ITEM_SEQ_LEN: str
    ITEM_ID: str
    TIME_SEQ: str
    TIME: str
    n_items: int
    max_seq_length: int
    item_l2_norm: bool
    items: Any
    forward: Any
    shifted: Any
    normalised: Any

    def read_loss_options(self, config) -> None:
        """Of `properties/model/HSTU.yaml`.

        Raises:
            InputError: a temperature that cannot train, a correction of nothing.
        """
        self.num_negatives = option(config, "num_negatives")
        self.temperature = option(config, "temperature")
        if self.item_l2_norm and self.temperature >= 1:
            raise InputError(
                f"temperature: {self.temperature} with item_l2_norm: True cannot train, since "
                "similarities lie between -1 and 1 and the loss stays flat; use about 0.05"
            )
        self.loss_type = option(config, "loss_type")
        self.log_weight = 0.0
        if option(config, "logq_correction"):
            if self.loss_type == "full":
                raise InputError("logq_correction: loss_type full draws no negatives to correct")
            self.log_weight = log_correction(self.n_items, self.num_negatives)
        self.alpha = config["stochastic_length_alpha"]
        self.generator = torch.Generator(config["device"]).manual_seed(option(config, "seed"))

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
        lengths = interaction[self.ITEM_SEQ_LEN]
        n_tokens = n_here = int(lengths.sum())
        negatives = self.draw_negatives(n_tokens)
        if part is not None:
            n_here = int(lengths[part].sum())
            if negatives is not None and negatives.dim() == 2:
                negatives = negatives[tokens_of(part, lengths)]
            keys = (self.ITEM_SEQ, self.ITEM_SEQ_LEN, self.TIME_SEQ, self.ITEM_ID, self.TIME)
            interaction = {key: interaction[key][part] for key in keys}
        return self._softmax(interaction, negatives, n_here), n_here / n_tokens

    def _softmax(self, interaction, negatives: torch.Tensor | None, n_tokens: int) -> torch.Tensor:
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
        step = ItemsInUse(self.n_items, history, target, negatives)
        keys = (self.ITEM_SEQ_LEN, self.TIME_SEQ, self.TIME)
        batch = {key: interaction[key] for key in keys}
        batch |= {self.ITEM_SEQ: step.rows(history), self.ITEM_ID: step.rows(target)}
        return batch, step.rows(negatives), step.ids
