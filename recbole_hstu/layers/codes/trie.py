"""The semantic ids of a catalogue as a tree, in a few sorted tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn


class CodeTrie(nn.Module):
    """A node stands for some first codes that items share; the root for none, a leaf for an item.

    Nodes are numbered depth by depth, within a depth in the order of their codes: the children of
    a node have consecutive numbers. A code is numbered over all levels: those of level 0 first.

    Args:
        codes: (V, levels) int64, row 0 is the padding; no two items have the same row.
        level_sizes: how many codes each level has.

    Attributes:
        code: (N,) the last code of a node; of the root 0, which means nothing.
        parent: (N,) nodes.
        first: (N + 1,) the first child of a node; they end where those of the next node begin.
        item: (N,) the item of a leaf, elsewhere 0.
        path: (V, levels + 1) the nodes from the root to an item; of the padding 0 throughout.
        starts: the first node of each depth, and N.
        slices: of each level in a table over all codes.
        widest: how many children a node of each depth has at most.
    """

    code: torch.Tensor
    parent: torch.Tensor
    first: torch.Tensor
    item: torch.Tensor
    path: torch.Tensor

    def __init__(self, codes: torch.Tensor, level_sizes: Sequence[int]):
        super().__init__()
        self.n_items, self.n_levels = codes.shape
        ends = np.cumsum(level_sizes).tolist()
        self.slices = [slice(*pair) for pair in zip([0, *ends], ends, strict=False)]
        numbered = codes[1:].cpu().numpy() + np.array([part.start for part in self.slices])
        order = np.lexsort(numbered.T[::-1])
        sorted_codes = numbered[order]
        nodes, leads, self.starts = _nodes(sorted_codes)
        code = [np.zeros(1, np.int64)]
        code += [sorted_codes[lead, depth] for depth, lead in enumerate(leads[1:])]
        parent = [np.zeros(1, np.int64)]
        parent += [nodes[lead, depth] for depth, lead in enumerate(leads[1:])]
        path = np.zeros((self.n_items, self.n_levels + 1), np.int64)
        path[order + 1] = nodes
        item = np.zeros(self.starts[-1], np.int64)
        item[nodes[:, -1]] = order + 1
        parents = np.concatenate(parent)
        first = 1 + np.searchsorted(parents[1:], np.arange(self.starts[-1] + 1))
        tables = {"code": np.concatenate(code), "parent": parents, "first": first}
        for name, table in {**tables, "item": item, "path": path}.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        counts = np.diff(first)
        inner = pairwise(self.starts[:-1])
        self.widest = [int(counts[start:end].max()) for start, end in inner]

    def size(self, depth: int) -> int:
        """How many nodes a depth has."""
        return self.starts[depth + 1] - self.starts[depth]

    def n_children(self, node: torch.Tensor) -> torch.Tensor:
        """(...) -> (...)."""
        return self.first[node + 1] - self.first[node]

    def branches(self, node: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The children of nodes (...), (..., width), and which of them there are; in the place of
        those that there are not stands the first."""
        offset = torch.arange(width, device=node.device)
        there = offset < self.n_children(node).unsqueeze(-1)
        return self.first[node].unsqueeze(-1) + offset * there, there

    def forks(self, depth: int) -> torch.Tensor:
        """The nodes of a depth that have several children, those with fewer first: elsewhere there
        is nothing to choose."""
        nodes = torch.arange(*self.starts[depth : depth + 2], device=self.first.device)
        counts = self.n_children(nodes)
        order = torch.argsort(counts, stable=True)
        return nodes[order[counts[order] > 1]]


def _nodes(codes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """From sorted codes (R, levels): the node of every row at every depth, (R, levels + 1), the
    first row of every node depth by depth, and the first node of every depth."""
    is_new = np.zeros(len(codes), bool)
    is_new[0] = True
    nodes, leads, starts = [np.zeros(len(codes), np.int64)], [np.zeros(1, np.int64)], [0, 1]
    for column in codes.T:
        is_new[1:] |= column[1:] != column[:-1]
        nodes.append(starts[-1] + is_new.cumsum() - 1)
        leads.append(np.flatnonzero(is_new))
        starts.append(starts[-1] + len(leads[-1]))
    return np.stack(nodes, axis=1), leads, starts
