"""How often items have occurred lately, as a term of their scores.

A Re-visit of the Popularity Baseline in Recommender Systems (Ji et al., SIGIR 2020,
https://arxiv.org/abs/2005.13829) counts in a recent window; PrepRec (Wang et al., RecSys 2024,
https://arxiv.org/abs/2401.01497) in a long and a short one, and adds what it learns to the scores
of other models. Knows no RecBole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.support.errors import InputError
from recbole_hstu.support.time_unit import ticks_a_second

SECONDS_A_DAY = 86_400
# Times are rounded down to a bin, of which the shortest window has so many.
BINS_A_WINDOW = 4
MAX_BYTES = 1 << 30
_LAST_BIN = (1 << 31) - 2
_MOST_DAYS = 100_000
# Of a window's logarithm, before training.
FIRST_WEIGHT = 0.02


class RecentCounts(nn.Module):
    """sum_w weight_w * log(1 + events of an item in the w-th window before a time).

    A window ends where the bin of the time begins, so that neither the event that is asked for nor
    any later one is counted. After the last event known all times are as the first bin without one.

    Args:
        n_items: V, padding included.
        days: lengths of the windows, which are rounded to quarters of the shortest.
        items: (E,) int64, of the training events.
        times: (E,) int64, in seconds or milliseconds.
        further: items and times (G,) of what came after the training, which no checkpoint keeps.
            With them all events are those given here; else a checkpoint brings its own.

    Raises:
        InputError: no windows, or counts that would not fit `MAX_BYTES`.
    """

    bins: torch.Tensor
    items: torch.Tensor
    scale: torch.Tensor
    further_bins: torch.Tensor
    further_items: torch.Tensor
    table: torch.Tensor

    def __init__(
        self,
        *,
        n_items: int,
        days: Sequence[float],
        items: torch.Tensor,
        times: torch.Tensor,
        further: tuple[torch.Tensor, torch.Tensor] | None = None,
    ):
        super().__init__()
        if not days or not all(isinstance(d, int | float) and 0 < d <= _MOST_DAYS for d in days):
            raise InputError(
                f"recent_days: {days!r} must be days of windows, such as [4, 28], at most "
                f"{_MOST_DAYS:,}"
            )
        self.n_items, self.knows_all = n_items, further is not None
        self.spans = [round(BINS_A_WINDOW * d / min(days)) for d in days]
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        size = max(1, int(min(days) * SECONDS_A_DAY * ticks_a_second(last) / BINS_A_WINDOW))
        if (last - first) // size > _LAST_BIN:
            raise InputError(
                f"recent_days: times from {first} to {last} have too many bins of {size}; a longer "
                "shortest window has longer bins"
            )
        self.register_buffer("bins", ((times - first) // size).int())
        self.register_buffer("items", items.int())
        self.register_buffer("scale", torch.tensor([first, size]))
        self.register_buffer("table", torch.empty(0), persistent=False)
        for name in ("further_bins", "further_items"):
            self.register_buffer(name, self.bins[:0].clone(), persistent=False)
        self.weight = nn.Parameter(torch.full((len(days),), FIRST_WEIGHT))
        if further is None:
            self._count()
        else:
            self.add_events(*further)

    def _count(self) -> None:
        """Make `table`, (bins + 1, V, W): the logarithms at the beginning of every bin."""
        bins = torch.cat([self.bins, self.further_bins]).long()
        items = torch.cat([self.items, self.further_items]).long()
        n_bins = int(bins.max()) + 2 if len(bins) else 1
        size = 4 * n_bins * self.n_items * len(self.spans)
        if size > MAX_BYTES:
            raise InputError(
                f"recent_days: the counts of {self.n_items:,} items in {n_bins:,} bins would take "
                f"{size / 2**30:.1f} GiB; a longer shortest window has longer bins"
            )
        before = torch.zeros(n_bins, self.n_items, device=bins.device)
        before.index_put_((bins + 1, items), before.new_ones(len(bins)), accumulate=True)
        before = before.cumsum(0)  # row b: all events before bin b
        place = torch.arange(n_bins, device=before.device)
        windows = [before - before[(place - span).clamp(min=0)] for span in self.spans]
        self.table = torch.stack(windows, dim=-1).log1p_().to(self.weight.dtype)

    def places(self, times: torch.Tensor) -> torch.Tensor:
        """The bins of int64 times, same shape."""
        first, size = self.scale
        return ((times - first) // size).clamp(0, len(self.table) - 1)

    def of_pairs(self, places: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """(T,) places and their items (T, K) -> (T, K)."""
        flat = places.unsqueeze(1) * self.n_items + items
        return F.embedding(flat, self.table.flatten(0, 1)) @ self.weight

    in_training = of_pairs  # the next event lies after every bin that is counted

    def features_in_training(
        self, places: torch.Tensor, _next_items: torch.Tensor
    ) -> list[torch.Tensor]:
        """(T,) places -> what `in_training` takes the weighted sum of, of the items 1 .. V - 1: a
        (T, V - 1) for each window."""
        return [self.table[places, 1:, window] for window in range(len(self.spans))]

    def at(self, places: torch.Tensor, items: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """(B,) places and n items that all of them share -> (B, n)."""
        if not isinstance(items, slice):
            places = places.unsqueeze(1)
        return self.table[places, items] @ self.weight

    @torch.no_grad()
    def add_items(self, n: int) -> None:
        """Further items behind the others, which no event has."""
        self.n_items += n
        self.table = F.pad(self.table, (0, 0, 0, n))

    @torch.no_grad()
    def add_events(self, items: torch.Tensor, times: torch.Tensor) -> None:
        """Count further events (E,), in the unit of the others; those before all others count as
        the first.

        Raises:
            InputError: times of another unit, or counts that would not fit `MAX_BYTES`; then
                nothing has changed.
        """
        first, size = self.scale
        newest = int(first + size * self.bins.max()) if len(self.bins) else int(first)
        if len(times) and ticks_a_second(int(times.max())) != ticks_a_second(newest):
            raise InputError(
                f"events: time {int(times.max())} is not in the unit of the training, whose last "
                f"events have about {newest}"
            )
        bins = ((times - first) // size).clamp(0, _LAST_BIN).int()
        before = self.further_bins, self.further_items
        self.further_bins = torch.cat([self.further_bins, bins])
        self.further_items = torch.cat([self.further_items, items.int()])
        try:
            self._count()
        except InputError:
            self.further_bins, self.further_items = before
            raise

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """The events come with the weights: a checkpoint that is served knows no others."""
        names = [name for name in ("bins", "items", "scale") if f"{prefix}{name}" in state]
        if self.knows_all:
            state = {**state, **{f"{prefix}{name}": getattr(self, name) for name in names}}
        for name in names:
            setattr(self, name, state[f"{prefix}{name}"].to(self.weight.device))
        super()._load_from_state_dict(state, prefix, *args)
        self._count()
