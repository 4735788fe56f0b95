"""Training batches of windows, in which many targets share a history."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.data.transform import Equal

from recbole_hstu.data.rows.own_rows import OwnRowsLoader
from recbole_hstu.data.rows.padded_lists import beginnings, length_ranges
from recbole_hstu.data.rows.row_numbers import without_lists
from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS, SequenceRows
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.batch_share import BatchShare, own_places
from recbole_hstu.support.errors import InputError

# Scores of the catalogue that a part of a batch may make at once: 64 MiB of float32.
_MOST_SCORES = 1 << 24
_LEAST_TARGETS = 64  # of a part; below that the gradient of the item table costs more than the rest


Loader = TypeVar("Loader", bound="WindowLoader")


class WindowBatch(Interaction):
    """T targets, and the B windows that their histories lie in.

    Asked for a list field or the length of the lists it gives those of the windows, (B, ...);
    asked for any other field that of the targets, (T, ...).

    Args:
        targets: the fields of the targets.
        windows: the list fields (B, N, ...), padded on the right, and their lengths (B,).
        row: (T,) int64, the window of each target.
        place: (T,) int64, the position in it after which the target comes.
        share: which of a batch's targets these are.
        most: how many targets a part may hold, see `parts`, for the memory of its step.
    """

    def __init__(
        self,
        targets: dict[str, torch.Tensor],
        windows: dict[str, torch.Tensor],
        row: torch.Tensor,
        place: torch.Tensor,
        share: BatchShare,
        most: int,
    ):
        super().__init__(targets)
        self.windows, self.row, self.place = windows, row, place
        self.share, self.most = share, most

    def __getitem__(self, index: Any) -> Any:
        """A field by its name; or some of the targets with the windows that they lie in, as far as
        the last of them reaches."""
        if isinstance(index, str):
            return self.windows[index] if index in self.windows else self.interaction[index]
        used, row = torch.unique(self.row[index], return_inverse=True)
        targets = {field: values[index] for field, values in self.interaction.items()}
        place = self.place[index]
        width = int(place.max()) + 1 if len(place) else 0
        windows = {
            field: values[used] if values.dim() == 1 else values[used, :width]
            for field, values in self.windows.items()
        }
        return WindowBatch(targets, windows, row, place, self.share.of(index.cpu()), self.most)

    def __contains__(self, field: object) -> bool:
        return field in self.windows or field in self.interaction

    def to(self, device: Any, selected_field: Any = None) -> WindowBatch:
        """The whole batch on a device."""
        targets, windows = (
            {field: values.to(device) for field, values in fields.items()}
            for fields in (self.interaction, self.windows)
        )
        row, place = self.row.to(device), self.place.to(device)
        return WindowBatch(targets, windows, row, place, self.share, self.most)

    def gather(self, states: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """In the place of RecBole's `gather_indexes`: (B, N, D) states of every position -> (T, D),
        those that every target comes after; `last` (B,) is not asked for."""
        return states[self.row, self.place]

    def prefixes(self, length_field: str) -> Interaction:
        """The same targets as RecBole has them: a row each, with a history of its own, which
        begins where its window begins."""
        length = self.place + 1
        lists = {f: values[self.row] for f, values in self.windows.items() if f != length_field}
        return Interaction(self.interaction | beginnings(lists, length) | {length_field: length})

    def parts(self, most: int) -> Iterator[tuple[WindowBatch, float]]:
        """Parts of whole windows of like length, of about `most` targets each, as wide as they are
        long, and how much of the batch each is: if the loss is a mean over targets, the parts'
        weighted losses add up to that of all. On a GPU windows of all lengths stay together."""
        longest = torch.zeros_like(self.row[: int(self.row.max()) + 1])
        longest = longest.scatter_reduce_(0, self.row, self.place + 1, "amax")
        kind = length_ranges(longest)
        if kind.is_cuda:
            kind.zero_()
        for each in torch.unique(kind).tolist():
            inside = torch.nonzero(kind[self.row] == each).squeeze(1)
            row = self.row[inside]
            part = ((torch.bincount(row).cumsum(0) - 1) // most)[row]
            for number in torch.unique(part).tolist():
                index = inside[part == number]
                yield self[index], len(index) / len(self.row)


class WindowLoader(TrainDataLoader):
    """`TrainDataLoader` of windows: `train_batch_size` counts their targets, so that an epoch has
    as many steps as over prefixes, and negatives are drawn by RecBole's sampler for each of them.

    With several processes all draw alike for the whole batch and read their own windows.
    """

    view = "window"

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = False):
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        self._counts = dataset.inter_feat[OWN_TARGETS]
        self.n_targets = int(self._counts.sum())
        self._most = self.n_targets * self.times
        if self.neg_sample_args["distribution"] == "none":  # a loss over the whole catalogue
            self._most = max(_LEAST_TARGETS, _MOST_SCORES // dataset.item_num)

    @staticmethod
    def laid_out(rows: SequenceRows) -> SequenceRows:
        """Rows of prefixes as windows."""
        return rows.windows()

    def __len__(self) -> int:
        return math.ceil(self.n_targets / self.step)

    def __iter__(self) -> Iterator[WindowBatch]:
        numbers: Any = range(len(self._counts))
        return iter(
            torch.utils.data.DataLoader(
                numbers,
                batch_sampler=self.batches(),
                collate_fn=self.collate_fn,
                num_workers=self.num_workers,
                generator=self.generator,
            )
        )

    def batches(self) -> Iterator[list[int]]:
        """The windows of an epoch's batches: a new one begins with the window in which the targets
        so far pass the next multiple of `train_batch_size`."""
        n_windows = len(self._counts)
        order = torch.arange(n_windows)
        if self.shuffle:
            order = torch.randperm(n_windows, generator=self.generator)
        batch = (self._counts[order].cumsum(0) - 1) // self.step
        ends = torch.unique_consecutive(batch, return_counts=True)[1].cumsum(0)
        # The order is drawn now, the lists are made one after the other.
        return (order[a:b].tolist() for a, b in pairwise([0, *ends.tolist()]))

    def by_targets(self, windows: list[int]) -> list[int]:
        """These windows, those with the most targets first."""
        return sorted(windows, key=lambda window: -int(self._counts[window]))

    def collate_fn(self, index: Any) -> WindowBatch:
        """This process's windows of a batch, or the first where there is none for it."""
        rows = self._dataset.inter_feat[np.array(index)]
        targets, row, place = rows.window_targets()
        targets = self._neg_sampling(self._dataset.join(targets))
        row, place = (part.repeat(len(targets) // len(part)) for part in (row, place))
        own, idle = own_places(len(rows), processes.rank(), processes.count())
        chosen = torch.tensor(own)
        mine = torch.nonzero(torch.isin(row, chosen)).squeeze(1)
        return WindowBatch(
            targets[mine].interaction,
            rows.select(chosen).histories(),
            torch.searchsorted(chosen, row[mine]),
            place[mine],
            BatchShare(mine, len(row), idle=idle),
            self._most,
        )


def window_loader(train: Any) -> WindowLoader:
    """The targets of a loader of prefixes in windows.

    Raises:
        InputError: they cannot be laid into windows.
    """
    if not isinstance(train.transform, Equal):
        raise InputError(f"transform: {train.config['transform']} changes every history")
    return in_windows(train, WindowLoader)


def in_windows(train: Any, loader: type[Loader]) -> Loader:
    """A loader of windows with the targets of a loader of prefixes.

    Raises:
        InputError: they cannot be laid into windows.
    """
    kind = next(k for k in type(train).__mro__ if not issubclass(k, OwnRowsLoader))
    rows = train._dataset.inter_feat
    if kind is not TrainDataLoader or not isinstance(rows, SequenceRows):
        raise InputError("its data are of a kind of their own")
    if train.neg_sample_args.get("dynamic", False):
        raise InputError("train_neg_sample_args: dynamic scores every history on its own")
    windows = train._dataset.copy(loader.laid_out(rows))
    return without_lists(loader(train.config, windows, train._sampler, shuffle=train.shuffle))
