"""The plots of a search: parallel coordinates of its trials, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbole_hstu.reports.plots import COLOURS, TEXT_COLOUR, escape_label, new_figure
from recbole_hstu.tuning.space import Parameter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STOPPED_COLOUR = "#8a8f9a"


@dataclass(frozen=True)
class _Axis:
    """One vertical axis: where a value stands (0 to 1), and its ticks."""

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def position(self, value: Any) -> float:
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[Any]:
        if self.choices:
            return list(self.choices)
        if self.low == self.high:
            return [self.low]
        steps = min(4, int(self.high - self.low)) if self.whole else 4
        shares = [i / steps for i in range(steps + 1)]
        if self.log:
            return [self.low * (self.high / self.low) ** share for share in shares]
        ticks = [self.low + share * (self.high - self.low) for share in shares]
        return sorted({round(tick) for tick in ticks}) if self.whole else ticks


def parallel_coordinates(
    parameters: Sequence[Parameter],
    finished: Sequence[tuple[Mapping[str, Any], float]],
    stopped: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    bigger: bool,
) -> Figure:
    """A line a trial through its options to its validation score; the best one is thick.

    Args:
        finished: options and score of the trials that came to their end.
        stopped: options of those that were stopped early: dotted, without a score.
    """
    scores = [score for _, score in finished]
    axes = [*map(_axis, parameters), _Axis(metric, min(scores), max(scores))]
    best = max(scores) if bigger else min(scores)
    with new_figure(1.7 * len(axes) + 1, 4.4) as figure:
        from matplotlib import colormaps  # `new_figure` says so where it is missing

        plane = figure.subplots()
        for options in stopped:
            y = [axis.position(options[axis.name]) for axis in axes[:-1]]
            plane.plot(range(len(y)), y, color=_STOPPED_COLOUR, linewidth=0.9, linestyle=":")
        for options, score in sorted(finished, key=lambda f: f[1], reverse=not bigger):
            y = [axis.position({**options, metric: score}[axis.name]) for axis in axes]
            share = y[-1] if bigger else 1 - y[-1]
            colour = colormaps["viridis_r"](0.15 + 0.85 * share)  # without the pale end
            plane.plot(range(len(y)), y, color=colour, linewidth=3.2 if score == best else 1.4)
        _draw_axes(plane, axes)
        plane.set_title(
            f"{len(finished)} finished trials, the best one thick"
            + (f"; {len(stopped)} stopped early, dotted" if stopped else ""),
            color=TEXT_COLOUR,
        )
    return figure


def importance_bars(importances: Mapping[str, float], metric: str) -> Figure:
    """The share of each option in the differences of the score (fANOVA), the largest on top."""
    names = sorted(importances, key=lambda name: importances[name])
    with new_figure(7, 1.4 + 0.4 * len(names)) as figure:
        plane = figure.subplots()
        bars = plane.barh(range(len(names)), [importances[n] for n in names], color=COLOURS[0])
        plane.bar_label(bars, fmt="%.2f", padding=3, color=TEXT_COLOUR)
        plane.set_yticks(range(len(names)), [escape_label(name) for name in names])
        plane.tick_params(axis="y", length=0)
        plane.grid(visible=False, axis="y")
        plane.set_xlim(0, 1.08 * max(importances.values()))
        plane.set_xlabel(f"share of the differences in validation {metric} (fANOVA)")
    return figure


def _axis(parameter: Parameter) -> _Axis:
    if parameter.kind == "choice":
        return _Axis(parameter.name, choices=parameter.values)
    low, high = parameter.values[:2]
    log, whole = parameter.kind == "loguniform", parameter.kind == "int"
    return _Axis(parameter.name, low, high, log=log, whole=whole)


def _draw_axes(plane: Any, axes: Sequence[_Axis]) -> None:
    for x, axis in enumerate(axes):
        plane.axvline(x, color=TEXT_COLOUR, linewidth=0.8)
        for tick in axis.ticks():
            text = f"{tick:.3g}" if isinstance(tick, float) else str(tick)
            plane.annotate(
                escape_label(text),
                (x, axis.position(tick)),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.75, "lw": 0},
            )
    plane.set_xticks(range(len(axes)), [escape_label(axis.name) for axis in axes], fontsize=9)
    plane.set_xlim(-0.15, len(axes) - 0.6)
    plane.set_ylim(-0.04, 1.04)
    plane.set_yticks([])
    plane.grid(visible=False)
    for side in ("left", "bottom"):
        plane.spines[side].set_visible(False)
    plane.tick_params(axis="x", length=0)
