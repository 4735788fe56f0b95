"""From a folder of finished runs to tables, plots and one HTML page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_hstu.evaluation.metrics import mean_metrics
from recbole_hstu.records.rank_file import read_rank_file
from recbole_hstu.records.run_record import RunRecord, quoted_name, read_records
from recbole_hstu.records.same_terms import check_same_terms
from recbole_hstu.reports import plots
from recbole_hstu.reports.html_page import Section, html_page
from recbole_hstu.reports.study_table import (
    ReportOptions,
    beyond_table,
    check_baselines,
    study_table,
    write_tables,
)
from recbole_hstu.support.commands.command_options import known_options
from recbole_hstu.support.errors import InputError, writing
from recbole_hstu.support.files.whole_file import write_whole
from recbole_hstu.support.yaml_values import comma_separated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


def report(folder: Path | str, options: Mapping[str, Any]) -> list[Path]:
    """The command: `out`, `baseline`, `metrics` and `plot_metric` as the command line has them.

    Raises:
        InputError: an unknown option, or see `write_report`.
    """
    options = known_options(options, ("out", "baseline", "metrics", "plot_metric"), ())
    records = read_records(folder)
    known = list(dict.fromkeys(name for record in records for name in record.metrics))
    metrics, baselines = (comma_separated(key, options.get(key)) for key in ("metrics", "baseline"))
    default = (
        "ndcg@10" if "ndcg@10" in known else next((n for n in known if n[:4] == "ndcg"), "mrr")
    )
    plot_metric = str(options.get("plot_metric") or default)
    if "," in plot_metric:
        raise InputError(f"--plot_metric={plot_metric}: a plot has one metric; name one")
    for name in (*metrics, plot_metric):
        if name not in known and not _from_ranks(name):
            raise InputError(
                f"report: no run has the metric {name}; known are {', '.join(known)}, and every "
                "hit@k, ndcg@k, mrr@k where ranks were kept"
            )
    return write_report(
        folder,
        Path(str(options.get("out") or Path(folder) / "report")),
        ReportOptions(
            metrics=metrics or None,
            plot_metric=plot_metric,
            baseline=baselines[0] if baselines else None,
            baselines=baselines,
        ),
    )


def _from_ranks(name: str) -> bool:
    """Whether a metric can be had from ranks alone."""
    try:
        mean_metrics(np.ones(1, dtype=np.int64), [name])
    except ValueError:
        return False
    return True


def _with_metrics(record: RunRecord, folder: Path, wanted: Iterable[str]) -> RunRecord:
    """The record with the wanted metrics that it lacks, where its ranks can tell them."""
    missing = [name for name in wanted if name not in record.metrics and _from_ranks(name)]
    if not missing or not record.rank_file:
        return record
    ranks = read_rank_file(folder / record.rank_file).ranks
    return replace(record, metrics={**record.metrics, **mean_metrics(ranks, missing)})


def write_report(folder: Path | str, out: Path | str, options: ReportOptions) -> list[Path]:
    """Write tables (.md, .csv, .tex), plots (.png, .svg) and index.html to `out`.

    Files are named after data set and protocol; each appears whole or not at all.

    Returns:
        the paths written, index.html last.

    Raises:
        InputError: no runs in `folder`, a damaged file, an unknown baseline, no matplotlib; runs
            that cannot stand in one table.
    """
    out, written, sections = Path(out), [], []
    wanted = (*(options.metrics or ()), options.plot_metric)
    every = [_with_metrics(record, Path(folder), wanted) for record in read_records(folder)]
    check_baselines((record.label for record in every), options)
    groups = _by_dataset_and_protocol(every, options.order)
    for records in groups.values():
        check_same_terms(records)
    tables = [study_table(records, folder, options) for records in groups.values()]
    for ((dataset, protocol), records), table in zip(groups.items(), tables, strict=True):
        stem = quoted_name(dataset, protocol)
        written += write_tables(table, records, out / stem)
        drawn = []
        for name, (caption, figure) in _plots(records, options.plot_metric).items():
            written += plots.save(figure, out / f"{stem}+{name}")
            drawn.append((caption, plots.svg(figure)))
        sections.append(Section(table, records, drawn, beyond_table(records)))
    with writing(out):
        return [*written, write_whole(out / "index.html", html_page(sections))]


def _by_dataset_and_protocol(
    records: Sequence[RunRecord], order: Sequence[str]
) -> dict[tuple[str, str], list[RunRecord]]:
    """The runs of each data set and protocol, by label as `order` says, then by seed."""
    place = {label: i for i, label in enumerate(order)}
    for record in sorted(records, key=lambda r: r.label):
        place.setdefault(record.label, len(place))
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in sorted(records, key=lambda r: (r.dataset, r.protocol, place[r.label], r.seed)):
        groups.setdefault((record.dataset, record.protocol), []).append(record)
    return groups


def _plots(records: Sequence[RunRecord], metric: str) -> dict[str, tuple[str, Figure]]:
    """name -> (caption, figure), as far as the runs have what a figure shows."""
    drawn = {}
    if any(record.history for record in records):
        caption = f"Training loss and validation {metric}, a line a run."
        drawn["curves"] = (caption, plots.training_curves(records, metric))
    for kind, words in plots.SEGMENT_TITLES.items():
        parts = [part for record in records for part in record.segments.get(kind, ())]
        if parts and not any(metric in part.metrics for part in parts):
            logger.warning("no run has %s of %s: the plot is left out", metric, words)
        elif parts:
            caption = f"Test {metric} of {words}, mean over seeds."
            drawn[kind] = (caption, plots.segment_bars(records, kind, metric))
    if any(metric in record.metrics for record in records):
        caption = f"Test {metric} against the cost of training, a point a run."
        drawn["cost"] = (caption, plots.cost_scatter(records, metric))
    return drawn
