"""The plots of a comparison. Every function makes a figure; `save` writes it as PNG and SVG."""

from __future__ import annotations

import io
import logging
import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_hstu.records.run_record import RunRecord, by_label
from recbole_hstu.support.errors import InputError, packages_needed, writing
from recbole_hstu.support.files.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# Okabe and Ito's palette, which the common kinds of colour blindness tell apart, without its
# yellow (too pale on white) and black (lost on a dark page). Marker and dash repeat what the
# colour says, so that nothing rests on colour alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
HATCHES = ("", "//", "..", "xx")
TEXT_COLOUR = "#1f2430"
"""The colour of text and axes; the HTML page replaces it by the reader's own."""

_STYLE: dict[Any, Any] = {
    "axes.facecolor": "none",
    "axes.edgecolor": TEXT_COLOUR,
    "axes.labelcolor": TEXT_COLOUR,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#8a8f9a",
    "grid.alpha": 0.25,
    "text.color": TEXT_COLOUR,
    "xtick.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    "legend.frameon": False,
    "hatch.color": "white",
    "font.size": 10,
    "axes.titlesize": 11,
}

SEGMENT_TITLES = {
    "users": "users by history length",
    "items": "targets by popularity in training",
}


def training_curves(records: Sequence[RunRecord], metric: str) -> Figure:
    """Training loss and a validation metric, against epochs and against wall-clock seconds."""
    with new_figure(10, 6.4) as figure:
        axes = figure.subplots(2, 2)
        styles = _styles(records)
        for record in (r for r in records if r.history):
            style = styles[record.label] | {"markevery": max(1, len(record.history) // 12)}
            styles[record.label]["label"] = None  # one entry of the legend for all its seeds
            judged = [e for e in record.history if metric in e.valid]
            for column, along in enumerate(("epoch", "seconds")):
                x = [getattr(e, along) for e in record.history]
                axes[0, column].plot(x, [e.train_loss for e in record.history], **style)
                x = [getattr(e, along) for e in judged]
                axes[1, column].plot(x, [e.valid[metric] for e in judged], **style)
        for column, words in enumerate(("epoch", "seconds of training")):
            losses = [e.train_loss for r in records for e in r.history]
            _scale(axes[0, column], "y", losses)
            axes[0, column].set_ylabel("training loss (each model's own)")
            axes[1, column].set_ylabel(f"validation {metric}")
            for row in (0, 1):
                axes[row, column].set_xlabel(words)
                axes[row, column].locator_params(axis="x", integer=True)
        _legend(figure, axes[0, 0])
    return figure


def segment_bars(records: Sequence[RunRecord], kind: str, metric: str) -> Figure:
    """A metric by segment: `kind` is "users" (history length) or "items" (popularity).

    Bars are means over seeds; the sizes under the segments are those of the first run. Runs that
    were cut into other segments are left out, which the log tells.
    """
    cut = [record for record in records if record.segments.get(kind)]
    if not cut:
        raise InputError(f"no run has metrics of {SEGMENT_TITLES[kind]}: nothing to plot")
    first = cut[0].segments[kind]
    bounds = f"{kind.removesuffix('s')}_segments"

    def parts_of(record: RunRecord) -> tuple[Any, list[str]]:
        return record.config.get(bounds), [part.name for part in record.segments[kind]]

    alike = [record for record in cut if parts_of(record) == parts_of(cut[0])]
    odd = dict.fromkeys(r.label for r in cut if parts_of(r) != parts_of(cut[0]))
    if odd:
        logger.warning("%s: %s has others and is not drawn", SEGMENT_TITLES[kind], ", ".join(odd))
    groups = {
        label: [record.segments[kind] for record in runs] for label, runs in by_label(alike).items()
    }
    with new_figure(10, 4.4) as figure:
        axes = figure.subplots()
        styles = _styles(records)
        width = 0.8 / len(groups)
        for place, (label, runs) in enumerate(groups.items()):
            heights = [_segment_mean(runs, i, metric) for i in range(len(first))]
            x = [i + (place - (len(groups) - 1) / 2) * width for i in range(len(first))]
            hatch = HATCHES[place // len(COLOURS) % len(HATCHES)]
            colour = styles[label]["color"]
            axes.bar(x, heights, width * 0.94, label=escape_label(label), color=colour, hatch=hatch)
        axes.set_xticks(
            range(len(first)), [f"{s.name}\n{s.users:,} users ({s.share:.0%})" for s in first]
        )
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(f"test {metric}")
        axes.set_title(f"{metric} of {SEGMENT_TITLES[kind]}", color=TEXT_COLOUR)
        _legend(figure, axes)
    return figure


def cost_scatter(records: Sequence[RunRecord], metric: str) -> Figure:
    """A test metric against seconds of training and against parameters; a point a run."""
    with new_figure(10, 4.2) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        styles = _styles(records)
        finished = [run for run in records if metric in run.metrics]
        for label, runs in by_label(finished).items():
            y = [run.metrics[metric] for run in runs]
            style = styles[label] | {"linestyle": "none", "markersize": 8, "alpha": 0.85}
            axes[0].plot([run.training_seconds for run in runs], y, **style)
            axes[1].plot([run.parameters for run in runs], y, **style)
        _scale(axes[0], "x", [run.training_seconds for run in finished], prefixes=False)
        _scale(axes[1], "x", [run.parameters for run in finished])
        axes[0].set_xlabel("seconds of training")
        axes[1].set_xlabel("trainable parameters")
        axes[0].set_ylabel(f"test {metric}")
        _legend(figure, axes[0])
    return figure


def save(figure: Figure, stem: Path | str) -> list[Path]:
    """Write the figure as `stem`.png and `stem`.svg, each whole or not at all.

    Raises:
        CannotWrite: the disk is full, or the folder cannot be written.
    """
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    contents: dict[str, str | bytes] = {".png": png.getvalue(), ".svg": svg(figure, "white")}
    with writing(Path(stem).parent):
        return [write_whole(f"{stem}{suffix}", content) for suffix, content in contents.items()]


def svg(figure: Figure, background: str = "none") -> str:
    """The figure as SVG text with real letters, the same bytes for the same figure."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recbole_hstu"}):
        figure.savefig(stream, format="svg", facecolor=background, metadata={"Date": None})
    return stream.getvalue()


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in the house style, without pyplot and so without a display or global state."""
    with packages_needed("plots", "plot"):
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _styles(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """One look for every label, by its place among all of them."""
    return {
        label: {
            "label": escape_label(label),
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 3.5,
            "linewidth": 1.6,
        }
        for place, label in enumerate(dict.fromkeys(record.label for record in records))
    }


def escape_label(label: str) -> str:
    """Matplotlib takes dollars for mathematics, and leaves out labels that begin with _."""
    label = label.replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def _segment_mean(runs: Sequence[Any], place: int, metric: str) -> float:
    values = [run[place].metrics[metric] for run in runs if metric in run[place].metrics]
    return statistics.fmean(values) if values else math.nan


def _scale(axes: Axes, axis: str, values: Sequence[float], *, prefixes: bool = True) -> None:
    """Logarithmic where a wide range would flatten the small values; 0 keeps a place beside.

    Args:
        prefixes: 2,000,000 is shown as 2 M; seconds are not, where 0.1 would be "100 m".
    """
    from matplotlib.ticker import EngFormatter, FuncFormatter

    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if positive and max(positive) > 20 * min(positive):
        zero = any(value <= 0 for value in values)
        options = {"linthresh": min(positive)} if zero else {}
        getattr(axes, f"set_{axis}scale")("symlog" if zero else "log", **options)
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    getattr(axes, f"{axis}axis").set_major_formatter(EngFormatter() if prefixes else plain)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 6), markerscale=1.3
        )
