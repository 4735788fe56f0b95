"""Semantic ids generated code by code along a trie: the best ones, or the score of all."""

from __future__ import annotations

from typing import Protocol

import torch

from recbole_hstu.layers.codes.trie import CodeTrie


class Decoding(Protocol):
    """What a model knows after k prefixes for each of B users."""

    def log_probs(self, depth: int, child: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """(B, k, C) logarithm of the probability of every next code.

        Args:
            depth: of the prefixes.
            child: (B, k, C) the nodes that the codes lead to.
            there: (B, k, C) which of them count; what stands elsewhere does not matter.
        """

    def follow(self, prefix: torch.Tensor, code: torch.Tensor) -> Decoding:
        """Longer prefixes, (B, n): which of the k each begins with, and its next code."""


def beam_search(
    trie: CodeTrie, decoding: Decoding, n_rows: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The items that a beam finds, best first: their log-probabilities and ids, (B, n) both.

    Only ids that exist are followed, so that n is the width, or the number of items where that is
    smaller. A beam as wide as the catalogue finds all of it.

    Args:
        decoding: after no code, (B, 1).
        n_rows: B.
        width: of the beam, from 1 on.
    """
    node = trie.first.new_zeros(n_rows, 1)
    score = torch.zeros(n_rows, 1, device=node.device)
    for depth in range(trie.n_levels):
        child, there = trie.branches(node, trie.widest[depth])
        found = decoding.log_probs(depth, child, there)
        total = (score.unsqueeze(2) + found).masked_fill(~there, -torch.inf).flatten(1)
        score, place = total.topk(min(width, trie.size(depth + 1)), dim=1)
        node = child.flatten(1).gather(1, place)
        if depth + 1 < trie.n_levels:
            prefix = place.div(child.shape[2], rounding_mode="floor")
            decoding = decoding.follow(prefix, trie.code[node])
    return score, trie.item[node]


def exact_scores(trie: CodeTrie, decoding: Decoding, n_rows: int, block: int) -> torch.Tensor:
    """(B, V) log-probability of every item, -inf for the padding. What items share of their ids is
    computed once.

    Args:
        decoding: after no code, (B, 1).
        n_rows: B.
        block: how many prefixes a user are followed at once.
    """
    start = trie.first.new_zeros(1)
    waiting = [(0, start, start, torch.zeros(n_rows, 1, device=start.device), decoding)]
    leaves: list[tuple[torch.Tensor, torch.Tensor]] = []
    while waiting:  # the deepest first, so that few prefixes are kept
        depth, node, prefix, score, decoding = waiting.pop()
        if depth:
            rows = (n_rows, len(node))
            decoding = decoding.follow(prefix.expand(rows), trie.code[node].expand(rows))
        child, there = trie.branches(node, trie.widest[depth])
        whole = (n_rows, *child.shape)
        found = decoding.log_probs(depth, child.expand(whole), there.expand(whole))
        score = (score.unsqueeze(2) + found)[:, there]
        child, prefix = child[there], there.nonzero()[:, 0]
        if depth + 1 == trie.n_levels:
            leaves.append((trie.item[child], score))
            continue
        parts = (child.split(block), prefix.split(block), score.split(block, dim=1))
        for part in zip(*parts, strict=True):
            waiting.append((depth + 1, *part, decoding))
    items, found = (torch.cat(parts, dim=-1) for parts in zip(*leaves, strict=True))
    scores = found.new_full((n_rows, trie.n_items), -torch.inf)
    return scores.index_copy(1, items, found)
