"""From a folder of finished runs to tables, plots and one HTML page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from recbole_hstu.evaluation.metrics import mean_metrics
from recbole_hstu.evaluation.significance import PairedTest, compare_to_best
from recbole_hstu.records.rank_file import RankFile, read_rank_file
from recbole_hstu.records.run_record import OK, RunRecord, read_records
from recbole_hstu.reports import plots
from recbole_hstu.reports.html_page import Section, html_page
from recbole_hstu.reports.table_formats import to_csv, to_latex, to_markdown
from recbole_hstu.reports.tables import Table, comparison_table
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_RANK_KINDS = ("hit", "ndcg", "mrr", "mrr_capped")


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Attributes:
        metrics: the table's columns; all metrics of the runs if None.
        plot_metric: the metric of the plots.
        baseline: the label gains are counted from.
        baselines: the labels among which each metric's best is the reference of the tests; no
            tests without them.
        order: the labels in the order of the rows; others follow in order of their files.
    """

    metrics: Sequence[str] | None = None
    plot_metric: str = "ndcg@10"
    baseline: str | None = None
    baselines: Sequence[str] = ()
    order: Sequence[str] = ()


def report(folder: Path | str, options: Mapping[str, Any]) -> list[Path]:
    """The command: `out`, `baseline`, `metrics` and `plot_metric` as the command line has them.

    Raises:
        InputError: an unknown option, or see `write_report`.
    """
    unknown = sorted(set(options) - {"out", "baseline", "metrics", "plot_metric"})
    if unknown:
        raise InputError(
            f"report: unknown option '{unknown[0]}'; known are out, baseline, metrics, plot_metric"
        )
    records = read_records(folder)
    known = list(dict.fromkeys(name for record in records for name in record.metrics))
    metrics, baselines = (_names(options.get(key)) for key in ("metrics", "baseline"))
    default = (
        "ndcg@10" if "ndcg@10" in known else next((n for n in known if n[:4] == "ndcg"), "mrr")
    )
    plot_metric = str(options.get("plot_metric") or default)
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


def _completed(record: RunRecord, folder: Path, wanted: Iterable[str]) -> RunRecord:
    """The record with the wanted metrics that it lacks, where its ranks can tell them."""
    missing = [name for name in wanted if name not in record.metrics and _from_ranks(name)]
    if not missing or not record.rank_file:
        return record
    ranks = read_rank_file(folder / record.rank_file).ranks
    return replace(record, metrics={**record.metrics, **mean_metrics(ranks, missing)})


def _names(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").split(",")
    return [str(part) for part in parts if part]


def write_report(folder: Path | str, out: Path | str, options: ReportOptions) -> list[Path]:
    """Write tables (.md, .csv, .tex), plots (.png, .svg) and index.html to `out`.

    Files are named after data set and protocol; each appears whole or not at all.

    Returns:
        the paths written, index.html last.

    Raises:
        InputError: no runs in `folder`, a damaged file, an unknown baseline, no matplotlib.
    """
    out, written, sections = Path(out), [], []
    wanted = (*(options.metrics or ()), options.plot_metric)
    every = [_completed(record, Path(folder), wanted) for record in read_records(folder)]
    check_baselines((record.label for record in every), options)
    for (dataset, protocol), records in _settings(every, options.order).items():
        stem = f"{quote(dataset, safe='')}+{quote(protocol, safe='')}"
        table = study_table(records, folder, options)
        written += write_tables(table, records, out / stem)
        drawn = []
        for name, (caption, figure) in _figures(records, options.plot_metric).items():
            written += plots.save(figure, out / f"{stem}+{name}")
            drawn.append((caption, plots.svg(figure)))
        sections.append(Section(table, records, drawn, beyond_table(records)))
    return [*written, _write(out / "index.html", html_page("Comparison", sections))]


def study_table(records: Sequence[RunRecord], folder: Path | str, options: ReportOptions) -> Table:
    """The table of runs of one data set and protocol, tested where their rank files allow it.

    A baseline without finished runs here is left out, which the log tells.

    Raises:
        InputError: a rank file is missing or damaged.
    """
    metrics = options.metrics or list(dict.fromkeys(n for r in records for n in r.metrics))
    ranks = _ranks(records, Path(folder)) if options.baselines else {}
    baselines = [label for label in options.baselines if label in ranks]
    tests: Mapping[tuple[str, str], PairedTest] = {}
    if baselines:
        ranked = [m for m in metrics if m.partition("@")[0] in _RANK_KINDS]
        tests = compare_to_best(ranks, baselines, ranked)
    baseline = options.baseline if options.baseline in {r.label for r in records} else None
    missing = {*options.baselines, *filter(None, [options.baseline])} - {*baselines, baseline}
    if missing:
        where = f"{records[0].dataset} ({records[0].protocol})"
        logger.warning("%s: no runs of the baseline %s", where, ", ".join(sorted(missing)))
    return comparison_table(records, metrics, baseline=baseline, tests=tests)


def beyond_table(records: Sequence[RunRecord]) -> Table | None:
    """Coverage and its relatives and the share of ties; None if no run has them."""
    if not any(record.beyond for record in records):
        return None
    return comparison_table([replace(r, metrics=r.beyond) for r in records])


def write_tables(table: Table, records: Sequence[RunRecord], stem: Path) -> list[Path]:
    """Write the table as `stem`.md, .csv and .tex; the Markdown also shows `beyond_table`."""
    beyond = beyond_table(records)
    markdown = to_markdown(table)
    if beyond:
        markdown += f"\n## Beyond accuracy\n\n{to_markdown(beyond)}"
    texts = {".md": markdown, ".csv": to_csv(table), ".tex": to_latex(table)}
    return [_write(Path(f"{stem}{suffix}"), text) for suffix, text in texts.items()]


def check_baselines(labels: Iterable[str], options: ReportOptions) -> None:
    """Refuse a baseline that no run has as its label: before a study as well as after it.

    Raises:
        InputError: an unknown baseline.
    """
    labels = dict.fromkeys(labels)
    unknown = {*options.baselines, *filter(None, [options.baseline])} - set(labels)
    if unknown:
        raise InputError(
            f"unknown baseline {', '.join(sorted(unknown))}: choose among {', '.join(labels)}"
        )


def _ranks(records: Sequence[RunRecord], folder: Path) -> dict[str, list[RankFile]]:
    ranks: dict[str, list[RankFile]] = {}
    for record in records:
        if record.rank_file:
            ranks.setdefault(record.label, []).append(read_rank_file(folder / record.rank_file))
        elif record.status == OK:
            logger.warning("%s, seed %d, kept no ranks: not tested", record.label, record.seed)
    return ranks


def _settings(
    records: Sequence[RunRecord], order: Sequence[str]
) -> dict[tuple[str, str], list[RunRecord]]:
    """The runs of each data set and protocol, by label as `order` says, then by seed."""
    place = {label: i for i, label in enumerate(order)}
    for record in sorted(records, key=lambda r: r.label):
        place.setdefault(record.label, len(place))
    settings: dict[tuple[str, str], list[RunRecord]] = {}
    for record in sorted(records, key=lambda r: (r.dataset, r.protocol, place[r.label], r.seed)):
        settings.setdefault((record.dataset, record.protocol), []).append(record)
    return settings


def _figures(records: Sequence[RunRecord], metric: str) -> dict[str, tuple[str, Figure]]:
    """name -> (caption, figure), as far as the runs have what a figure shows."""
    drawn = {}
    if any(record.history for record in records):
        caption = f"Training loss and validation {metric}, a line a run."
        drawn["curves"] = (caption, plots.training_curves(records, metric))
    for kind, words in plots.SEGMENT_TITLES.items():
        if any(record.segments.get(kind) for record in records):
            caption = f"Test {metric} of {words}, mean over seeds."
            drawn[kind] = (caption, plots.segment_bars(records, kind, metric))
    if any(metric in record.metrics for record in records):
        caption = f"Test {metric} against the cost of training, a point a run."
        drawn["cost"] = (caption, plots.cost_scatter(records, metric))
    return drawn


def _write(path: Path, text: str) -> Path:
    with whole_file(path) as stream:
        stream.write(text.encode())
    return path
