"""The table of a study: runs of one data set and protocol, tested by their ranks, and its files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recbole_hstu.evaluation.metrics import KINDS, tested_as
from recbole_hstu.evaluation.significance import (
    PairedTest,
    adjusted_together,
    common_order,
    paired_tests_against_best,
)
from recbole_hstu.records.rank_file import RankFile, read_rank_file
from recbole_hstu.records.run_record import OK, RunRecord
from recbole_hstu.reports.comparison_formats import to_csv, to_latex, to_markdown
from recbole_hstu.reports.comparison_table import Table, comparison_table, tie_order
from recbole_hstu.support.errors import InputError, writing
from recbole_hstu.support.files.whole_file import write_whole

logger = logging.getLogger(__name__)

_OF_RANKS = (*KINDS, "mrr_capped")


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


def study_table(records: Sequence[RunRecord], folder: Path | str, options: ReportOptions) -> Table:
    """The table of runs of one data set and protocol, tested where all runs of a row kept ranks.

    A baseline without finished runs here is left out, which the log tells.

    Raises:
        InputError: a rank file is missing or damaged, or runs had other test events.
    """
    metrics = options.metrics or list(dict.fromkeys(n for r in records for n in r.metrics))
    _log_gaps(records, metrics)
    ranks = _ranks(records, Path(folder), tested=bool(options.baselines))
    for rows in _by_tie_order(records, ranks):
        common_order(rows)
    finished = Counter(record.label for record in records if record.status == OK)
    ranks = {label: files for label, files in ranks.items() if len(files) == finished[label]}
    baselines = [label for label in options.baselines if label in ranks]
    tests: dict[tuple[str, str], PairedTest] = {}
    if baselines and len(ranks[baselines[0]][0].ranks) < 2:
        logger.warning("one user was evaluated: nothing is tested")
    elif baselines:
        tests = _tests(records, ranks, baselines, metrics)
    baseline = options.baseline if options.baseline in finished else None
    missing = {*options.baselines, *filter(None, [options.baseline])} - set(finished)
    if missing:
        where = f"{records[0].dataset} ({records[0].protocol})"
        logger.warning("%s: no runs of the baseline %s", where, ", ".join(sorted(missing)))
    return comparison_table(records, metrics, baseline=baseline, tests=tests)


def _tests(
    records: Sequence[RunRecord],
    ranks: Mapping[str, list[RankFile]],
    baselines: Sequence[str],
    metrics: Sequence[str],
) -> dict[tuple[str, str], PairedTest]:
    """(label, metric) -> test, of the metrics that ranks can tell."""
    ranked = [m for m in metrics if m.partition("@")[0] in _OF_RANKS]
    distinct = list(dict.fromkeys(map(tested_as, ranked)))
    tests: dict[tuple[str, str], PairedTest] = {}
    for rows in _by_tie_order(records, ranks):
        against = [label for label in baselines if label in rows]
        if against:
            tests |= paired_tests_against_best(rows, against, distinct)
    tests = adjusted_together(tests)
    labels = dict.fromkeys(label for label, _ in tests)
    return {(label, m): tests[label, tested_as(m)] for label in labels for m in ranked}


def _log_gaps(records: Sequence[RunRecord], metrics: Sequence[str]) -> None:
    """Tell which runs lack what others of their row have: the row then has no figure of it."""
    shown = {*metrics, *(name for record in records for name in record.beyond)}
    rows: dict[str, set[str]] = {}
    for record in records:
        rows.setdefault(record.label, set()).update(record.metrics, record.beyond)
    for record in records:
        lacking = shown & rows[record.label] - {*record.metrics, *record.beyond}
        if lacking and record.status == OK:
            logger.warning(
                "%s, seed %d, has no %s: the row shows none",
                *(record.label, record.seed, ", ".join(sorted(lacking))),
            )


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
    with writing(stem.parent):
        return [write_whole(f"{stem}{suffix}", text) for suffix, text in texts.items()]


def check_baselines(labels: Iterable[str], options: ReportOptions) -> None:
    """Refuse a baseline that no run has as its label: before a study as well as after it.

    Raises:
        InputError: an unknown baseline.
    """
    labels = dict.fromkeys(labels)
    unknown = {*options.baselines, *filter(None, [options.baseline])} - set(labels)
    parted = any("," in label for label in labels)
    hint = "; a label with a comma cannot be named here, change it" if parted else ""
    if unknown:
        raise InputError(
            f"unknown baseline {', '.join(sorted(unknown))}: choose among {', '.join(labels)}{hint}"
        )


def _by_tie_order(
    records: Sequence[RunRecord], ranks: Mapping[str, list[RankFile]]
) -> list[dict[str, list[RankFile]]]:
    """The rows of each order of ties, whose users have the same targets."""
    orders: dict[str, dict[str, list[RankFile]]] = {}
    for record in records:
        if record.label in ranks:
            orders.setdefault(tie_order([record]), {})[record.label] = ranks[record.label]
    return list(orders.values())


def _ranks(
    records: Sequence[RunRecord], folder: Path, *, tested: bool
) -> dict[str, list[RankFile]]:
    ranks: dict[str, list[RankFile]] = {}
    for record in records:
        if record.rank_file and not tested and not (folder / record.rank_file).is_file():
            logger.warning("%s, seed %d: its ranks are gone", record.label, record.seed)
        elif record.rank_file:
            ranks.setdefault(record.label, []).append(read_rank_file(folder / record.rank_file))
        elif record.status == OK and tested:
            logger.warning(
                "%s, seed %d, kept no ranks: the row is not tested", record.label, record.seed
            )
    return ranks
