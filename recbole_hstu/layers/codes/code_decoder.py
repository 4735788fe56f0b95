"""An item's codes one after the other, given a hidden state: NADE over semantic ids.

The Neural Autoregressive Distribution Estimator (Larochelle and Murray, AISTATS 2011),
https://proceedings.mlr.press/v15/larochelle11a.html, with codes in the place of bits. It takes the
place that the depth transformer has in the RQ-Transformer (Lee et al., CVPR 2022),
https://arxiv.org/abs/2203.01941: what a prefix adds is a sum, so that it can be shared by users.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.layers.codes.trie import CodeTrie

# Activations of one block of `scores`: as many as stay in a CPU's cache, and more on a GPU.
_BLOCK = {"cpu": 1 << 19, "cuda": 1 << 26}


class CodeDecoder(nn.Module):
    """p(item | h) as a product over the levels, of a softmax over the codes that exist there:

        a_0 = A h + b;  a_l = a_{l-1} + E[c_l]
        p(c | c_1 .. c_l, h) = softmax over the children c of the prefix of w_c . SiLU(a_l) + b_c

    So the probabilities of all items add up to one, and a prefix with one child costs nothing.

    Args:
        hidden_size: D of the hidden state.
        inner_size: width of a.
        n_codes: of all levels together.
    """

    def __init__(self, *, hidden_size: int, inner_size: int, n_codes: int):
        super().__init__()
        self.start = nn.Linear(hidden_size, inner_size)
        self.codes = nn.Parameter(torch.empty(n_codes, inner_size))  # E
        self.weight = nn.Parameter(torch.empty(n_codes, inner_size))  # w
        self.bias = nn.Parameter(torch.zeros(n_codes))
        nn.init.normal_(self.codes, std=0.02)
        nn.init.normal_(self.weight, std=inner_size**-0.5)

    def log_probs(self, trie: CodeTrie, hidden: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """(T,) log-probability of an item each, from (T, D) hidden states."""
        a, path = self.start(hidden), trie.path[item]
        total = hidden.new_zeros(len(item), dtype=_at_least_float32(hidden))
        for depth in range(trie.n_levels):
            node, after = path[:, depth], path[:, depth + 1]
            fork = (trie.n_children(node) > 1).nonzero().squeeze(1)
            child, there = trie.branches(node[fork], trie.widest[depth])
            found = self.of_children(trie, depth, a[fork], child, there)
            place = (after - trie.first[node])[fork]
            total = total.index_add(0, fork, found.gather(1, place.unsqueeze(1)).squeeze(1))
            if depth + 1 < trie.n_levels:
                a = a + F.embedding(trie.code[after], self.codes)
        return total

    def of_children(
        self, trie: CodeTrie, depth: int, a: torch.Tensor, child: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """(..., C) log-probability of the children of prefixes with the state (..., inner size)."""
        level = trie.slices[depth]
        logits = F.linear(F.silu(a), self.weight[level], self.bias[level])
        logits = logits.to(_at_least_float32(logits))  # also where the layers are in half of it
        logits = logits.gather(-1, trie.code[child] - level.start)
        return logits.masked_fill(~there, -torch.inf).log_softmax(-1)

    def scores(self, trie: CodeTrie, hidden: torch.Tensor) -> torch.Tensor:
        """(B, V) log-probability of every item, -inf for the padding, from (B, D) hidden states."""
        start = self.start(hidden).t()  # users last: they share the nodes
        score, added = start.new_zeros(1, len(hidden)), start.new_zeros(1, len(start))
        for depth in range(trie.n_levels):
            before = trie.starts[depth]
            after = slice(*trie.starts[depth + 1 : depth + 3])
            parent = trie.parent[after] - before
            score = score[parent]
            for node in self._blocks(trie.forks(depth), start):
                child, found = self._of_nodes(trie, node, added[node - before], start)
                score.index_add_(0, child - after.start, found)
            added = added[parent] + self.codes[trie.code[after]]
        scores = score.new_full((trie.n_items, len(hidden)), -torch.inf)
        scores[trie.item[after]] = score
        return scores.t().contiguous()

    def _of_nodes(self, trie, node, added, start) -> tuple[torch.Tensor, torch.Tensor]:
        """The children of nodes (n,), (m,), and their log-probabilities (m, B)."""
        child, there = trie.branches(node, int(trie.n_children(node[-1])))
        code = trie.code[child]
        active = F.silu(added.unsqueeze(2) + start, inplace=True)  # (n, H, B)
        logits = torch.baddbmm(self.bias[code].unsqueeze(2), self.weight[code], active)
        found = logits.masked_fill_(~there.unsqueeze(2), -torch.inf).log_softmax(1)
        return child[there], found[there]

    @staticmethod
    def _blocks(nodes: torch.Tensor, start: torch.Tensor) -> Iterator[torch.Tensor]:
        size = max(1, _BLOCK.get(start.device.type, 1 << 19) // start.numel())
        yield from nodes.split(size) if len(nodes) else ()


class CodeDecoding:
    """The prefixes of a `beam_search`: `layers.codes.decoding.Decoding` of a `CodeDecoder`.

    A prefix is kept as its a (inner size), to which its next code is added.
    """

    def __init__(self, decoder: CodeDecoder, trie: CodeTrie, state: torch.Tensor):
        self.decoder, self.trie, self.state = decoder, trie, state  # (B, k, H)

    def log_probs(self, depth: int, child: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        return self.decoder.of_children(self.trie, depth, self.state, child, there)

    def follow(self, prefix: torch.Tensor, code: torch.Tensor) -> CodeDecoding:
        before = self.state.gather(1, prefix.unsqueeze(2).expand(-1, -1, self.state.shape[2]))
        state = before + F.embedding(code, self.decoder.codes)
        return CodeDecoding(self.decoder, self.trie, state)


def _at_least_float32(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
