"""The rows of a loader as a range of numbers and a permutation, not as Python's lists of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, Sampler

from recbole_hstu.data.files.token_codes import blocks


class Shuffled(Sampler):
    """The rows in the order that torch's `RandomSampler` draws, 8 bytes a row instead of 44.

    Args:
        n_rows: how many there are.
        generator: what the order of every epoch is drawn from.
    """

    def __init__(self, n_rows: int, generator: torch.Generator):
        self.n_rows, self.generator = n_rows, generator

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.n_rows, generator=self.generator)
        for rows in blocks(self.n_rows, 1 << 12):
            yield from order[rows].tolist()
        # `RandomSampler` draws a second order for what is left, though nothing is: the next epoch
        # goes on from there.
        torch.randperm(self.n_rows, generator=self.generator)


def without_lists(loader: Any) -> Any:
    """One of RecBole's loaders, which then no longer holds a Python number for every row."""
    if not isinstance(loader, DataLoader):  # of knowledge graphs: two loaders in one
        return loader
    kept = vars(loader)  # torch guards these attributes, RecBole gives `dataset` another meaning
    kept["dataset"] = rows = range(len(kept["dataset"]))
    if isinstance(kept["sampler"], RandomSampler):
        kept["batch_sampler"].sampler = kept["sampler"] = Shuffled(len(rows), kept["generator"])
    else:
        kept["sampler"].data_source = rows
    return loader
