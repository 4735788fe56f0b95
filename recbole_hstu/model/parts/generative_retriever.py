"""What models that generate semantic ids have in common."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.config.config import option
from recbole_hstu.data.files.semantic_id_file import SemanticIds, semantic_ids_of
from recbole_hstu.layers.codes.decoding import beam_search
from recbole_hstu.layers.codes.trie import CodeTrie
from recbole_hstu.layers.items.semantic_codes import SemanticCodes
from recbole_hstu.support.errors import InputError

# Scores of whole catalogues that exist at once: 64 MiB.
MAX_SCORES = 1 << 24


class GenerativeRetriever:
    """Mix-in of a model that generates the semantic id of the next item.

    A model has `users(interaction)`, what it knows of the users' histories, (B, ...);
    `decoding(users)`, from which codes are generated; `catalogue(users)`, (B, V) scores of all
    items; and `prefixes_at_once(users)`, how many of all users a beam may hold. A score is the
    logarithm of the item's probability.
    """

    ids: SemanticIds
    n_items: int
    ITEM_ID: str
    trie: CodeTrie
    users: Any
    decoding: Any
    catalogue: Any
    prefixes_at_once: Any

    def read_decoding_options(self, config, dataset) -> None:
        """Of `properties/model/TIGERSmall.yaml` and `TIGER.yaml`.

        Raises:
            InputError: no ids, or a beam that is narrower than a cut-off.
        """
        self.take_ids(semantic_ids_of(config, dataset))
        self.decode = option(config, "decode")
        self.beam_size = option(config, "beam_size")
        longest = max(config["topk"] or [1])
        if self.decode == "beam" and self.beam_size < longest:
            raise InputError(
                f"beam_size: {self.beam_size} finds fewer items than topk asks for ({longest}); "
                f"take {longest} or more, or --decode=exact"
            )

    def take_ids(self, ids: SemanticIds) -> None:
        """The ids of all items, in the place of those before; a checkpoint keeps them."""
        self.ids, self.n_items = ids, len(ids.codes)
        self.semantic_ids = SemanticCodes(ids)
        self.trie = CodeTrie(ids.codes, ids.level_sizes)

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> torch.Tensor:
        """(B, V) scores of the whole catalogue; with `decode: beam` -inf for what no beam finds."""
        users = self.users(interaction)
        if self.decode == "exact":
            return self.exact_scores(users)
        score, item = self.beam(users, self.beam_size)
        scores = score.new_full((len(users), self.n_items), -torch.inf)
        return scores.scatter_(1, item, score)

    def exact_scores(self, users: torch.Tensor) -> torch.Tensor:
        """(B, V) scores of the whole catalogue, -inf for the padding, some users at a time."""
        rows = max(1, MAX_SCORES // self.n_items)
        return torch.cat([self.catalogue(part) for part in users.split(rows)])

    def beam(self, users: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What a beam finds, (B, n) scores, falling, and (B, n) item ids, some users at a time."""
        parts = users.split(max(1, self.prefixes_at_once(users) // width))
        found = [beam_search(self.trie, self.decoding(u), len(u), width) for u in parts]
        scores, items = (torch.cat(part) for part in zip(*found, strict=True))
        return scores, items

    def take_codes(self, codes: torch.Tensor) -> None:
        """Further items behind the others, which are known by their codes alone.

        Args:
            codes: (n, levels) int64 in the range of the levels, none of them that of another item.
        """
        table = torch.cat([self.ids.codes, codes])
        device = self.trie.first.device
        self.take_ids(SemanticIds(table, self.ids.level_sizes))
        self.trie.to(device)
