"""The training of models with a row a user: a loss at every position."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.config.config import option
from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS
from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.distributed.batch_share import BatchShare
from recbole_hstu.distributed.row_blocks import blocks_of
from recbole_hstu.layers.blocks.stochastic_length import keep, kept_events, kept_lengths
from recbole_hstu.layers.draws import Draws
from recbole_hstu.layers.gbce import gbce, gbce_beta
from recbole_hstu.layers.items.items_in_use import ItemsInUse
from recbole_hstu.layers.losses import (
    full_softmax,
    log_correction,
    sampled_softmax,
    shared_softmax,
)
from recbole_hstu.model.parts.user_rows import UserRows
from recbole_hstu.support.errors import InputError


class PositionLoss(UserRows):
    """`calculate_loss` for a model with HSTU's `forward`, `items` and `normalised`."""

    TIME_SEQ: str
    TIME: str
    n_items: int
    negative_items: torch.Tensor | None
    register_buffer: Any
    max_seq_length: int
    item_l2_norm: bool
    positions: Any
    items: Any
    forward: Any
    normalised: Any
    score_terms: Any
    term_keys_in_training: Any
    terms_in_training: Any
    terms_of_all: Any

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
        if option(config, "logq_correction") and self.loss_type in ("full", "gbce"):
            raise InputError(
                f"logq_correction: loss_type {self.loss_type} has no softmax over drawn "
                "negatives to correct"
            )
        for term in ("recent_days", "transition_steps"):
            if config[term] is not None and self.loss_type == "gbce":
                raise InputError(
                    f"{term}: loss_type gbce compares vectors alone; take sampled, shared or full"
                )
        self.alpha = config["stochastic_length_alpha"]
        if self.alpha is not None and config["windows"] == "all":
            raise InputError(
                "windows: all learns from every event, stochastic_length_alpha leaves some out; "
                "set one of them"
            )
        if self.alpha is not None and config["transition_steps"] is not None:
            raise InputError(
                "transition_steps counts the steps between events, stochastic_length_alpha leaves "
                "some out; set one of them"
            )
        self.draws = Draws(option(config, "seed"), config["device"])

    def read_negative_items(self, config, dataset) -> None:
        """What negatives are drawn from, by the option `negative_items`. Items that are never drawn
        and have no event are learned by nothing: instead of a random vector their ids have none.

        Raises:
            InputError: a loss that draws none.
        """
        items = None  # all
        if config["negative_items"] == "training":
            if self.loss_type == "full":
                raise InputError("negative_items: loss_type full takes all items, it draws none")
            if isinstance(dataset, SequenceDataset):  # a checkpoint that is served draws none
                counts = dataset.inter_feat.count_covered(self.ITEM_ID, self.n_items)
                items = torch.nonzero(counts).squeeze(1)
        self.register_buffer("negative_items", items, persistent=False)
        if items is not None and getattr(self.items, "ids", None) is not None:
            known = torch.zeros(self.n_items, dtype=torch.bool).index_fill_(0, items, True)
            self.items.ids.data[~known] = 0
        self.n_drawn_from = self.n_items - 1 if items is None else len(items)
        self.log_weight = 0.0
        if option(config, "logq_correction"):
            self.log_weight = log_correction(1 + self.n_drawn_from, self.num_negatives)
        if self.loss_type == "gbce":
            if self.n_drawn_from < 2:
                raise InputError("loss_type: gbce draws other items, and there is one item alone")
            t = option(config, "gbce_t")
            self.beta = gbce_beta(1 + self.n_drawn_from, self.num_negatives, t)

    def loss_of_share(self, interaction, share: BatchShare) -> tuple[torch.Tensor, float]:
        """The loss of some rows of a batch, and their share of the positions it is a mean over."""
        assert share.lengths is not None
        lengths = share.lengths
        if self.alpha is not None:
            lengths = self.shortened_lengths(lengths)
            interaction = self.shortened(interaction, lengths[share.places], share.places)
        own = history = lengths[share.places]
        if OWN_TARGETS in interaction:
            history = interaction[self.ITEM_SEQ_LEN].cpu()
        negatives = self.draw_negatives(history, share.places, own)
        self.draws.advance()
        n_here = int(own.sum())
        return self._loss(interaction, negatives, n_here), n_here / int(lengths.sum())

    def _loss(self, interaction, negatives: torch.Tensor | None, n_tokens: int) -> torch.Tensor:
        rows = None
        few = negatives is not None and negatives.numel() + 2 * n_tokens < self.n_items
        if negatives is not None and (few or blocks_of(self)):
            interaction, negatives, rows = self.for_items_in_use(interaction, negatives)
        inputs, candidates = self.items(rows)
        hidden, packing = self.forward(interaction, inputs)
        hidden, positives = self.own_positions(interaction, hidden, packing)
        own = None if inputs is candidates else self.normalised(inputs)
        table = self.normalised(candidates)
        settings: dict[str, Any] = {"temperature": self.temperature, "positive_table": own}
        keys = None
        if self.score_terms():
            mine = self.learns_at(interaction, packing)
            keys = self.term_keys_in_training(interaction, packing, mine, rows)
        if negatives is None:
            if keys is not None:
                settings["added"] = self.terms_of_all(keys, positives, self.temperature)
            return full_softmax(hidden, table, positives, **settings)
        if self.loss_type == "gbce":
            return gbce(hidden, table, positives, negatives, beta=self.beta, **settings)
        settings["log_weight"] = self.log_weight
        if keys is not None:
            items = torch.cat([positives.unsqueeze(1), negatives.expand(len(positives), -1)], dim=1)
            terms = self.terms_in_training(keys, items if rows is None else rows[items])
            settings["added"] = terms / self.temperature
        softmax = sampled_softmax if negatives.dim() == 2 else shared_softmax
        return softmax(hidden, table, positives, negatives, **settings)

    def draw_negatives(
        self, lengths: torch.Tensor, places: torch.Tensor, own: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Uniform over `negative_items`: (T, R) in packed order for `sampled` and `gbce`; (R,) for
        `shared`; None for `full`.

        Args:
            lengths: (b,) of the rows that they are for, on the CPU.
            places: (b,) of these rows in the batch.
            own: (b,) how many positions of each row they are for, where not for all.
        """
        if self.loss_type == "full":
            return None
        device = self.positions.device
        if self.loss_type == "shared":
            drawn = torch.empty(self.num_negatives, dtype=torch.int64)
            drawn.random_(1, 1 + self.n_drawn_from, generator=self.draws.of_step("negatives"))
            return self._as_items(drawn.to(device, non_blocking=True))
        order = torch.argsort(lengths, stable=True)  # as in `Packing`
        sizes = (lengths if own is None else own)[order].tolist()
        drawn = torch.empty(sum(sizes), self.num_negatives, dtype=torch.int64, device=device)
        for part, place in zip(drawn.split(sizes), places[order].tolist(), strict=True):
            part.random_(1, 1 + self.n_drawn_from, generator=self.draws.of_row("negatives", place))
        return self._as_items(drawn)

    def _as_items(self, places: torch.Tensor) -> torch.Tensor:
        """Of places from 1 among `negative_items`."""
        return places if self.negative_items is None else self.negative_items[places - 1]

    def shortened_lengths(self, lengths: torch.Tensor) -> torch.Tensor:
        """(B,) how many events `stochastic_length_alpha` keeps of each history of a batch."""
        chance = torch.rand(len(lengths), generator=self.draws.of_step("lengths"))
        return kept_lengths(lengths, chance, alpha=self.alpha, longest=self.max_seq_length)

    def shortened(self, interaction, kept: torch.Tensor, places: torch.Tensor):
        """Rows of a batch with random subsequences of the given lengths (b,) for histories."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        size, device = interaction[self.ITEM_SEQ].shape, lengths.device
        order = torch.empty(size, dtype=torch.float32, device=device)
        for row, place in zip(order, places.tolist(), strict=True):
            row.uniform_(generator=self.draws.of_row("events", place))
        width, kept = int(kept.max()), kept.to(device, non_blocking=True)
        chosen = kept_events(lengths, kept, order)
        batch = {key: interaction[key] for key in (self.ITEM_ID, self.TIME)}
        for key in (self.ITEM_SEQ, self.TIME_SEQ):
            batch[key] = keep(interaction[key], chosen, width)
        return batch | {self.ITEM_SEQ_LEN: kept}

    def for_items_in_use(self, interaction, negatives: torch.Tensor):
        """The batch and the negatives with rows of a smaller table for ids, and its items (U,)."""
        history, target = interaction[self.ITEM_SEQ], interaction[self.ITEM_ID]
        step = ItemsInUse(self.n_items, history, target, negatives)
        keys = (self.ITEM_SEQ_LEN, self.TIME_SEQ, self.TIME, OWN_TARGETS)
        batch = {key: interaction[key] for key in keys if key in interaction}
        batch |= {self.ITEM_SEQ: step.rows(history), self.ITEM_ID: step.rows(target)}
        return batch, step.rows(negatives), step.ids
