"""The rank of every user's target among all items that may be recommended."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recbole_hstu.support.errors import InputError

MISSED: int = torch.iinfo(torch.int64).max
"""The rank of a target that is no candidate: past every k, and worth 0 in every metric."""

_CHUNK_SCORES = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Scores compared at once: on a CPU as many as stay in its cache, on a GPU 256 MiB of them."""

_EXACT_COUNTS = 1 << 24
"""Up to here float32 knows every whole number."""


class TargetRanks(NamedTuple):
    """Two int64 tensors `(B,)` on the scores' device: `rank`, from 1, and `ties`."""

    rank: Tensor
    ties: Tensor


def target_ranks(scores: Tensor, targets: Tensor) -> TargetRanks:
    """The place of each row's target when its candidates are sorted by score.

    Equal scores stand in the order of their ids, as a stable sort leaves them. Ids go by first
    appearance in the data, so that ties have some popularity in them: a model that gives every
    item the same score has an HR@10 of .017 on MovieLens-100K, where chance has .006.

    Candidates are all items but column 0 (padding) and items scored -inf (RecBole's way to mask).
    A target that is no candidate itself has rank `MISSED`. `ties` counts the other candidates that
    score exactly what the target scores, whatever their ids.

    Args:
        scores: `(B, V)` floating point, left as it is.
        targets: `(B,)` int64, item ids in `1..V-1`.

    Raises:
        InputError: a score of a real item is NaN (a NaN compares false, and would rank first).
        ValueError: shapes do not fit, or an id lies outside the catalogue.
    """
    _check_shapes(scores, targets)
    target_scores = scores.gather(1, targets[:, None])
    refuse_nan(scores[:, 1:].amax(dim=1))
    before, equal = counted(scores[:, 1:], target_scores, targets, first=1)
    ties = equal - 1  # the target itself makes one
    missed = target_scores[:, 0] == -torch.inf
    return TargetRanks((before + 1).masked_fill(missed, MISSED), ties.masked_fill(missed, 0))


def counted(
    scores: Tensor, target_scores: Tensor, targets: Tensor, *, first: int
) -> tuple[Tensor, Tensor]:
    """(B,) items before each target, and (B,) that score the same, of a block of the catalogue.

    Args:
        scores: (B, W) of the items from `first` on; no item is masked but by -inf.
        target_scores: (B, 1).
        targets: (B,) int64 item ids.
    """
    rows, width = scores.shape
    before = torch.empty(rows, dtype=torch.int64, device=scores.device)
    ties = torch.empty_like(before)
    ids = torch.arange(first, first + width, device=scores.device)
    step = max(1, _CHUNK_SCORES["cuda" if scores.is_cuda else "cpu"] // width)
    # Ones to be added up, not booleans: on a CPU they are made and counted several times as fast.
    number = torch.float32 if width <= _EXACT_COUNTS else torch.float64
    buffer = torch.empty(min(step, rows), width, dtype=number, device=scores.device)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        items, own = scores[part], target_scores[part]
        ones = buffer[: len(items)]
        before[part] = torch.gt(items, own, out=ones).sum(dim=1)
        ties[part] = torch.eq(items, own, out=ones).sum(dim=1)
        if _others_tie(ties[part], targets[part], first, width):  # rare
            before[part] += ones.mul_(ids < targets[part, None]).sum(dim=1).long()
    return before, ties


def _others_tie(equal: Tensor, targets: Tensor, first: int, width: int) -> bool:
    """Whether an item of the block scores what a target scores, beside the target itself."""
    here = (targets >= first) & (targets < first + width)
    return bool((equal > here.long()).any())


def refuse_nan(highest: Tensor) -> None:
    """Whether the scores of real items are numbers, by the highest of every row, (B,): the maximum
    of a row hands on its NaN.

    Raises:
        InputError: one is NaN.
    """
    not_a_number = highest.isnan()
    if not_a_number.any():
        row = int(not_a_number.nonzero()[0])
        raise InputError(
            f"the model's scores are NaN (first in row {row} of the batch): its training has "
            "diverged; lower the learning rate or look at the training loss"
        )


def _check_shapes(scores: Tensor, targets: Tensor) -> None:
    if scores.dim() != 2 or not scores.is_floating_point() or scores.shape[1] < 2:
        raise ValueError(
            f"scores must be floating point (B, V) with V > 1, not {scores.dtype} "
            f"{tuple(scores.shape)}"
        )
    if targets.shape != scores.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(
            f"targets must be int64 ({len(scores)},), not {targets.dtype} {tuple(targets.shape)}"
        )
    if len(targets) and (targets.min() < 1 or targets.max() >= scores.shape[1]):
        raise ValueError(f"targets must be item ids in 1..{scores.shape[1] - 1}")
