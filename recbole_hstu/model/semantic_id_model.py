"""What models that read or generate semantic ids have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recbole_hstu.config.config import option
from recbole_hstu.data.semantic_id_file import SemanticIds, semantic_ids_of
from recbole_hstu.layers.codes.decoding import beam_search
from recbole_hstu.layers.codes.trie import CodeTrie
from recbole_hstu.support.errors import InputError

# Scores of whole catalogues that exist at once: 64 MiB.
MAX_SCORES = 1 << 24


class SemanticIdModel:
    """Mix-in of a model that is built with semantic ids. A checkpoint holds them."""

    ids: SemanticIds

    def read_semantic_ids(self, config, dataset) -> SemanticIds:
        """The ids of `semantic_ids`.

        Raises:
            InputError: see `semantic_ids_of`.
        """
        self.ids = semantic_ids_of(config, dataset)
        return self.ids

    def get_extra_state(self) -> dict[str, Any]:
        return {"codes": self.ids.codes, "level_sizes": list(self.ids.level_sizes)}

    def set_extra_state(self, state: Any) -> None:
        same = list(self.ids.level_sizes) == state["level_sizes"]
        if not (same and torch.equal(state["codes"].cpu(), self.ids.codes)):
            raise InputError(
                "semantic_ids: the checkpoint was trained with other semantic ids than the file's; "
                "name the file of its training, or train anew"
            )


def kept_semantic_ids(state_dict: Mapping[str, Any]) -> SemanticIds | None:
    """The semantic ids in a checkpoint's weights; None where the model has none."""
    state = state_dict.get("_extra_state")
    if not isinstance(state, dict) or "codes" not in state:
        return None
    return SemanticIds(state["codes"], tuple(state["level_sizes"]))


class GenerativeRetriever(SemanticIdModel):
    """Mix-in of a model that generates the semantic id of the next item.

    A model has `users(interaction)`, what it knows of the users' histories, (B, ...);
    `decoding(users)`, from which codes are generated; `catalogue(users)`, (B, V) scores of all
    items; and `prefixes_at_once(users)`, how many of all users a beam may hold. A score is the
    logarithm of the item's probability.
    """

    n_items: int
    ITEM_ID: str
    trie: CodeTrie
    users: Any
    decoding: Any
    catalogue: Any
    prefixes_at_once: Any

    def read_decoding_options(self, config, dataset) -> None:
        """Of `properties/model/TIGERSmall.yaml`.

        Raises:
            InputError: no ids, or a beam that is narrower than a cut-off.
        """
        ids = self.read_semantic_ids(config, dataset)
        self.trie = CodeTrie(ids.codes, ids.level_sizes)
        self.decode = option(config, "decode")
        self.beam_size = option(config, "beam_size")
        longest = max(config["topk"] or [1])
        if self.decode == "beam" and self.beam_size < longest:
            raise InputError(
                f"beam_size: {self.beam_size} finds fewer items than topk asks for ({longest}); "
                f"take {longest} or more, or --decode=exact"
            )

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
            codes: (n, levels) int64.

        Raises:
            InputError: another number of levels, a code out of range, an id that an item has.
        """
        sizes = torch.tensor(self.ids.level_sizes)
        if codes.shape[1:] != sizes.shape or ((codes < 0) | (codes >= sizes)).any():
            raise InputError(
                f"semantic ids: every new item needs {len(sizes)} codes, below {sizes.tolist()}"
            )
        table = torch.cat([self.ids.codes, codes])
        found, count = torch.unique(table, dim=0, return_counts=True)
        if len(found) < len(table):
            twice = found[count > 1][0].tolist()
            raise InputError(f"semantic ids: the id {twice} is that of several items")
        self.ids = SemanticIds(table, self.ids.level_sizes)
        self.trie = CodeTrie(table, self.ids.level_sizes).to(self.trie.first.device)
        self.n_items = len(table)
